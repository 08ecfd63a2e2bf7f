"""Weights into a fresh network, and which images it then gets right."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def evaluated(
    network: nn.Module, data: DataModule, part: PartName
) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """Give the batches of a part, on the device where the network is within the block.

    That is a GPU if there is one. The network is left in evaluation mode, where it was.
    """
    network.eval()
    home, device = next(network.parameters()).device, evaluation_device()
    network.to(device)
    there = (
        tuple(tensor.to(device, non_blocking=True) for tensor in batch)
        for batch in data.batches(part)
    )
    with torch.no_grad():
        yield (data.on_after_batch_transfer(batch, 0) for batch in there)
    network.to(home)


def right_answers(
    network: nn.Module, data: DataModule, part: PartName = "test"
) -> npt.NDArray[np.bool_]:
    """Return which images of a part, ``val`` or ``test``, the network gets right, in their order.

    They are evaluated in float32; where, see `evaluated`.
    """
    with evaluated(network, data, part) as batches, exact():
        right = [predictions(network(images)) == labels for images, labels in batches]
    answers: npt.NDArray[np.bool_] = torch.cat(right).cpu().numpy()
    return answers


def firing_rates(network: nn.Module, data: DataModule) -> dict[str, float]:
    """Return spikes per neuron and time step behind each layer, 0 to 1; none of an ANN.

    Means over the first `IMAGES` test images, in the order of firing. Where they are evaluated,
    see `evaluated`.

    Args:
        network: A network of ours; its neurons are named by the module that runs before them.
        data: Whose test images are shown.
    """
    spikes, chances, left = Counter[str](), Counter[str](), IMAGES

    def see(name: str, fired: Tensor, states: int) -> None:
        spikes[name] += int(fired.sum(dtype=torch.float64))
        chances[name] += fired.numel()

    with evaluated(network, data, "test") as batches, observed(network, see):
        for images, _ in batches:
            network(images[:left])
            left -= len(images)
            if left <= 0:
                break
    return {name: spikes[name] / count for name, count in chances.items()}
