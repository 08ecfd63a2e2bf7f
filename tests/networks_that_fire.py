"""Small networks of every method in which every layer fires, and what they are shown."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from repro.networks.alexnet import alexnet
from repro.networks.conv7fc3 import conv7fc3
from repro.networks.sew_resnet import SewNet, sew_net, sew_resnet
from repro.networks.vgg import AveragePool, Potentials, spiking_vgg
from repro.neurons.stbp import StbpNeuron
from repro.neurons.tssl_bp import TsslBpNeuron


@dataclass(frozen=True)
class Case:
    """A network of a method and what it is shown.

    Attributes:
        make: The network, every layer of which fires.
        shape: Of an image or a frame.
        time_steps: T.
        frames: Whether the input is T frames.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, int, int] = (3, 32, 32)
    time_steps: int = 4
    frames: bool = False

    def inputs(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(7)
        if self.frames:
            mean = torch.full((count, self.time_steps, *self.shape), 0.5)
            return torch.poisson(mean, generator=generator)
        return torch.randn(count, *self.shape, generator=generator)


def stbp() -> nn.Module:
    return conv7fc3(10, time_steps=4, neuron=StbpNeuron(0.25), width=1 / 32, gain=3.0)


def tssl_bp() -> nn.Module:
    neuron = TsslBpNeuron()
    network = alexnet(10, time_steps=4, neuron=neuron, width=1 / 24, dropout=0.0, conv_gain=9.0)
    for name, layer in network.named_children():
        if name.startswith("fc"):
            layer.weight.data *= 4
    return network


def snn_calibration(potentials: Potentials | None = None) -> nn.Module:
    network = spiking_vgg(10, time_steps=4, width=1 / 16, potentials=potentials)
    for layer in network.modules():
        if isinstance(layer, AveragePool):
            layer.factor.fill_(1.3)
            assert layer.bias is not None
            layer.bias.uniform_(-0.1, 0.3)
        elif isinstance(layer, nn.Conv2d):
            layer.weight.data *= 1.7
    for name, buffer in network.named_buffers():
        if name.startswith("potential"):
            buffer.uniform_(-0.3, 0.5)
    return network


def surrogate(make: Callable[..., nn.Module], drive: float = 0.5, **options: Any) -> nn.Module:
    network = make(classes=10, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3.0)
            module.weight.data.uniform_(0.8, 3.0)
            module.bias.data.uniform_(drive - 1, drive + 1)
    return network


def sew(name: str, **options: Any) -> Callable[[], nn.Module]:
    return partial(surrogate, partial(sew_net, name), width=1 / 8, **options)


def short(**options: Any) -> nn.Module:
    """Two blocks, before spikes joined by AND have died out; a map of 10x10 is left."""
    network = sew("sew_7b", **options)()
    assert isinstance(network, SewNet)
    network.features = network.features[:4]
    network.classifier = nn.Linear(4 * 10 * 10, 10)
    return network


def resnet(name: str, **options: Any) -> Callable[[], nn.Module]:
    return partial(surrogate, partial(sew_resnet, name), width=1 / 16, time_steps=4, **options)


FRAMES: dict[str, Any] = {"shape": (2, 20, 20), "frames": True}
CASES = {
    "stbp": Case(stbp),
    "tssl_bp": Case(tssl_bp),
    "snn_calibration": Case(snn_calibration),
    "snn_calibration potentials": Case(partial(snn_calibration, "neuron")),
    "snn_calibration charged": Case(partial(snn_calibration, "layer")),
    "surrogate 7b": Case(sew("sew_7b"), **FRAMES),
    "surrogate and": Case(partial(short, connection="and", tau=None), **FRAMES),
    "surrogate wide": Case(sew("sew_wide_7b"), **FRAMES),
    "surrogate iand": Case(sew("sew_7b", connection="iand", drive=-1.0), **FRAMES),
    "surrogate resnet18": Case(resnet("sew_resnet18")),
}
METHODS = ("stbp", "tssl_bp", "snn_calibration", "surrogate 7b")
