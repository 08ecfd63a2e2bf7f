"""Hard-reset neurons and the SEW connection on a GPU; see ``repro.neurons.gpu.memory``.

The potential before the reset is kept for the backward pass, and with AND and IAND the shortcut.
Under automatic mixed precision currents come in float16: potentials are float32 all the same.
"""

# Kernels are read by Triton, not by Python: their arguments are pointers and numbers.
# ruff: noqa: ANN001, ANN202
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from repro.device.triton_launch import on_grid, programs
from repro.neurons.gpu.memory import arctan_slope, real_of, triton_type
from repro.neurons.memory import dense, empty, laid_out_like
from repro.neurons.plif import ALPHA, THRESHOLD

NONE: Final = tl.constexpr(0)
ADD: Final = tl.constexpr(1)
AND: Final = tl.constexpr(2)
IAND: Final = tl.constexpr(3)
CODES: Final = {None: 0, "add": 1, "and": 2, "iand": 3}


@triton.jit(do_not_specialize=["steps"])
def _forward(
    current,
    leak,
    shortcut,
    potential,
    out,
    n,
    steps,
    to_next_current,
    threshold: tl.float64,
    LEAKY: tl.constexpr,
    KEEP: tl.constexpr,
    CONNECTION: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill the output ``[T, N]`` and, with KEEP, the potential before the reset."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    limit = tl.full((), threshold, REAL)
    if LEAKY:
        share = tl.load(leak).to(REAL)
    v = tl.zeros((BLOCK,), REAL)
    for _ in range(steps):
        x = tl.load(current + at, mask=inside, other=0).to(REAL)
        h = v + ((x - v) * share if LEAKY else x)
        fired = h >= limit
        if KEEP:
            tl.store(potential + at, h, mask=inside)
            potential += n
        result = fired.to(REAL)
        if CONNECTION != NONE:
            other = tl.load(shortcut + at, mask=inside, other=0).to(REAL)
            shortcut += n
            if CONNECTION == ADD:
                result = result + other
            elif CONNECTION == AND:
                result = tl.where(fired, other, 0)
            else:
                result = tl.where(fired, 0, other)
        tl.store(out + at, result.to(out.dtype.element_ty), mask=inside)
        v = tl.where(fired, 0, h)
        current += to_next_current
        out += n


@triton.jit(do_not_specialize=["steps"])
def _backward(
    grad_out,
    potential,
    leak,
    shortcut,
    grad_current,
    grad_shortcut,
    sums,
    n,
    steps,
    threshold: tl.float64,
    alpha: tl.float64,
    CONSTANT: tl.constexpr,
    LEAKY: tl.constexpr,
    CONNECTION: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill the gradients of current and shortcut, and by program the leak times its own.

    ``grad_shortcut`` is left alone but with AND and IAND; ``sums`` ``[programs]`` is float64.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    limit, steepness = tl.full((), threshold, REAL), tl.full((), alpha, REAL)
    if LEAKY:
        share = tl.load(leak).to(REAL)
    last = (steps - 1).to(tl.int64) * n
    grad_out += last
    potential += last
    shortcut += last
    grad_shortcut += last
    grad_current += 0 if CONSTANT else last
    later = tl.zeros((BLOCK,), REAL)
    summed = tl.zeros((BLOCK,), REAL)
    to_leak = tl.zeros((BLOCK,), REAL)
    h = tl.load(potential + at, mask=inside, other=0)
    for step in range(steps):
        fired = h >= limit
        grad = tl.load(grad_out + at, mask=inside, other=0).to(REAL)
        to_spike = grad
        if CONNECTION > ADD:
            other = tl.load(shortcut + at, mask=inside, other=0).to(REAL)
            if CONNECTION == AND:
                to_spike = grad * other
                to_other = tl.where(fired, grad, 0)
            else:
                to_spike = -grad * other
                to_other = tl.where(fired, 0, grad)
            tl.store(grad_shortcut + at, to_other.to(grad_shortcut.dtype.element_ty), mask=inside)
            shortcut -= n
            grad_shortcut -= n
        to_h = to_spike * arctan_slope(h - limit, steepness, REAL) + tl.where(fired, 0, later)
        potential -= n
        before = tl.load(potential + at, mask=inside & (step < steps - 1), other=0)
        if LEAKY:
            to_leak += to_h * (h - tl.where(before >= limit, 0, before))
            to_x = to_h * share
            later = to_h - to_x
        else:
            to_x = to_h
            later = to_h
        if CONSTANT:
            summed += to_x
        else:
            tl.store(grad_current + at, to_x.to(grad_current.dtype.element_ty), mask=inside)
            grad_current -= n
        h = before
        grad_out -= n
    if CONSTANT:
        tl.store(grad_current + at, summed.to(grad_current.dtype.element_ty), mask=inside)
    if LEAKY:
        total = tl.sum(tl.where(inside, to_leak, 0).to(tl.float64), 0)
        tl.store(sums + tl.program_id(0), total)


class _Scan(torch.autograd.Function):
    """The scan in one kernel per direction."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        current: Tensor,
        leak: Tensor | None,
        shortcut: Tensor | None,
        time_steps: int,
        connection: str,
    ) -> Tensor:
        keep = any(ctx.needs_input_grad[:3])
        current = dense(current)
        shape, n = (time_steps, *current.shape[1:]), current[0].numel()
        real = real_of(current)
        potential = empty(shape if keep else (0, *shape[1:]), current, real)
        out = empty(shape, current, current.dtype)
        code = CODES[None if shortcut is None else connection]
        other = current if shortcut is None else laid_out_like(shortcut, current)
        on_grid(_forward, n)(
            *(current, current if leak is None else leak, other, potential, out),
            *(n, time_steps, n if len(current) > 1 else 0, THRESHOLD),
            LEAKY=leak is not None,
            KEEP=keep,
            CONNECTION=code,
            REAL=triton_type(real),
        )
        ctx.save_for_backward(potential, leak, other if code > 1 else None)
        ctx.code, ctx.steps, ctx.dtype = code, len(current), current.dtype
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        potential, leak, shortcut = ctx.saved_tensors
        n, through = potential[0].numel(), laid_out_like(grad_out, potential)
        grad = empty((ctx.steps, *potential.shape[1:]), potential, ctx.dtype)
        to_shortcut = None if shortcut is None else torch.empty_like(shortcut)
        sums = torch.empty(programs(n), dtype=torch.float64, device=grad.device)
        on_grid(_backward, n)(
            *(through, potential, grad if leak is None else leak),
            *(grad if shortcut is None else shortcut, grad),
            *(grad if to_shortcut is None else to_shortcut, sums, n, len(potential)),
            *(THRESHOLD, ALPHA),
            CONSTANT=ctx.steps == 1,
            LEAKY=leak is not None,
            CONNECTION=ctx.code,
            REAL=triton_type(potential.dtype),
        )
        to_leak = None if leak is None else (sums.sum() / leak.double()).to(leak.dtype)
        return grad, to_leak, grad_out if ctx.code == CODES["add"] else to_shortcut, None, None


def scan(
    current: Tensor,
    time_steps: int,
    leak: Tensor | None,
    shortcut: Tensor | None = None,
    connection: str = "add",
) -> Tensor:
    """Return the layer's output ``[T, ...]``, spikes combined with the shortcut if there is one.

    Args:
        current: ``[T, ...]``, or ``[1, ...]`` for a current that is the same at every step.
        time_steps: T.
        leak: See ``repro.neurons.plif.step``.
        shortcut: ``[T, ...]``; None for the spikes alone.
        connection: See ``repro.neurons.normed_plif.connect``.
    """
    out: Tensor = _Scan.apply(current, leak, shortcut, time_steps, connection)  # type: ignore[no-untyped-call]
    return out
