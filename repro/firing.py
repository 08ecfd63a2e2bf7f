"""Firing rates: how often the neurons behind each layer spike, on test images."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from datamodules.base import DataModule
from repro.evaluation import evaluation_device
from repro.neurons.watch import watching

IMAGES: Final = 500  # or all, where there are fewer


class Rates:
    """Counts spikes by the module that ran before the neurons."""

    def __init__(self) -> None:
        """Start with no spikes."""
        self._module = "input"
        self._spikes: dict[str, float] = {}
        self._chances: dict[str, int] = {}

    def see(self, spikes: Tensor, states: int) -> None:
        """Count the spikes ``[T, B, ...]`` of a layer of neurons."""
        count = float(spikes.sum(dtype=torch.float64))
        self._spikes[self._module] = self._spikes.get(self._module, 0.0) + count
        self._chances[self._module] = self._chances.get(self._module, 0) + spikes.numel()

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Note in this block which of the network's innermost modules ran last."""
        hooks = [
            module.register_forward_hook(lambda *_, name=name: setattr(self, "_module", name))
            for name, module in network.named_modules()
            if not any(module.children())
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def per_step(self) -> dict[str, float]:
        """Return spikes per neuron, image and time step, 0 to 1, in the order of firing."""
        return {name: self._spikes[name] / count for name, count in self._chances.items()}


def firing_rates(network: nn.Module, data: DataModule) -> dict[str, float]:
    """Return spikes per neuron and time step behind each layer, 0 to 1; none of an ANN.

    Means over the first `IMAGES` test images. The network is evaluated on
    a GPU where there is one, and left in evaluation mode, where it was.

    Args:
        network: A network of ours; its neurons are named by the module that runs before them.
        data: Whose test images are shown.
    """
    network.eval()
    home, device, rates, seen = next(network.parameters()).device, evaluation_device(), Rates(), 0
    network.to(device)
    with torch.no_grad(), rates.following(network), watching(rates.see):
        for batch in data.batches("test"):
            few = (tensor[: IMAGES - seen] for tensor in batch)
            there = tuple(tensor.to(device, non_blocking=True) for tensor in few)
            images, _ = data.on_after_batch_transfer(there, 0)
            network(images)
            seen += len(images)
            if seen == IMAGES:
                break
    network.to(home)
    return rates.per_step()
