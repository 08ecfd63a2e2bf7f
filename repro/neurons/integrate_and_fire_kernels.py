"""Kernels of the integrate-and-fire neuron on the CPU; see ``repro.neurons.kernels``.

One kernel per direction for the scan, and one pass over an activation for the threshold search.
"""

import math

import numpy as np
from numba import njit, prange

from repro.neurons.kernels import CHUNK, Array

PIECES = 16  # of the threshold search; fixed, so that sums do not depend on the number of threads


@njit(parallel=True, cache=True)
def forward(
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


@njit(parallel=True, cache=True)
def backward(
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

    Args:
        grad_spikes: ``[T, N]``.
        source: Potentials before the reset ``[T, N]``, or the constant current ``[1, N]``, from
            which they are computed again.
        initial: As in ``forward``; read only with a constant current.
        threshold: As in ``forward``.
        shift: As in ``forward``.
        alpha: Steepness of the arctan surrogate.
        grad_current: Filled. May be ``source`` itself if that holds potentials.
        grad_initial: Filled ``[1, N]``; left alone if ``[1, 0]``.
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


@njit(parallel=True, cache=True)
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
