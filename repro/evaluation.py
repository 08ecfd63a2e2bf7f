"""Weights into a fresh network, and which images it then gets right."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from datamodules.base import DataModule, PartName
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

    The network is left in evaluation mode.
    """
    network.eval()
    right = []
    with torch.no_grad():
        for batch in data.batches(part):
            images, labels = data.on_after_batch_transfer(batch, 0)
            right.append(predictions(network(images)) == labels)
    answers: npt.NDArray[np.bool_] = torch.cat(right).numpy()
    return answers
