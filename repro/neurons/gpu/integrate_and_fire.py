"""The integrate-and-fire neuron's scan on a GPU; see ``repro.neurons.gpu.memory``."""

# Kernels are read by Triton, not by Python: their arguments are pointers and numbers.
# ruff: noqa: ANN001, ANN202
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from repro.device.triton_launch import on_grid
from repro.neurons.gpu.memory import arctan_slope, real_of, triton_type
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.memory import dense, empty, laid_out_like


@triton.jit(do_not_specialize=["steps"])
def _forward(
    current,
    initial,
    potential,
    spikes,
    n,
    steps,
    to_next_current,
    threshold: tl.float64,
    shift: tl.float64,
    HAS_INITIAL: tl.constexpr,
    KEEP: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill the spikes and, with KEEP, the potential before the reset, both ``[T, N]``."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    limit, added = tl.full((), threshold, REAL), tl.full((), shift, REAL)
    carried = tl.zeros((BLOCK,), REAL)
    if HAS_INITIAL:
        carried += tl.load(initial + at, mask=inside, other=0).to(REAL)
    for _ in range(steps):
        u = carried + tl.load(current + at, mask=inside, other=0).to(REAL) + added
        fired = u >= limit
        if KEEP:
            tl.store(potential + at, u, mask=inside)
            potential += n
        tl.store(spikes + at, fired.to(REAL).to(spikes.dtype.element_ty), mask=inside)
        carried = tl.where(fired, u - limit, u)
        current += to_next_current
        spikes += n


@triton.jit(do_not_specialize=["steps"])
def _backward(
    grad_spikes,
    potential,
    grad_current,
    grad_initial,
    n,
    steps,
    threshold: tl.float64,
    alpha: tl.float64,
    CONSTANT: tl.constexpr,
    HAS_INITIAL: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill the gradient ``[T, N]``, or its sum over time ``[1, N]``; and the initial one's."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    limit, steepness = tl.full((), threshold, REAL), tl.full((), alpha, REAL)
    last = (steps - 1).to(tl.int64) * n
    grad_spikes += last
    potential += last
    grad_current += 0 if CONSTANT else last
    later = tl.zeros((BLOCK,), REAL)  # dL/du[t+1]
    summed = tl.zeros((BLOCK,), REAL)
    for _ in range(steps):
        u = tl.load(potential + at, mask=inside, other=0)
        incoming = tl.load(grad_spikes + at, mask=inside, other=0).to(REAL)
        later += (incoming - limit * later) * arctan_slope(u - limit, steepness, REAL)
        if CONSTANT:
            summed += later
        else:
            tl.store(grad_current + at, later.to(grad_current.dtype.element_ty), mask=inside)
            grad_current -= n
        grad_spikes -= n
        potential -= n
    if CONSTANT:
        tl.store(grad_current + at, summed.to(grad_current.dtype.element_ty), mask=inside)
    if HAS_INITIAL:
        tl.store(grad_initial + at, later.to(grad_initial.dtype.element_ty), mask=inside)


class _Scan(torch.autograd.Function):
    """Only the potential is kept for the backward pass, and nothing where none follows."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        current: Tensor,
        time_steps: int,
        neuron: IntegrateAndFire,
        initial: Tensor | None,
        overwrite: bool,  # never done here
        spike_dtype: torch.dtype,
    ) -> Tensor:
        keep = any(ctx.needs_input_grad)
        current = dense(current)
        shape, n = (time_steps, *current.shape[1:]), current[0].numel()
        real = real_of(current)
        potential = empty(shape if keep else (0, *shape[1:]), current, real)
        spikes = empty(shape, current, spike_dtype)
        on_grid(_forward, n)(
            *(current, current if initial is None else initial, potential, spikes),
            *(n, time_steps, n if len(current) > 1 else 0),
            *(neuron.threshold, neuron.shift(time_steps)),
            HAS_INITIAL=initial is not None,
            KEEP=keep,
            REAL=triton_type(real),
        )
        ctx.save_for_backward(potential)
        ctx.neuron, ctx.steps, ctx.dtype = neuron, len(current), current.dtype
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (potential,) = ctx.saved_tensors
        n = potential[0].numel()
        grad = empty((ctx.steps, *potential.shape[1:]), potential, ctx.dtype)
        to_initial = ctx.needs_input_grad[3]
        grad_initial = torch.empty_like(potential[0], dtype=ctx.dtype) if to_initial else None
        on_grid(_backward, n)(
            *(laid_out_like(grad_spikes, potential), potential, grad),
            *(grad if grad_initial is None else grad_initial, n, len(potential)),
            *(ctx.neuron.threshold, ctx.neuron.alpha),
            CONSTANT=ctx.steps == 1,
            HAS_INITIAL=to_initial,
            REAL=triton_type(potential.dtype),
        )
        return grad, None, None, grad_initial, None, None
