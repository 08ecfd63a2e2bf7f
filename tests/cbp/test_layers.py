"""Prepare and convert on plain networks that know nothing of this project."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from repro.cbp.layers import convert, convert_state, find_layers, prepare, prepared_layers
from repro.cbp.levels import LEVELS
from repro.errors import UserError


def plain_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(4, 4, 3, padding=1),
        nn.Unflatten(2, (4, 4)),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Unflatten(3, (2, 2)),
        nn.Conv3d(4, 4, 3, padding=1),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.Linear(8, 3),
    )


@pytest.mark.parametrize("name", sorted(LEVELS))
def test_every_kind_of_layer_becomes_levels(name: str) -> None:
    network = plain_network()
    original = {k: v.clone() for k, v in network.state_dict().items()}
    prepared = prepare(network, name)
    assert list(prepared) == ["2", "4", "6", "8"]  # neither the first nor the last
    for layer, levels in prepared.items():
        expected = original[f"{layer}.weight"].double().abs().mean().float().item()
        assert levels.scale == expected
    inputs = torch.randn(5, 2, 16)
    before = network(inputs)
    state, by_tensor = convert_state(network.state_dict())
    converted = convert(network)

    assert converted == prepared
    assert sorted(network.state_dict()) == sorted(original)
    assert torch.equal(network(inputs), before)
    for layer, levels in converted.items():
        weight = network.get_submodule(layer).weight
        assert torch.isin(weight, levels.values()).all()
        assert torch.equal(state[f"{layer}.weight"], weight)
        assert torch.equal(by_tensor[f"{layer}.weight"].values(), levels.values())
    for kept in ("0", "9"):
        assert torch.equal(network.get_submodule(kept).weight, original[f"{kept}.weight"])


def test_gradient_is_straight_through() -> None:
    network = plain_network()
    prepare(network)
    latent, quantiser = prepared_layers(network)["8"]
    probe = torch.randn_like(latent)
    (grad,) = torch.autograd.grad((network[8].weight * probe).sum(), latent)
    assert torch.equal(grad, probe)
    assert torch.equal(network[8].weight.detach().unique(), quantiser.values)


def test_optimiser_made_before_sees_the_latent_weights() -> None:
    network = plain_network()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    prepare(network)
    latent = prepared_layers(network)["8"][0]
    before = latent.detach().clone()
    network(torch.randn(5, 2, 16)).sum().backward()
    optimiser.step()
    assert not torch.equal(latent, before)


def test_layers_are_chosen_by_name() -> None:
    network = plain_network()
    assert list(prepare(network, keep=["4", "6"])) == ["0", "2", "8", "9"]
    with pytest.raises(ValueError, match=r"no convolution or linear layer named \['fc'\]"):
        prepare(plain_network(), keep=["fc"])
    with pytest.raises(ValueError, match="no layer is left"):
        prepare(plain_network(), keep=list(find_layers(plain_network())))


def test_bad_networks_and_levels_are_refused_untouched() -> None:
    with pytest.raises(ValueError, match="no layer is left to quantise: \\['\\*'\\] takes"):
        prepare(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="unknown level set 'quaternary'"):
        prepare(plain_network(), "quaternary")
    with pytest.raises(ValueError, match="must ascend"):
        prepare(plain_network(), (1.0, -1.0))
    network = plain_network()
    nn.init.zeros_(network[8].weight)
    with pytest.raises(ValueError, match="of 8 is 0"):
        prepare(network)
    assert not prepared_layers(network)
    prepare(network := plain_network())
    with pytest.raises(ValueError, match="parametrised already"):
        prepare(network)


def pruned() -> nn.Linear:
    prune.l1_unstructured(layer := nn.Linear(8, 8), "weight", 0.5)  # type: ignore[no-untyped-call]
    return layer


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: nn.utils.weight_norm(nn.Linear(8, 8)), "1 is computed by a hook"),
        (lambda: nn.utils.spectral_norm(nn.Linear(8, 8)), "1 is computed by a hook"),
        (pruned, r"1 is computed by a hook .* remove it first, with .* prune\.remove"),
        (lambda: parametrizations.weight_norm(nn.Linear(8, 8)), "1 is parametrised already"),
        (lambda: nn.LazyLinear(8), "1 is lazy and has no weight yet: pass a batch"),
        (lambda: nn.Linear(8, 8, device="meta"), "1 is on meta, without numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_a_weight_that_is_no_ordinary_parameter_is_refused(
    make: Callable[[], nn.Linear], wrong: str
) -> None:
    network = nn.Sequential(nn.Linear(8, 8), make(), nn.Linear(8, 8))
    with pytest.raises(UserError, match=wrong):
        prepare(network)
    assert not prepared_layers(network)


def test_levels_of_ones_own() -> None:
    network = plain_network()
    levels = prepare(network, (-1.0, -0.25, 0.25, 1.0))["8"]
    assert levels.bits == 2
    convert(network)
    assert torch.isin(network[8].weight, levels.values()).all()


def test_memory_is_reused_after_a_step_and_never_while_it_is_needed() -> None:
    network = plain_network()
    prepare(network)
    latent = prepared_layers(network)["8"][0]
    with torch.no_grad():
        latent.mul_(2)  # as a step does
    first = network[8].weight
    second = network[8].weight  # the weight has not changed: the first may still be needed
    assert first.data_ptr() != second.data_ptr()
    assert torch.equal(first, second)
    late = first.square().sum()

    with torch.no_grad():
        latent.mul_(-1)
    third = network[8].weight
    assert third.data_ptr() == first.data_ptr()
    assert torch.equal(third.detach(), -second.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        late.backward()
    (third.square().sum() * 3).backward()
    torch.testing.assert_close(latent.grad, 6 * third.detach())

    latent.data.mul_(-1)  # invisible to autograd: must not be missed
    assert torch.equal(network[8].weight.detach(), -third.detach())


def test_two_calls_in_one_forward_pass_share_the_gradient() -> None:
    network = plain_network()
    prepare(network)
    latent = prepared_layers(network)["8"][0]
    with torch.no_grad():
        latent.add_(0.01)
    inputs = torch.randn(5, 64)
    (network[8](inputs) + network[8](2 * inputs)).sum().backward()
    expected = (3 * inputs).sum(0).expand(8, -1)
    torch.testing.assert_close(latent.grad, expected)
