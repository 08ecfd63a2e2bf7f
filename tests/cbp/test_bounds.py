"""The bound of the latent weights follows the scale of a layer, unless it is given."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from repro.cbp.layers import LATENT, convert
from repro.cbp.levels import LEVELS
from repro.cbp.loop import CbpLoop, prepare_cbp
from repro.cbp.settings import BOUND_IN_LEVELS

FACTOR = 64.0  # a power of two: no rounding differs


def network(factor: float) -> nn.Sequential:
    """The same function whatever the factor, which one layer takes and the next gives back."""
    torch.manual_seed(0)
    sizes = [(6, 16), (16, 16), (16, 16), (16, 3)]
    layers = [layer for size in sizes for layer in (nn.Linear(*size), nn.ReLU())]
    net = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter in (net[2].weight, net[2].bias):
            parameter.mul_(factor)
        net[4].weight.div_(factor)
    return net


def train(net: nn.Sequential, factor: float, **settings: object) -> CbpLoop:
    """Some steps, the learning rate of a rescaled layer such that the same function is learnt."""
    rates = {"2.": 1e-3 * factor**2, "4.weight": 1e-3 / factor**2}
    groups = [
        {"params": [p], "lr": next((r for n, r in rates.items() if name.startswith(n)), 1e-3)}
        for name, p in net.named_parameters()
    ]
    loop = prepare_cbp(
        net, torch.optim.SGD(groups), "ternary", multiplier_lr=0.0, clip="none", **settings
    )
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(64, 6, generator=generator)
    for _ in range(20):
        loss = cross_entropy(net(inputs), inputs[:, :3].argmax(1))
        torch.autograd.backward(loss)
        loop.before_step()
        loop.optimizer.step()
        loop.optimizer.zero_grad()
        loop.after_step(loss)
    return loop


def test_two_adjacent_layers_may_be_rescaled() -> None:
    plain, large = network(1.0), network(FACTOR)
    train(plain, 1.0)
    train(large, FACTOR)
    latent = f"2{LATENT}"
    assert torch.equal(FACTOR * plain.state_dict()[latent], large.state_dict()[latent])
    assert large.state_dict()[latent].abs().mean() > 1
    convert(plain)
    convert(large)
    assert torch.equal(FACTOR * plain[2].weight, large[2].weight)
    assert torch.equal(plain[4].weight, FACTOR * large[4].weight)
    inputs = torch.randn(8, 6)
    assert torch.equal(plain(inputs), large(inputs))
    assert 0.1 < float((large[2].weight == 0).double().mean()) < 0.6


def test_a_clamp_that_moves_much_is_told() -> None:
    with pytest.warns(UserWarning, match=r"moves \d+% of those of 2: give a larger weight_bound"):
        train(network(FACTOR), FACTOR, weight_bound=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(network(1.0), 1.0, weight_bound=1.0)


@pytest.mark.parametrize("scale", ["layer", "channel"])
def test_a_bound_is_ten_times_the_largest_level(scale: str) -> None:
    net = network(1.0)
    with torch.no_grad():
        net[2].weight[3] *= 4
    loop = train(net, 1.0, scale=scale, weight_bound=None)
    latent = net[2].parametrizations["weight"].original  # type: ignore[index]
    values: Tensor = net[2].parametrizations["weight"][0].values  # type: ignore[index, assignment]
    expected = BOUND_IN_LEVELS * values.abs().amax(-1)
    bound = torch.as_tensor(loop.bounds["2"])
    torch.testing.assert_close(bound.flatten(), expected.flatten())
    assert bool((latent.abs() <= bound).all())
    assert max(LEVELS["ternary"]) == 1
    again = copy.deepcopy(loop.state_dict())
    loop.bounds = dict.fromkeys(loop.bounds, 0.0)
    loop.load_state_dict(again)
    assert torch.equal(torch.as_tensor(loop.bounds["2"]), bound)
