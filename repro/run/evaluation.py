"""Weights into a fresh network, and which images it then gets right."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from datamodules.base import DataModule, PartName
from repro.cbp.layers import parametrise_
from repro.cbp.levels import Levels
from repro.device.machine import evaluation_device
from repro.errors import UserError
from repro.methods.base import predictions
from repro.neurons.observe import observed
from repro.run.arithmetic import exact


class Rates:
    """Counts spikes by the module that ran before the neurons."""

    def __init__(self) -> None:
        """Start with no spikes."""
        self._spikes: dict[str, float] = {}
        self._chances: dict[str, int] = {}

    def see(self, name: str, spikes: Tensor, states: int) -> None:
        """Count the spikes ``[T, B, ...]`` of the neurons behind a module."""
        count = float(spikes.sum(dtype=torch.float64))
        self._spikes[name] = self._spikes.get(name, 0.0) + count
        self._chances[name] = self._chances.get(name, 0) + spikes.numel()

    def per_step(self) -> dict[str, float]:
        """Return spikes per neuron, image and time step, 0 to 1, in the order of firing."""
        return {name: self._spikes[name] / count for name, count in self._chances.items()}


IMAGES: Final = 500  # or all, where there are fewer


def load_weights(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict into a network.

    Raises:
        UserError: It belongs to another network.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        wrong = " ".join(str(error).split())[:200]
        raise UserError(f"{source} does not fit the recipe's network: {wrong}") from error


def compute_in_codes_(network: nn.Module, levels: Mapping[str, Levels]) -> None:
    """Let a converted network add up the codes of its levels (``repro.cbp.codes``), in place.

    Training with ``arithmetic="codes"`` and packed files compute the same numbers.

    Args:
        network: Holds the levels as its weights.
        levels: By tensor name (``conv2.weight``), as ``repro.packing.unpack`` returns them.
    """
    by_layer = {name.removesuffix(".weight"): found for name, found in levels.items()}
    parametrise_(network, by_layer, "codes")


def right_answers(
    network: nn.Module, data: DataModule, part: PartName = "test"
) -> npt.NDArray[np.bool_]:
    """Return which images of a part, ``val`` or ``test``, the network gets right, in their order.

    They are evaluated on a GPU where there is one, in float32. The network is left in evaluation
    mode, where it was.
    """
    network.eval()
    home = next(network.parameters()).device
    device = evaluation_device()
    network.to(device)
    right = []
    with torch.no_grad(), exact():
        for batch in data.batches(part):
            there = tuple(tensor.to(device, non_blocking=True) for tensor in batch)
            images, labels = data.on_after_batch_transfer(there, 0)
            right.append(predictions(network(images)) == labels)
    network.to(home)
    answers: npt.NDArray[np.bool_] = torch.cat(right).cpu().numpy()
    return answers


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
    with torch.no_grad(), observed(network, rates.see):
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
