"""Spike-exact bfloat16: spikes equal float32's, gradients point the same way."""

import pytest
import torch
from torch import Tensor, nn

from repro.cbp.layers import convert, prepare, prepared_layers
from repro.methods.base import predictions
from repro.networks.conv7fc3 import StbpNetwork, conv7fc3
from repro.neurons.stbp import StbpNeuron
from repro.products.layer import form_for


def prepared(arithmetic: str, precision: str) -> StbpNetwork:
    torch.manual_seed(0)
    network = conv7fc3(10, time_steps=4, neuron=StbpNeuron(0.25), width=1 / 8, gain=3.0)
    prepare(network, precision, arithmetic=arithmetic)  # type: ignore[arg-type]
    return network


def spikes_by_layer(network: StbpNetwork, images: Tensor) -> list[Tensor]:
    """The network's own forward pass, every layer's spikes kept."""
    first, *rest = network.children()
    current, kept = first(images).unsqueeze(0), []
    for layer in [*rest, None]:
        form = None if layer is None else form_for(layer)
        spikes = network.fire(current, network.time_steps, form)
        kept.append(spikes.detach().float())
        if layer is not None:
            spikes = spikes.flatten(0, 1)
            spikes = spikes.flatten(1) if isinstance(layer, nn.Linear) else spikes
            current = layer(spikes).unflatten(0, (network.time_steps, -1))
    return kept


@pytest.mark.parametrize("precision", ["binary", "ternary", "shift2"])
def test_spikes_and_gradients_agree_with_float32(precision: str) -> None:
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    target = nn.functional.one_hot(torch.arange(6), 10).float()
    found = []
    for arithmetic in ("float32", "spikes_bf16"):
        network = prepared(arithmetic, precision)
        nn.functional.mse_loss(network(images).mean(0), target).backward()
        gradients = torch.cat([p.grad.flatten() for _, (p, _) in prepared_layers(network).items()])
        found.append((spikes_by_layer(network, images), gradients))
    (plain, plain_grad), (narrow, narrow_grad) = found
    for layer, (a, b) in enumerate(zip(plain, narrow, strict=True)):
        assert torch.equal(a, b), f"{int((a != b).sum())} spikes differ in layer {layer}"
        assert 0.02 < a.mean() < 0.98, "a silent network proves nothing"
    cosine = nn.functional.cosine_similarity(plain_grad, narrow_grad, dim=0)
    assert cosine >= 0.999
    assert not torch.equal(plain_grad, narrow_grad)


def test_convert_leaves_a_plain_float32_network() -> None:
    network = prepared("spikes_bf16", "binary")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    before = predictions(network(images))
    convert(network)
    assert network.conv2.weight.dtype == torch.float32
    assert form_for(network.conv2) is None
    assert type(network.conv2) is nn.Conv2d
    assert torch.equal(predictions(network(images)), before)


def test_layers_that_cannot_are_refused() -> None:
    network = nn.Sequential(*(nn.Conv2d(2, 2, 3, padding="same") for _ in range(3)))
    with pytest.raises(ValueError, match="zero padding given in numbers"):
        prepare(network, arithmetic="spikes_bf16")
    network = nn.Sequential(*(nn.Linear(2, 2).double() for _ in range(3)))
    with pytest.raises(ValueError, match="takes float32 networks"):
        prepare(network, arithmetic="spikes_bf16")
