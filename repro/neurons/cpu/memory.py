"""``[T, N]`` views of memory, for kernels that pass over it once per direction."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from repro.neurons.memory import dense

CHUNK = 4096  # elements a thread works on at a time: potential and carry stay in the first cache

Array = npt.NDArray[Any]


def rows(tensor: Tensor) -> Array:
    """Return a ``[T, N]`` view of the tensor's memory; bfloat16 comes as its bits, uint16.

    Args:
        tensor: ``[T, ...]`` on the CPU, dense, time being the outermost axis in memory.

    Raises:
        ValueError: The memory is not dense in that order.
    """
    if dense(tensor) is not tensor:
        raise ValueError(f"not dense with time outermost: {tuple(tensor.shape)}, {tensor.stride()}")
    size = tensor[0].numel()
    view = tensor.detach().as_strided((len(tensor), size), (size, 1))
    if view.dtype == torch.bfloat16:
        view = view.view(torch.uint16)
    array: Array = view.numpy()
    return array


def spike_code(dtype: torch.dtype) -> Any:  # noqa: ANN401  (a NumPy scalar of that type)
    """Return the number that stands for a spike in an array made by ``rows``."""
    if dtype == torch.bfloat16:
        return np.uint16(0x3F80)  # the bits of 1.0
    return np.float64(1) if dtype == torch.float64 else np.float32(1)
