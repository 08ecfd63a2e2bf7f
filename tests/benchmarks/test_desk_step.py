"""The network with spikingjelly's neurons computes what ours computes, gradients included."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks.desk_step import use_spikingjelly
from benchmarks.plain_vgg import enliven_
from repro.networks.conv7fc3 import conv7fc3
from repro.networks.vgg import spiking_vgg
from repro.neurons.stbp import StbpNeuron


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


@pytest.mark.parametrize("make", [converted, trained_directly])
def test_spikingjelly_computes_what_ours_does(make: Callable[[], nn.Module]) -> None:
    pytest.importorskip("spikingjelly", reason="pip install -c constraints.txt '.[peers]'")
    torch.manual_seed(0)
    ours = make().double()
    theirs = copy.deepcopy(ours)
    use_spikingjelly(theirs)
    images = torch.randn(4, 3, 32, 32).double()
    outputs = [network(images) for network in (ours, theirs)]
    assert outputs[0].abs().sum() > 0
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-10)
    for output in outputs:
        output.sin().sum().backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-10)
