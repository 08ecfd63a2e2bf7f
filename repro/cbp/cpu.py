"""CBP on the CPU in single passes over memory: the fast forms of ``constraint`` and ``levels``.

A layer's weights are worked through in chunks that stay in the first cache; per chunk, loops over
levels are outside and loops over weights inside, so that they become vector instructions. Partial
sums belong to chunks, not to threads: results do not depend on the number of threads.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import prange
from torch import Tensor

from repro.device.compiled import kernel
from repro.device.dense import is_dense

CHUNK = 2048

Array = npt.NDArray[Any]


@kernel(fastmath={"reassoc", "contract"})
def _dot(a: Array, b: Array) -> float:
    """Return ``sum(a * b)`` in float64; the only place where the order of a sum is left free."""
    total = 0.0
    for i in range(a.size):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@kernel(parallel=True)
def add_slope(
    grad: Array, weight: Array, multiplier: Array, levels: Array, fraction: float, clip: float
) -> Array:
    """Add ``multiplier * slope`` to ``grad``, clip it; return ``sum(multiplier cs)`` by chunk."""
    n, last = weight.size, levels.size - 1
    sums = np.empty((n + CHUNK - 1) // CHUNK, np.float64)
    zero, two = clip - clip if clip < np.inf else levels[0] - levels[0], levels.dtype.type(2)
    for chunk in prange(sums.size):
        here = slice(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n))
        w, m, out = weight[here], multiplier[here], grad[here]
        low, high = np.full(w.size, levels[0]), np.full(w.size, levels[1])
        for k in range(1, last):
            level, next_level = levels[k], levels[k + 1]
            for i in range(w.size):
                above = w[i] >= level
                low[i] = level if above else low[i]
                high[i] = next_level if above else high[i]
        value = np.empty(w.size, weight.dtype)
        for i in range(w.size):
            nearest = low[i] if w[i] < (low[i] + high[i]) / two else high[i]
            distance = w[i] - nearest
            size = two * abs(distance)
            interior = (w[i] > levels[0]) & (w[i] < levels[last])
            free = interior & (size > (high[i] - low[i]) * fraction)
            sign = two if distance > zero else (-two if distance < zero else zero)
            value[i] = zero if free else size
            new = out[i] + m[i] * (zero if free else sign)
            new = clip if new > clip else new
            out[i] = -clip if new < -clip else new
        sums[chunk] = _dot(m, value)
    return sums


@kernel(parallel=True)
def nearest(weight: Array, levels: Array, chosen: Array, out: Array) -> None:
    """Fill ``out`` with what stands for the nearest level of each weight; a tie: the upper one."""
    n, two = weight.size, levels.dtype.type(2)
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        here = slice(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n))
        w, target = weight[here], out[here]
        q = np.full(w.size, chosen[0])
        for k in range(1, levels.size):
            middle, level = (levels[k - 1] + levels[k]) / two, chosen[k]
            for i in range(w.size):
                q[i] = level if w[i] >= middle else q[i]
        for i in range(w.size):
            target[i] = q[i]


def _memory(tensor: Tensor) -> Array:
    """Return the tensor's memory as ``[N]``, in storage order; of bfloat16 the bits."""
    view = tensor.detach().as_strided((tensor.numel(),), (1,))
    flat: Array = (view.view(torch.uint16) if view.dtype == torch.bfloat16 else view).numpy()
    return flat


def add_slope_on_cpu_(
    grad: Tensor, weight: Tensor, multiplier: Tensor, levels: Tensor, fraction: float, clip: float
) -> float:
    """Do what ``constraint.add_slope_`` says, in one pass over memory."""
    if not (is_dense(weight) and weight.stride() == multiplier.stride() == grad.stride()):
        raise ValueError(
            f"weight, multiplier and gradient lie differently in memory: {weight.stride()}, "
            f"{multiplier.stride()}, {grad.stride()}"
        )
    values = _memory(levels)
    real = values.dtype.type
    arrays = _memory(grad), _memory(weight), _memory(multiplier)
    return float(add_slope(*arrays, values, real(fraction), real(clip)).sum())


def nearest_on_cpu(
    weight: Tensor, levels: Tensor, out: Tensor | None = None, chosen: Tensor | None = None
) -> Tensor:
    """Return ``levels.nearest_level(weight, levels)``, in one pass over memory.

    Args:
        weight: Any shape.
        levels: Shape ``[L]``, ascending, scaled.
        out: Tensor with the shape and strides of ``weight`` to fill and return; None for a new one.
        chosen: What stands for each level in the result, ``[L]`` of any type; None for the levels.
    """
    chosen = levels if chosen is None else chosen
    if not is_dense(weight):
        weight = weight.contiguous()
    if out is None or out.stride() != weight.stride():
        out = torch.empty_like(weight, dtype=chosen.dtype, requires_grad=False)
    nearest(_memory(weight), _memory(levels), _memory(chosen), _memory(out))
    return out
