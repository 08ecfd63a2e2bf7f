"""TSSL-BP's scan on a GPU; see ``repro.neurons.gpu.memory``.

Nothing but the current is kept for the backward pass. It computes the states again, with the kernel
of the forward pass, and then runs back over them; they take no more memory than one layer's, freed
at its end.
"""

# Kernels are read by Triton, not by Python: their arguments are pointers and numbers.
# ruff: noqa: ANN001, ANN202
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from repro.device.triton_launch import on_grid
from repro.neurons.gpu.memory import clamp, divide, real_of, triton_type
from repro.neurons.memory import dense, empty, laid_out_like
from repro.neurons.tssl_bp import GREATEST_ARGUMENT, GREATEST_SLOPE, RECENT, WIDTH, TsslBpNeuron


class Constants(NamedTuple):
    """Numbers of the kernels; see ``repro.neurons.cpu.tssl_bp``."""

    kept: float
    weight: float
    leak: float
    threshold: float
    tau_s: float
    recent: float


def constants(neuron: TsslBpNeuron, gain: float) -> Constants:
    """Return the numbers of a neuron."""
    return Constants(
        kept=1 - 1 / neuron.tau_s,
        weight=gain / neuron.tau_s,
        leak=1 / neuron.tau_m,
        threshold=neuron.threshold,
        tau_s=neuron.tau_s,
        recent=RECENT / neuron.tau_s,
    )


@triton.jit(do_not_specialize=["steps"])
def _forward(
    current,
    spikes,
    change,
    potential,
    n,
    steps,
    to_next_current,
    kept: tl.float64,
    weight: tl.float64,
    leak: tl.float64,
    threshold: tl.float64,
    tau_s: tl.float64,
    recent: tl.float64,
    STATES: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill the spikes; with STATES, fill the membrane's input and potential ``[T, N]`` instead.

    Minus infinity stands for the potential of a neuron that is silent but fired recently: the rule
    does not ask for it.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    keeps, scale = tl.full((), kept, REAL), tl.full((), weight, REAL)
    leaks, limit = tl.full((), leak, REAL), tl.full((), threshold, REAL)
    time_constant = tl.full((BLOCK,), tau_s, REAL)
    near = tl.full((), recent, REAL)
    synapse = tl.zeros((BLOCK,), REAL)
    membrane = tl.zeros((BLOCK,), REAL)
    filtered = tl.zeros((BLOCK,), REAL)
    for _ in range(steps):
        synapse = synapse * keeps + tl.load(current + at, mask=inside, other=0).to(REAL)
        d = synapse * scale - membrane * leaks
        u = membrane + d
        fired = u > limit
        if STATES:
            filtered = filtered * keeps + fired.to(REAL)
            waits = (divide(filtered, time_constant, REAL) >= near) & (u <= limit)
            tl.store(change + at, d, mask=inside)
            tl.store(potential + at, tl.where(waits, float("-inf"), u), mask=inside)
            change += n
            potential += n
        else:
            tl.store(spikes + at, fired.to(REAL).to(spikes.dtype.element_ty), mask=inside)
            spikes += n
        membrane = tl.where(fired, 0, u)
        current += to_next_current


@triton.jit(do_not_specialize=["steps"])
def _backward(
    grad_spikes,
    change,
    potential,
    grad_current,
    n,
    steps,
    kept: tl.float64,
    weight: tl.float64,
    leak: tl.float64,
    threshold: tl.float64,
    width: tl.float64,
    greatest_argument: tl.float64,
    greatest_slope: tl.float64,
    CONSTANT: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill the gradient ``[T, N]``, or its sum over time ``[1, N]`` for a constant current.

    ``grad_current`` may be ``change`` itself where the current is not constant.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    keeps, scale = tl.full((), kept, REAL), tl.full((), weight, REAL)
    leaks, limit = tl.full((), leak, REAL), tl.full((), threshold, REAL)
    remains = tl.full((), 1 - leak, REAL)
    spread = tl.full((BLOCK,), width, REAL)
    bound, steepest = tl.full((), greatest_argument, REAL), tl.full((), greatest_slope, REAL)
    one = tl.full((BLOCK,), 1, REAL)
    last = (steps - 1).to(tl.int64) * n
    grad_spikes += last
    change += last
    potential += last
    grad_current += 0 if CONSTANT else last
    carry = tl.zeros((BLOCK,), REAL)
    later = tl.zeros((BLOCK,), REAL)
    summed = tl.zeros((BLOCK,), REAL)
    for _ in range(steps):
        incoming = tl.load(grad_spikes + at, mask=inside, other=0).to(REAL)
        d = tl.load(change + at, mask=inside, other=1)
        u = tl.load(potential + at, mask=inside, other=0)
        waits = u == float("-inf")
        u = tl.where(waits, 0, u)
        slope = clamp(divide(one, d, REAL), 0, steepest)
        through_spike = slope * (incoming + carry * u * leaks)
        fired = u > limit
        carry = tl.where(fired, through_spike, carry * remains)
        argument = divide(limit - u, spread, REAL)
        q = tl.exp(clamp(argument, -bound, bound))
        silent = incoming * divide(q, spread * ((1 + q) * (1 + q)), REAL)
        later = tl.where(fired | waits, carry, silent) + later * keeps
        grad = later * scale
        if CONSTANT:
            summed += grad
        else:
            tl.store(grad_current + at, grad.to(grad_current.dtype.element_ty), mask=inside)
            grad_current -= n
        grad_spikes -= n
        change -= n
        potential -= n
    if CONSTANT:
        tl.store(grad_current + at, summed.to(grad_current.dtype.element_ty), mask=inside)


def _launch_forward(
    current: Tensor, numbers: Constants, spikes: Tensor, change: Tensor, potential: Tensor
) -> None:
    """Fill the spikes or, where ``change`` is not the current itself, the states."""
    states = change is not current
    n, steps = current[0].numel(), len(potential if states else spikes)
    on_grid(_forward, n)(
        *(current, spikes, change, potential, n, steps, n if len(current) > 1 else 0),
        *numbers,
        STATES=states,
        REAL=triton_type(real_of(current)),
    )


class _Scan(torch.autograd.Function):
    """Only the current is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        current: Tensor,
        time_steps: int,
        neuron: TsslBpNeuron,
        gain: float,
        spike_dtype: torch.dtype,
    ) -> Tensor:
        current = dense(current)
        spikes = empty((time_steps, *current.shape[1:]), current, spike_dtype)
        ctx.constants = constants(neuron, gain)
        _launch_forward(current, ctx.constants, spikes, current, current)
        ctx.save_for_backward(current)
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: ANN401
        (current,) = ctx.saved_tensors
        numbers, n, real = ctx.constants, current[0].numel(), real_of(current)
        change = empty(grad_spikes.shape, current, real)
        potential = torch.empty_like(change)
        _launch_forward(current, numbers, current, change, potential)
        constant = len(current) == 1
        reused = not constant and current.dtype == real
        grad = change if reused else empty(current.shape, current, current.dtype)
        on_grid(_backward, n)(
            *(laid_out_like(grad_spikes, current), change, potential, grad, n, len(change)),
            *(numbers.kept, numbers.weight, numbers.leak, numbers.threshold),
            *(WIDTH, GREATEST_ARGUMENT, GREATEST_SLOPE),
            CONSTANT=constant,
            REAL=triton_type(real),
        )
        return grad, None, None, None, None
