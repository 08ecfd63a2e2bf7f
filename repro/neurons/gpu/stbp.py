"""STBP's scan on a GPU, one kernel per direction; see ``repro.neurons.gpu.memory``."""

# Kernels are read by Triton, not by Python: their arguments are pointers and numbers.
# ruff: noqa: ANN001, ANN202
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from repro.device.triton_launch import on_grid
from repro.neurons.gpu.memory import real_of, triton_type
from repro.neurons.memory import dense, empty, laid_out_like
from repro.neurons.stbp import StbpNeuron


@triton.jit(do_not_specialize=["steps"])
def _forward(
    current,
    potential,
    spikes,
    n,
    steps,
    to_next_current,
    decay: tl.float64,
    threshold: tl.float64,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill potential and spikes ``[T, N]``; a constant current is read at every step."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    kept, limit = tl.full((), decay, REAL), tl.full((), threshold, REAL)
    carried = tl.zeros((BLOCK,), REAL)
    for _ in range(steps):
        u = carried + tl.load(current + at, mask=inside, other=0).to(REAL)
        fired = u > limit
        tl.store(potential + at, u, mask=inside)
        tl.store(spikes + at, fired.to(REAL).to(spikes.dtype.element_ty), mask=inside)
        carried = tl.where(fired, 0, kept * u)
        current += to_next_current
        potential += n
        spikes += n


@triton.jit(do_not_specialize=["steps"])
def _backward(
    grad_spikes,
    potential,
    grad_current,
    n,
    steps,
    decay: tl.float64,
    threshold: tl.float64,
    half_width: tl.float64,
    CONSTANT: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill the gradient ``[T, N]``, or its sum over time ``[1, N]`` for a constant current."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    kept, limit = tl.full((), decay, REAL), tl.full((), threshold, REAL)
    width = tl.full((), half_width, REAL)
    last = (steps - 1).to(tl.int64) * n
    grad_spikes += last
    potential += last
    grad_current += 0 if CONSTANT else last
    later = tl.zeros((BLOCK,), REAL)  # decay * dL/du[t+1]
    summed = tl.zeros((BLOCK,), REAL)
    for _ in range(steps):
        u = tl.load(potential + at, mask=inside, other=0)
        through_spike = tl.load(grad_spikes + at, mask=inside, other=0).to(REAL) - later * u
        grad = tl.where(tl.abs(u - limit) < width, through_spike, 0)
        grad += tl.where(u > limit, 0, later)
        later = kept * grad
        if CONSTANT:
            summed += grad
        else:
            tl.store(grad_current + at, grad.to(grad_current.dtype.element_ty), mask=inside)
            grad_current -= n
        grad_spikes -= n
        potential -= n
    if CONSTANT:
        tl.store(grad_current + at, summed.to(grad_current.dtype.element_ty), mask=inside)


class _Scan(torch.autograd.Function):
    """Only the potential is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        current: Tensor,
        time_steps: int,
        neuron: StbpNeuron,
        spike_dtype: torch.dtype,
    ) -> Tensor:
        current = dense(current)
        shape, n = (time_steps, *current.shape[1:]), current[0].numel()
        potential = empty(shape, current, real_of(current))
        spikes = empty(shape, current, spike_dtype)
        on_grid(_forward, n)(
            *(current, potential, spikes, n, time_steps, n if len(current) > 1 else 0),
            *(neuron.decay, neuron.threshold),
            REAL=triton_type(potential.dtype),
        )
        ctx.save_for_backward(potential)
        ctx.neuron, ctx.steps, ctx.dtype = neuron, len(current), current.dtype
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (potential,) = ctx.saved_tensors
        neuron, n = ctx.neuron, potential[0].numel()
        grad = empty((ctx.steps, *potential.shape[1:]), potential, ctx.dtype)
        on_grid(_backward, n)(
            *(laid_out_like(grad_spikes, potential), potential, grad, n, len(potential)),
            *(neuron.decay, neuron.threshold, neuron.half_width),
            CONSTANT=ctx.steps == 1,
            REAL=triton_type(potential.dtype),
        )
        return grad, None, None, None
