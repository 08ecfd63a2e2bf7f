"""CBP on a GPU in single passes over memory: the fast forms of ``constraint`` and ``levels``.

They compute what the plain forms compute, operation by operation. Sums belong to blocks of fixed
size and are added in float64.
"""

# Kernels are read by Triton, not by Python: their arguments are pointers and numbers.
# ruff: noqa: ANN001, ANN202
import torch
import triton
import triton.language as tl
from torch import Tensor

from repro.device.dense import is_dense
from repro.device.triton_launch import on_grid, programs


@triton.jit
def _add_slope(
    grad,
    weight,
    multiplier,
    levels,
    sums,
    n,
    fraction: tl.float64,
    clip: tl.float64,
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add ``multiplier * slope`` to the gradient, clip it; sum ``multiplier * cs`` by program."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    w = tl.load(weight + at, mask=inside, other=0)
    m = tl.load(multiplier + at, mask=inside, other=0)
    first, last = tl.load(levels), tl.load(levels + LEVELS - 1)
    low, high = tl.zeros_like(w) + first, tl.zeros_like(w) + tl.load(levels + 1)
    for k in tl.static_range(1, LEVELS - 1):
        above = w >= tl.load(levels + k)
        low = tl.where(above, tl.load(levels + k), low)
        high = tl.where(above, tl.load(levels + k + 1), high)
    distance = w - tl.where(w < (low + high) / 2, low, high)
    size = 2 * tl.abs(distance)
    part = tl.full((), fraction, w.dtype)
    free = (w > first) & (w < last) & (size > (high - low) * part)
    sign = tl.where(distance > 0, 2, tl.where(distance < 0, -2, 0)).to(w.dtype)
    bound = tl.full((), clip, w.dtype)
    new = tl.load(grad + at, mask=inside, other=0) + m * tl.where(free, 0, sign)
    new = tl.where(new > bound, bound, new)  # not tl.minimum, which hides NaN
    tl.store(grad + at, tl.where(new < -bound, -bound, new), mask=inside)
    value = tl.where(inside & (free == 0), size, 0)
    tl.store(sums + tl.program_id(0), tl.sum(m.to(tl.float64) * value.to(tl.float64), 0))


@triton.jit
def _nearest(weight, levels, table, out, n, LEVELS: tl.constexpr, BLOCK: tl.constexpr):
    """Fill ``out`` with the entry of ``table`` at the nearest level; a tie goes to the upper."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    w = tl.load(weight + at, mask=inside, other=0)
    found = tl.full((BLOCK,), 0, table.dtype.element_ty) + tl.load(table)
    for k in tl.static_range(1, LEVELS):
        middle = (tl.load(levels + k - 1) + tl.load(levels + k)) / 2
        found = tl.where(w >= middle, tl.load(table + k), found)
    tl.store(out + at, found, mask=inside)


def fits(weight: Tensor, *like_it: Tensor) -> bool:
    """Return whether the weights fill their memory, and the others lie like them."""
    kinds = {tensor.dtype for tensor in (weight, *like_it)}
    alike = all(tensor.stride() == weight.stride() for tensor in like_it)
    return (
        alike and len(kinds) == 1 and kinds <= {torch.float32, torch.float64} and is_dense(weight)
    )


def add_slope_on_gpu_(
    grad: Tensor, weight: Tensor, multiplier: Tensor, levels: Tensor, fraction: float, clip: float
) -> Tensor:
    """Do what ``constraint.add_slope_`` says; the sum stays on the device, a float64 scalar."""
    n = weight.numel()
    sums = torch.empty(programs(n), dtype=torch.float64, device=weight.device)
    on_grid(_add_slope, n)(
        *(grad, weight.detach(), multiplier, levels, sums, n, fraction, clip), LEVELS=len(levels)
    )
    return sums.sum()


def nearest_on_gpu(weight: Tensor, levels: Tensor, table: Tensor | None = None) -> Tensor:
    """Return the level nearest to each weight, or what stands for it.

    Args:
        weight: Any shape; float32 or float64.
        levels: ``[L]``, ascending, scaled.
        table: ``[L]``, what stands for each level, in any floating-point type; None for ``levels``.
    """
    if not is_dense(weight):
        weight = weight.contiguous()
    table = levels if table is None else table
    out = torch.empty_like(weight, dtype=table.dtype, requires_grad=False)
    n = weight.numel()
    on_grid(_nearest, n)(weight.detach(), levels, table, out, n, LEVELS=len(levels))
    return out
