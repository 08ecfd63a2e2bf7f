"""arithmetic="codes": the sum of codes times the scale plus the bias; gradients are PyTorch's."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from repro.cbp.codes import CodesConv2d, CodesLayer, CodesLinear
from repro.cbp.layers import convert, convert_state, parametrise_, prepare, prepared_layers
from repro.cbp.levels import LEVELS
from repro.cbp.quantiser import quantise
from repro.errors import UserError
from repro.networks.convolution import UnfoldedConv2d
from repro.products.gradients import spike_product

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (nn.Conv2d(20, 24, 3, padding=1), (5, 20, 9, 7)),
    "strided": (nn.Conv2d(6, 10, 3, 2, padding=(1, 0), bias=False), (3, 6, 9, 8)),
    "dilated groups": (nn.Conv2d(8, 12, 3, dilation=2, groups=4), (2, 8, 11, 9)),
    "one axis": (nn.Conv1d(8, 40, 3, padding="same"), (3, 8, 9)),
    "unfolded": (UnfoldedConv2d(40, 16, 3, 2, padding=1), (4, 40, 8, 8)),
    "linear": (nn.Linear(300, 17), (9, 300)),
    "linear over time": (nn.Linear(30, 17, bias=False), (4, 3, 30)),
}
every_layer = pytest.mark.parametrize("name", list(LAYERS))


def spikes_for(name: str, rate: float = 0.3, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(LAYERS[name][1], generator=generator) < rate).to(dtype)


def prepared(name: str, arithmetic: Any, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    network = nn.Sequential(copy.deepcopy(LAYERS[name][0])).to(dtype)
    prepare(network, "ternary", keep=(), arithmetic=arithmetic)
    return network


def parts(network: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Latent weight, unscaled level of every weight, scale, bias."""
    ((latent, quantiser),) = prepared_layers(network).values()
    codes = quantise(latent.detach(), quantiser.values) / quantiser.scale
    return latent, codes.round(), quantiser.scale, network[0].bias  # type: ignore[index]


@every_layer
def test_the_output_is_the_scale_times_the_sum_plus_the_bias(name: str) -> None:
    network, spikes = prepared(name, "codes"), spikes_for(name)
    assert isinstance(network[0], CodesLayer)
    _, codes, scale, bias = parts(network)
    plain = copy.deepcopy(LAYERS[name][0])
    with torch.no_grad():
        plain.weight.copy_(codes)  # type: ignore[union-attr, operator]
        if bias is not None:
            plain.bias.zero_()  # type: ignore[union-attr, operator]
        sums = plain(spikes)
        added = 0.0 if bias is None else bias
        spatial = (1,) * (0 if isinstance(plain, nn.Linear) else sums.dim() - 2)
        added = added.view(-1, *spatial) if isinstance(added, Tensor) else added
        expected = sums * scale + added
    trained = network(spikes)
    assert trained.requires_grad
    with torch.no_grad():
        evaluated = network(spikes)
    for found in (trained.detach(), evaluated):
        assert torch.equal(found, expected)
    close = prepared(name, "float32")(spikes)
    torch.testing.assert_close(trained, close, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str
)
@every_layer
def test_gradients_are_those_of_the_quantised_weight(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    found = []
    for arithmetic in ("codes", "float32"):
        network = prepared(name, arithmetic, dtype)
        spikes = spikes_for(name, dtype=dtype).requires_grad_()
        output = network(spikes)
        generator = torch.Generator().manual_seed(5)
        output.backward(torch.randn(output.shape, generator=generator, dtype=dtype))
        latent, *_, bias = parts(network)
        assert latent.grad is not None
        found.append([spikes.grad, latent.grad, *([] if bias is None else [bias.grad])])
    for mine, other in zip(*found, strict=True):
        assert mine is not None
        assert other is not None
        largest = float(other.abs().max())
        assert largest > 0
        assert float((mine - other).abs().max()) <= tolerance * largest


@every_layer
def test_the_plain_products_are_the_same(name: str) -> None:
    network, spikes = prepared(name, "codes"), spikes_for(name)
    layer = network[0]
    assert isinstance(layer, CodesLayer)
    maps = layer.as_maps(spikes)
    assert maps is not None
    bias = layer.bias if isinstance(layer.bias, Tensor) else None
    plain = spike_product(maps, layer.latent(), bias, layer, None)
    assert torch.equal(layer.from_maps(plain, spikes), network(spikes))


@pytest.mark.parametrize("levels", list(LEVELS))
@pytest.mark.parametrize("scale", ["layer", "channel"])
def test_every_level_set_and_scale(levels: str, scale: Any) -> None:
    torch.manual_seed(0)
    outputs = []
    for arithmetic in ("codes", "float32"):
        torch.manual_seed(1)
        network = nn.Sequential(nn.Conv2d(9, 33, 3, padding=1))
        prepare(network, levels, keep=(), scale=scale, arithmetic=arithmetic)  # type: ignore[arg-type]
        outputs.append(network((torch.rand(2, 9, 5, 5) < 0.4).float()))
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)


def test_a_real_valued_input_meets_the_quantised_weight() -> None:
    for name in ("plain", "linear"):
        inputs = torch.randn(LAYERS[name][1])
        found = [prepared(name, arithmetic)(inputs) for arithmetic in ("codes", "float32")]
        assert torch.equal(*found)


def test_layers_that_compute_something_else_stay() -> None:
    class Twice(nn.Conv2d):
        def forward(self, maps: Tensor) -> Tensor:
            return 2 * super().forward(maps)

    network = nn.Sequential(Twice(2, 2, 1), nn.Conv3d(2, 2, 1), nn.Conv2d(2, 2, 2, padding="same"))
    network.append(nn.Linear(3, 3))
    prepare(network, (-1.0, 0.3), layers=("3",), keep=(), arithmetic="codes")
    prepare(network, layers=("0", "1", "2"), keep=(), arithmetic="codes")
    assert not any(isinstance(layer, CodesLayer) for layer in network)
    assert all(parametrize.is_parametrized(layer, "weight") for layer in network)


def test_state_hooks_and_places_are_kept_and_given_back() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4)
            self.again = self.one
            self.inner = nn.Sequential(UnfoldedConv2d(2, 3, 1))

    network, seen = Own(), list[str]()
    plain = {name: id(parameter) for name, parameter in network.named_parameters()}
    before = set(network.state_dict())
    network.one.register_forward_hook(lambda *_: seen.append("fired"))
    reference = copy.deepcopy(network)
    prepare(network, keep=(), arithmetic="codes")
    prepare(reference, keep=())
    assert list(network.state_dict()) == list(reference.state_dict())
    assert isinstance(network.one, CodesLinear)
    assert network.again is network.one
    assert isinstance(network.inner[0], CodesConv2d)
    latents = {name: id(latent) for name, (latent, _) in prepared_layers(network).items()}
    assert latents == {"one": plain["one.weight"], "inner.0": plain["inner.0.weight"]}
    network.one(torch.ones(1, 4))
    assert seen == ["fired"]
    state, levels = convert_state(network.state_dict())
    converted = convert(network)
    assert {f"{name}.weight" for name in (*converted, "again")} == set(levels)
    assert type(network.one) is nn.Linear
    assert type(network.inner[0]) is UnfoldedConv2d
    assert network.again is network.one
    assert set(network.state_dict()) == before
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state.get(name, tensor)), name
    network.one(torch.ones(1, 4))
    assert seen == ["fired"] * 2
    assert not set(vars(network.one)) - set(vars(nn.Linear(1, 1)))


@every_layer
def test_neurons_may_use_up_the_output(name: str) -> None:
    """Integrate-and-fire neurons keep their potential there."""
    output = prepared(name, "codes")(spikes_for(name))
    output.view(output.shape).add_(1).sum().backward()


def test_codes_follow_the_weight() -> None:
    network, spikes = prepared("plain", "codes"), spikes_for("plain")
    before = network(spikes)
    latent, *_ = parts(network)
    with torch.no_grad():
        latent.neg_()
    after = network(spikes)
    assert not torch.equal(before, after)
    again = prepared("plain", "codes")
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(spikes), after)


def test_given_levels_make_a_converted_network_count() -> None:
    network, spikes = prepared("plain", "codes"), spikes_for("plain")
    expected = network(spikes)
    levels = convert(network)
    parametrise_(network, levels, "codes")
    assert torch.equal(network(spikes), expected)


def test_a_layer_alone_is_refused() -> None:
    with pytest.raises(UserError, match="give a network"):
        prepare(nn.Linear(2, 2), keep=(), arithmetic="codes")
