"""The integrate-and-fire neuron's scan on the CPU; see ``repro.neurons.cpu.stbp``.

One kernel per direction for the scan, and one pass over an activation for the threshold search.
"""

import math
from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor
from torch.autograd.graph import increment_version

from repro.device.compiled import kernel
from repro.neurons.cpu.memory import CHUNK, Array, rows, spike_code
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.memory import empty, laid_out_like

PIECES = 16  # of the threshold search; fixed, so that sums do not depend on the number of threads


@kernel(parallel=True)
def _forward(
    current: Array,
    initial: Array,
    threshold: float,
    shift: float,
    spike: float,
    potential: Array,
    spikes: Array,
) -> None:
    """Fill ``spikes`` ``[T, N]`` from ``current`` ``[T, N]`` or ``[1, N]``.

    Args:
        current: Input current.
        initial: Potential before the first step ``[1, N]``, or ``[1, 0]`` for 0.
        threshold: Spike at or above it, soft reset by it.
        shift: Added to the potential at every step.
        spike: What stands for a spike in ``spikes``.
        potential: Filled with the potential before the reset ``[T, N]``; left alone if ``[0, N]``.
            May be ``current`` itself.
        spikes: Filled.
    """
    steps, n = spikes.shape
    constant, keep = current.shape[0] == 1, potential.shape[0] > 0
    silent = spike - spike
    zero = threshold - threshold
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        here = slice(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n))
        carried = np.zeros(here.stop - here.start, current.dtype)
        if initial.shape[1] > 0:
            carried[:] = initial[0, here]
        for t in range(steps):
            now, s = current[0 if constant else t, here], spikes[t, here]
            for i in range(carried.size):
                carried[i] = carried[i] + now[i] + shift
            if keep:
                potential[t, here] = carried
            for i in range(carried.size):
                fired = carried[i] >= threshold
                s[i] = spike if fired else silent
                carried[i] -= threshold if fired else zero


@kernel(parallel=True)
def _backward(
    grad_spikes: Array,
    source: Array,
    initial: Array,
    threshold: float,
    shift: float,
    alpha: float,
    grad_current: Array,
    grad_initial: Array,
) -> None:
    """Fill ``grad_current`` ``[T, N]`` or, for a constant current, its sum over time ``[1, N]``.

    ``source`` are the potentials before the reset ``[T, N]``, and may be ``grad_current`` itself;
    or the constant current ``[1, N]``, from which they are computed again, ``initial`` being read.
    ``grad_initial`` ``[1, N]`` is filled, too, unless it is ``[1, 0]``. The rest is as in
    ``_forward``.
    """
    steps, n = grad_spikes.shape
    constant = source.shape[0] == 1 and grad_current.shape[0] == 1
    real = source.dtype.type
    zero, one = threshold - threshold, real(1)
    height, steepness = alpha / real(2), real(math.pi) / real(2) * alpha
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        here = slice(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n))
        later = np.zeros(here.stop - here.start, source.dtype)  # dL/du[t+1]
        again = np.empty((steps if constant else 0, later.size), source.dtype)
        if constant:
            carried = np.zeros(later.size, source.dtype)
            if initial.shape[1] > 0:
                carried[:] = initial[0, here]
            now = source[0, here]
            for t in range(steps):
                u = again[t]
                for i in range(carried.size):
                    u[i] = carried[i] + now[i] + shift
                    carried[i] = u[i] - (threshold if u[i] >= threshold else zero)
            grad_current[0, here] = zero
        for reverse in range(steps):
            t = steps - 1 - reverse
            incoming = grad_spikes[t, here]
            u = again[t] if constant else source[t, here]
            out = grad_current[0 if constant else t, here]
            for i in range(later.size):
                distance = steepness * (u[i] - threshold)
                slope = height / (one + distance * distance)
                later[i] += (incoming[i] - threshold * later[i]) * slope
            for i in range(later.size):
                out[i] = out[i] + later[i] if constant else later[i]
        if grad_initial.shape[1] > 0:
            grad_initial[0, here] = later


def _initial(potential: Tensor | None, like: Tensor) -> Any:  # noqa: ANN401  (a NumPy array)
    """Return ``[1, N]`` of one step's potentials, or ``[1, 0]`` for None."""
    return rows(like)[:1, :0] if potential is None else rows(potential.unsqueeze(0))


class _Scan(torch.autograd.Function):
    """One kernel per direction.

    The potential is kept for the backward pass, in the current's own memory if that may be
    overwritten; of a constant current only the current itself. The backward pass leaves the
    gradient where the potential was. New memory would cost more than the arithmetic (page faults);
    version counters make a second use of what is gone an error.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        current: Tensor,
        time_steps: int,
        neuron: IntegrateAndFire,
        initial: Tensor | None,
        overwrite: bool,
        spike_dtype: torch.dtype,
    ) -> Tensor:
        keeps = any(ctx.needs_input_grad) and len(current) > 1
        shape = (time_steps, *current.shape[1:])
        spikes = empty(shape, current, spike_dtype)
        kept = current
        if keeps:
            kept = current if overwrite else empty(shape, current, current.dtype)
            increment_version(kept)
        currents = rows(current)
        real = currents.dtype.type
        _forward(
            currents,
            _initial(initial, current),
            real(neuron.threshold),
            real(neuron.shift(time_steps)),
            spike_code(spike_dtype),
            rows(kept) if keeps else currents[:0],
            rows(spikes),
        )
        ctx.save_for_backward(kept, initial)
        ctx.neuron, ctx.time_steps = neuron, time_steps
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        source, initial = ctx.saved_tensors
        grad_spikes = laid_out_like(grad_spikes.to(source.dtype), source)
        constant = len(source) == 1
        grad = torch.empty_like(source) if constant else source.detach()
        grad_initial = torch.empty_like(source[0]) if ctx.needs_input_grad[3] else None
        sources = rows(source)
        real = sources.dtype.type
        _backward(
            rows(grad_spikes),
            sources,
            _initial(initial, source),
            real(ctx.neuron.threshold),
            real(ctx.neuron.shift(ctx.time_steps)),
            real(ctx.neuron.alpha),
            rows(grad),
            _initial(grad_initial, source),
        )
        if not constant:
            increment_version(source)
        return grad, None, None, grad_initial, None, None


@kernel(parallel=True)
def tails(values: Array, edges: Array, first: Array) -> tuple[Array, Array]:
    """Return count and sum of the values between consecutive edges, by piece.

    Args:
        values: ``[N]``; those at or below 0 are left out.
        edges: ``[E]`` ascending, float64, positive.
        first: ``[cells + 1]``: at the cell of a value, cells dividing 0 to the greatest value
            evenly, a number of edges that are surely not above it.

    Returns:
        ``[PIECES, E + 1]`` twice, float64; entry j belongs to values with j edges not above them.
    """
    n, cells = values.size, first.size - 1
    counts = np.zeros((PIECES, edges.size + 1), np.float64)
    sums = np.zeros((PIECES, edges.size + 1), np.float64)
    to_cell = cells / edges[-1]
    for piece in prange(PIECES):
        count, total = counts[piece], sums[piece]
        for i in range(piece * n // PIECES, (piece + 1) * n // PIECES):
            value = np.float64(values[i])
            if value > 0:
                j = first[min(int(value * to_cell), cells)]
                while j < edges.size and edges[j] <= value:
                    j += 1
                count[j] += 1
                total[j] += value
    return counts, sums
