"""Scan kernels on the CPU: T is a run-time argument, memory is passed over once per direction.

Arrays are ``[T, N]`` views of dense tensors whose outermost axis is time (``rows``), so that one
kernel serves every memory format. Each kernel computes what the plain scan in the neuron's own file
computes, operation by operation, and a test compares the two. Chunks are of fixed size, so results
do not depend on the number of threads.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange
from torch import Tensor

CHUNK = 4096  # elements a thread works on at a time: potential and carry stay in the first cache

Array = npt.NDArray[Any]


def rows(tensor: Tensor) -> Array:
    """Return a ``[T, N]`` view of the tensor's memory; bfloat16 comes as its bits, uint16.

    Args:
        tensor: ``[T, ...]`` on the CPU, dense, time being the outermost axis in memory.

    Raises:
        ValueError: The memory is not dense in that order.
    """
    steps, row = tensor.shape[0], tensor[0]
    dense = row.is_contiguous() or (
        row.dim() == 4 and row.is_contiguous(memory_format=torch.channels_last)
    )
    if not dense or (steps > 1 and tensor.stride(0) != row.numel()):
        raise ValueError(f"not dense with time outermost: {tuple(tensor.shape)}, {tensor.stride()}")
    view = tensor.detach().as_strided((steps, row.numel()), (row.numel(), 1))
    if view.dtype == torch.bfloat16:
        view = view.view(torch.uint16)
    array: Array = view.numpy()
    return array


def spike_code(dtype: torch.dtype) -> Any:  # noqa: ANN401  (a NumPy scalar of that type)
    """Return the number that stands for a spike in an array made by ``rows``."""
    if dtype == torch.bfloat16:
        return np.uint16(0x3F80)  # the bits of 1.0
    return np.float64(1) if dtype == torch.float64 else np.float32(1)


@njit(parallel=True, cache=True)
def stbp_forward(
    current: Array, decay: float, threshold: float, spike: float, potential: Array, spikes: Array
) -> None:
    """Fill ``potential`` and ``spikes`` ``[T, N]`` from ``current`` ``[T, N]`` or ``[1, N]``."""
    steps, n = potential.shape
    constant = current.shape[0] == 1
    silent = spike - spike
    zero = threshold - threshold
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        here = slice(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n))
        carried = np.zeros(here.stop - here.start, potential.dtype)
        for t in range(steps):
            now, u, s = current[0 if constant else t, here], potential[t, here], spikes[t, here]
            for i in range(carried.size):
                new = carried[i] + now[i]
                fired = new > threshold
                u[i] = new
                s[i] = spike if fired else silent
                carried[i] = zero if fired else decay * new


@njit(parallel=True, cache=True)
def stbp_backward(
    grad_spikes: Array,
    potential: Array,
    decay: float,
    threshold: float,
    half_width: float,
    grad_current: Array,
) -> None:
    """Fill ``grad_current`` ``[T, N]`` or, for a constant current, its sum over time ``[1, N]``."""
    steps, n = potential.shape
    constant = grad_current.shape[0] == 1
    zero = threshold - threshold
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        here = slice(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n))
        later = np.zeros(here.stop - here.start, potential.dtype)  # decay * dL/du[t+1]
        if constant:
            grad_current[0, here] = zero
        for reverse in range(steps):
            t = steps - 1 - reverse
            incoming, u = grad_spikes[t, here], potential[t, here]
            out = grad_current[0 if constant else t, here]
            for i in range(later.size):
                through_spike = incoming[i] - later[i] * u[i]
                grad = through_spike if abs(u[i] - threshold) < half_width else zero
                grad += zero if u[i] > threshold else later[i]
                later[i] = decay * grad
                out[i] = out[i] + grad if constant else grad
