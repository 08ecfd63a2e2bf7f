"""Weights into a fresh network, and which images it then gets right."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from datamodules.base import DataModule, PartName
from repro.arithmetic import exact
from repro.errors import UserError
from repro.methods.base import predictions


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


def evaluation_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
