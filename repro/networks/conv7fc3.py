"""STBP's network 128C3-256C3s2-256C3-512C3s2-512C3-1024C3-2048C3s2-1024-512-K, no batch norm."""

from collections.abc import Mapping
from itertools import pairwise, starmap
from typing import Final

import torch
from torch import Tensor, nn

from repro.networks.convolution import UnfoldedConv2d
from repro.networks.passing import folded, wanted
from repro.neurons.layer import StbpLayer
from repro.neurons.stbp import StbpNeuron

CHANNELS: Final = (128, 256, 256, 512, 512, 1024, 2048)
STRIDES: Final = (1, 2, 1, 2, 1, 1, 2)
HIDDEN: Final = (1024, 512)
UNFOLD_FROM: Final = 512  # input channels from which a strided convolution is faster unfolded
SIDE: Final = 4  # of the last map, for images of 32x32


class StbpNetwork(nn.Module):
    """Convolutions and linear layers in a row, each followed by STBP neurons, for static images.

    The image passes the first layer once; later layers see all time steps in one call, only the
    neurons loop over time. No state survives a call.

    Attributes:
        time_steps: T.
        neuron: Constants of every neuron.
        fire: The neurons.
    """

    fire: StbpLayer

    def __init__(
        self, layers: Mapping[str, nn.Conv2d | nn.Linear], time_steps: int, neuron: StbpNeuron
    ) -> None:
        """Take the layers by name, first to last."""
        super().__init__()
        self.time_steps, self.neuron = time_steps, neuron
        for name, layer in layers.items():
            self.add_module(name, layer)
        # Not among the children: these are the layers with weights, in their order.
        self.__dict__["fire"] = StbpLayer(neuron)

    def forward(self, images: Tensor) -> Tensor:
        """Return the output neurons' spikes ``[T, B, K]`` for images ``[B, C, H, W]``.

        Spikes travel in the form that the next layer takes.
        """
        first, *rest = self.children()
        fired = self.fire(first(images).unsqueeze(0), self.time_steps, wanted(first, rest[0]))
        for layer, form in zip(rest, [*starmap(wanted, pairwise(rest)), None], strict=True):
            spikes = folded(fired, layer)
            fired = self.fire.behind(layer, spikes, self.time_steps, form)
        assert isinstance(fired, Tensor)
        return fired


def conv7fc3(
    classes: int, *, time_steps: int, neuron: StbpNeuron, width: float = 1.0, gain: float = 1.0
) -> StbpNetwork:
    """Return the network for images ``[B, 3, 32, 32]``, initialised as PyTorch does times ``gain``.

    Where the authors' text says pooling, their code has a convolution of stride 2.

    Args:
        classes: K.
        time_steps: T.
        neuron: Constants of every neuron.
        width: Channels and hidden units as a fraction of the paper's.
        gain: Factor on the initial weights.

    References:
        Paper, Section IV, the STBP network; paper map, ``conv7fc3``.
    """
    channels = [3, *(max(1, round(c * width)) for c in CHANNELS)]
    units = [channels[-1] * SIDE**2, *(max(1, round(h * width)) for h in HIDDEN), classes]
    layers: dict[str, nn.Conv2d | nn.Linear] = {}
    for i, stride in enumerate(STRIDES):
        wide = stride == 2 and channels[i] >= UNFOLD_FROM
        convolution = UnfoldedConv2d if wide else nn.Conv2d
        layers[f"conv{i + 1}"] = convolution(channels[i], channels[i + 1], 3, stride, padding=1)
    for i in range(len(HIDDEN) + 1):
        layers[f"fc{i + 1}"] = nn.Linear(units[i], units[i + 1])
    with torch.no_grad():
        for layer in layers.values():
            layer.weight.mul_(gain)
    return StbpNetwork(layers, time_steps, neuron)
