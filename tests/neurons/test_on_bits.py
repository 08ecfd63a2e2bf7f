"""Neurons whose spikes leave as bits: those of the scans, with and without the layer before."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from repro.cbp.layers import prepare
from repro.neurons import scan
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.layer import (
    FeedForwardLayer,
    IntegrateAndFireLayer,
    StbpLayer,
    TsslBpLayer,
)
from repro.neurons.observe import observed
from repro.neurons.stbp import StbpNeuron
from repro.neurons.tssl_bp import TsslBpNeuron
from repro.products.dispatch import pack, unpack
from repro.products.layer import Packed
from repro.products.spikes import PackedSpikes, word_bits

NEURONS: dict[str, FeedForwardLayer] = {
    "stbp": StbpLayer(StbpNeuron(0.25)),
    "tssl_bp": TsslBpLayer(TsslBpNeuron()),
    "integrate_and_fire": IntegrateAndFireLayer(IntegrateAndFire()),
}
every_neuron = pytest.mark.parametrize("kind", list(NEURONS))


def spikes_of(kind: str, current: Tensor, steps: int, **more: Any) -> tuple[Tensor, Tensor]:
    """Spikes of a current as bits, and by the scan, ``[T * B, C, H, W]``."""
    layer = NEURONS[kind]
    bits = word_bits(current.shape[2])
    packed = layer(current.clone(), steps, Packed(bits), **more)
    assert isinstance(packed, PackedSpikes)
    dense = layer(current.clone(), steps, **more)
    assert isinstance(dense, Tensor)
    folded = dense.flatten(0, 1)
    return unpack(packed, current.dtype), folded.view(
        *folded.shape[:2], *(folded.shape[2:] or (1, 1))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("channels", [3, 16, 32, 33, 64, 100])
@every_neuron
def test_bits_are_the_spikes_of_the_scan(kind: str, channels: int, dtype: torch.dtype) -> None:
    torch.manual_seed(channels)
    current = torch.randn(5, 3, channels, 4, 6, dtype=dtype) * 2
    found, expected = spikes_of(kind, current, 5)
    assert torch.equal(found, expected)
    assert 0.05 < found.mean() < 0.8
    found, expected = spikes_of(kind, current[:1] / 3, 4)  # a constant current
    assert torch.equal(found, expected)
    found, expected = spikes_of(kind, torch.randn(5, 7, channels, dtype=dtype) * 2, 5)
    assert torch.equal(found, expected)


def test_gain_and_first_potential() -> None:
    current = torch.randn(3, 2, 5, 3, 3)
    for more, kind in (
        ({"gain": 3.0}, "tssl_bp"),
        ({"initial": torch.rand(1, 5, 3, 3)}, "integrate_and_fire"),
    ):
        found, expected = spikes_of(kind, current, 3, **more)
        assert torch.equal(found, expected)
        assert not torch.equal(found, spikes_of(kind, current, 3)[0])


def quantised(layer: nn.Module, levels: str = "binary") -> nn.Module:
    network = nn.Sequential(layer)
    prepare(network, levels, keep=(), arithmetic="codes")
    return network[0]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_one_pass_is_layer_and_neurons_one_after_another(data: st.DataObject) -> None:
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 999)))
    kind, steps = draw(st.sampled_from(sorted(NEURONS))), draw(st.integers(1, 5))
    channels, outputs = draw(st.integers(1, 70)), draw(st.integers(1, 100))
    stride, side = draw(st.integers(1, 2)), draw(st.integers(1, 7))
    conv = nn.Conv2d(channels, outputs, 3, stride, padding=1, bias=draw(st.booleans()))
    layer: Any = quantised(conv, draw(st.sampled_from(["binary", "ternary", "shift2"])))
    images = draw(st.integers(0, 3))
    spikes = pack(
        (torch.rand(steps * images, channels, side, side) < 0.4).float(), 1, layer.word_bits
    )
    form = Packed(draw(st.sampled_from([64] + [32] * (outputs <= 32) + [16] * (outputs <= 16))))
    assert spikes is not None
    neurons = NEURONS[kind]
    with torch.no_grad():
        fused = neurons.behind(layer, spikes, steps, form, gain=1.5)
        maps = layer(spikes)
        apart = neurons(maps.view(steps, images, *maps.shape[1:]), steps, form, gain=1.5)
    assert isinstance(fused, PackedSpikes)
    assert isinstance(apart, PackedSpikes)
    assert torch.equal(fused.planes, apart.planes)


def test_linear_layers_go_in_one_pass_too() -> None:
    torch.manual_seed(0)
    layer: Any = quantised(nn.Linear(70, 40), "ternary")
    spikes = pack((torch.rand(12, 70) < 0.4).float(), 1, layer.word_bits)
    assert spikes is not None
    neurons = NEURONS["stbp"]
    with torch.no_grad():
        fused = neurons.behind(layer, spikes, 4, Packed(64))
        apart = neurons(layer(spikes).view(4, 3, 40), 4, Packed(64))
    assert isinstance(fused, PackedSpikes)
    assert isinstance(apart, PackedSpikes)
    assert torch.equal(fused.planes, apart.planes)
    assert 0 < unpack(fused).mean() < 1


@every_neuron
def test_hooks_see_layers_and_spikes(kind: str) -> None:
    """Who watches keeps the pass apart, and sees what would have been."""
    torch.manual_seed(1)
    layer, seen, rates = quantised(nn.Conv2d(5, 20, 3, padding=1)), list[int](), list[Tensor]()
    network = nn.ModuleList([layer, NEURONS[kind]])
    spikes = pack((torch.rand(6, 5, 4, 4) < 0.5).float(), 1, 16)
    assert spikes is not None
    with torch.no_grad():
        expected: Any = NEURONS[kind].behind(layer, spikes, 3, Packed(32))
        handle = layer.register_forward_hook(lambda *_: seen.append(1))
        with observed(network, lambda name, found, states: rates.append(found)):
            found: Any = NEURONS[kind].behind(layer, spikes, 3, Packed(32))
        handle.remove()
    assert seen == [1]
    assert torch.equal(found.planes, expected.planes)
    assert torch.equal(rates[0].flatten(0, 1), unpack(expected))
    assert rates[0].shape == (3, 2, 20, 4, 4)


def test_a_gradient_keeps_spikes_dense() -> None:
    current = torch.randn(3, 2, 5, 3, 3, requires_grad=True)
    for layer in NEURONS.values():
        out = layer(current * 1.0, 3, Packed(16))
        assert isinstance(out, Tensor)
        assert out.requires_grad
    assert scan.as_bits(current, 3, StbpNeuron(0.25), 16) is None
    with torch.no_grad():
        assert scan.as_bits(current, 3, StbpNeuron(0.25), 16) is not None
