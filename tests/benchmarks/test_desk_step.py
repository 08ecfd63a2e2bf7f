"""The network with spikingjelly's neurons computes what ours computes, gradients included."""

import copy
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import nn

from benchmarks.desk_step import SpikingJellyLayer, Step, dense_products, use_spikingjelly
from benchmarks.plain_vgg import enliven_
from repro.cbp.layers import find_layers
from repro.networks.conv7fc3 import conv7fc3
from repro.networks.vgg import spiking_vgg
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.layer import FeedForwardLayer
from repro.neurons.stbp import StbpNeuron

EXACT = {"rtol": 1e-9, "atol": 1e-10}


def converted() -> nn.Module:
    """Return a narrow VGG16 as QCFS leaves it, potentials of half a threshold included."""
    network = spiking_vgg(10, time_steps=4, width=1 / 16, potentials="layer")
    enliven_(network)
    for name, buffer in network.named_buffers():
        if name.startswith("potential"):
            buffer.fill_(0.5)
    return network


def trained_directly() -> nn.Module:
    neuron = StbpNeuron(decay=0.25)
    return conv7fc3(10, time_steps=4, neuron=neuron, width=1 / 16, gain=2.0)


@pytest.fixture
def peer() -> None:
    pytest.importorskip("spikingjelly", reason="pip install -c constraints.txt '.[peers]'")


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("make", [converted, trained_directly])
def test_spikingjelly_computes_what_ours_does(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    ours = make().double()
    theirs = copy.deepcopy(ours)
    use_spikingjelly(theirs)
    images = torch.randn(4, 3, 32, 32).double()
    outputs = [network(images) for network in (ours, theirs)]
    assert outputs[0].abs().sum() > 0
    torch.testing.assert_close(*outputs, **EXACT)
    for output in outputs:
        output.sin().sum().backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, **EXACT)


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("neuron", [IntegrateAndFire(), StbpNeuron(decay=0.25)])
def test_so_do_its_kernels_of_float32(neuron: IntegrateAndFire | StbpNeuron) -> None:
    """Which are other code than those of float64. The shift is added by hand, as biases do."""
    shift = neuron.shift(4) if isinstance(neuron, IntegrateAndFire) else 0.0
    mine = torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    theirs = mine.detach().clone().requires_grad_()
    ours = FeedForwardLayer(neuron)(mine * 1.0, 4)  # which uses up its input
    other = SpikingJellyLayer(neuron)(theirs + shift, 4)
    assert isinstance(ours, torch.Tensor)
    assert torch.equal(ours, other)
    assert 0 < ours.mean() < 1
    wanted = torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(1))
    (ours * wanted).sum().backward()
    (other * wanted).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_networks_of_other_neurons_are_refused() -> None:
    with pytest.raises(TypeError, match="Linear has no neurons that spikingjelly has"):
        use_spikingjelly(nn.Linear(2, 2))


class Once:
    """A module and its pass, as of ``Step``, without data."""

    def __init__(self, network: nn.Module) -> None:
        self.module = self
        self.network = network

    def forward_and_backward(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.network(batch[0]).sin().sum().backward()


@pytest.mark.parametrize("make", [converted, trained_directly])
def test_dense_products_are_those_of_a_step(make: Callable[[], nn.Module]) -> None:
    """All layers but the first: its weight gradients are the step's, its outputs have a size."""
    torch.manual_seed(0)
    network = make()
    step = cast(Step, Once(network))
    calls = dense_products(step, (torch.randn(4, 3, 32, 32), torch.zeros(4)))
    _, *layers = find_layers(network).values()
    found = {kind: call() for kind, call in calls.items()}
    for layer, gradient in zip(reversed(layers), found["weight gradient"], strict=True):
        torch.testing.assert_close(
            gradient.view_as(layer.weight), layer.weight.grad, rtol=1e-4, atol=1e-6
        )
    assert len(found["forward"]) == len(found["input gradient"]) == len(layers)
