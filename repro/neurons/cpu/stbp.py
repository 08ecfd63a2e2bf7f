"""STBP's scan on the CPU: T is a run-time argument, memory is passed over once per direction.

Arrays are ``[T, N]`` views of dense tensors whose outermost axis is time (``rows``), so that one
kernel serves every memory format. A kernel computes what the plain scan in the neuron's own file
computes, operation by operation, and a test compares the two. Chunks are of fixed size, so results
do not depend on the number of threads.
"""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from repro.device.compiled import kernel
from repro.neurons.cpu.memory import CHUNK, Array, rows, spike_code
from repro.neurons.memory import empty, laid_out_like
from repro.neurons.stbp import StbpNeuron


@kernel(parallel=True)
def _forward(
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


@kernel(parallel=True)
def _backward(
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


class _Scan(torch.autograd.Function):
    """One kernel per direction; only the potential is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        current: Tensor,
        time_steps: int,
        neuron: StbpNeuron,
        spike_dtype: torch.dtype,
    ) -> Tensor:
        shape = (time_steps, *current.shape[1:])
        potential = empty(shape, current, current.dtype)
        spikes = empty(shape, current, spike_dtype)
        currents, spike = rows(current), spike_code(spike_dtype)
        decay, threshold = (currents.dtype.type(c) for c in (neuron.decay, neuron.threshold))
        _forward(currents, decay, threshold, spike, rows(potential), rows(spikes))
        ctx.save_for_backward(potential)
        ctx.neuron, ctx.steps_of_current = neuron, current.shape[0]
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (potential,) = ctx.saved_tensors
        grad_spikes = laid_out_like(grad_spikes.to(potential.dtype), potential)
        grad = empty((ctx.steps_of_current, *potential.shape[1:]), potential, potential.dtype)
        potentials, neuron = rows(potential), ctx.neuron
        real = potentials.dtype.type
        decay, threshold, half_width = map(
            real, (neuron.decay, neuron.threshold, neuron.half_width)
        )
        _backward(rows(grad_spikes), potentials, decay, threshold, half_width, rows(grad))
        return grad, None, None, None
