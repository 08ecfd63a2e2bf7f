"""Firing rates behind the layers of a network, for the benchmarks that depend on them."""

from collections import Counter

import torch
from torch import Tensor, nn

from repro.neurons.observe import observed


def firing_rates(network: nn.Module, images: Tensor) -> dict[str, float]:
    """Return spikes per neuron, image and step behind each layer, 0 to 1, by the layer's name."""
    spikes, chances = Counter[str](), Counter[str]()

    def see(name: str, fired: Tensor, states: int) -> None:
        spikes[name] += int(fired.sum(dtype=torch.float64))
        chances[name] += fired.numel()

    with torch.no_grad(), observed(network, see):
        network(images)
    return {name: spikes[name] / count for name, count in chances.items()}
