"""TSSL-BP's scan on the CPU: forward, and backward with the forward pass repeated chunk by chunk.

Nothing but the current is read; potentials live in a chunk's buffers, in the first caches. The
results equal the plain scan's of ``repro.neurons.tssl_bp`` and a test compares the two. Chunks are
of fixed size, so results do not depend on the number of threads.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import prange
from torch import Tensor

from repro.device.compiled import kernel
from repro.neurons.cpu.memory import Array, rows, spike_code
from repro.neurons.memory import empty, laid_out_like
from repro.neurons.tssl_bp import GREATEST_ARGUMENT, GREATEST_SLOPE, RECENT, WIDTH, TsslBpNeuron

CHUNK = 1024  # elements a thread works on at a time: T rows of three buffers stay in the cache


class Constants(NamedTuple):
    """Numbers of the kernels as scalars of the array's type: a Python float would widen float32.

    Attributes:
        kept: ``1 - 1/tau_s``, kept by the synapse from step to step.
        weight: ``gain / tau_s``.
        leak: ``1 / tau_m``.
        remains: ``1 - 1/tau_m``.
        tau_s: Time constant of the synapse.
        threshold: Of the potential.
        recent: Least filtered output of a neuron with a recent spike.
        greatest_slope: Bound on the slope of a spike.
        per_width: ``1 / (8 width of the logistic surrogate)``.
        end: Greatest ``z^2 / 64`` of that surrogate.
        peak: ``1 / (2 width)``.
        zero: 0.
        one: 1.
        two: 2.
        s0: First ratio of neighbours in the series of ``cosh(z) - 1``, over ``z^2``; the others are
            ``s1`` to ``s7``. Scalars, since numba's threads take no tuple within a tuple.
    """

    kept: Any
    weight: Any
    leak: Any
    remains: Any
    tau_s: Any
    threshold: Any
    recent: Any
    greatest_slope: Any
    per_width: Any
    end: Any
    peak: Any
    zero: Any
    one: Any
    two: Any
    s0: Any
    s1: Any
    s2: Any
    s3: Any
    s4: Any
    s5: Any
    s6: Any
    s7: Any


@kernel(inline="always")
def _logistic_slope(potential: Any, c: Constants) -> Any:  # noqa: ANN401
    """Return ``q / (w (1 + q)^2) = 1 / (2 w (2 + h))``, ``h = cosh(z) - 1``, ``z = log q``.

    numba has no vector form of ``exp``: ``h`` is the series at ``z / 8``, whose ratios of
    neighbours are ``s[k] (z / 8)^2``, and three doublings, ``cosh(2 x) - 1 = 2 h (h + 2)``;
    exact to a few units in the last place. The ratios are scalars: read from an array within the
    loop, they would keep LLVM from vector code.
    """
    x = (potential - c.threshold) * c.per_width
    w = min(x * x, c.end)
    tail = c.one + w * c.s5 * (c.one + w * c.s6 * (c.one + w * c.s7))
    tail = c.one + w * c.s2 * (c.one + w * c.s3 * (c.one + w * c.s4 * tail))
    h = w * c.s0 * (c.one + w * c.s1 * tail)
    h = c.two * h * (h + c.two)
    h = c.two * h * (h + c.two)
    h = c.two * h * (h + c.two)
    return c.peak / (c.two + h)


@kernel(parallel=True, error_model="numpy")
def _forward(current: Array, c: Constants, spike: Any, spikes: Array) -> None:  # noqa: ANN401
    steps, n = spikes.shape
    constant = current.shape[0] == 1
    silent = spike - spike
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        here = slice(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n))
        synapse = np.zeros(here.stop - here.start, current.dtype)
        membrane = np.zeros(here.stop - here.start, current.dtype)
        for t in range(steps):
            now, s = current[0 if constant else t, here], spikes[t, here]
            for i in range(membrane.size):
                synapse[i] = synapse[i] * c.kept + now[i]
                u = membrane[i] + (synapse[i] * c.weight - membrane[i] * c.leak)
                fired = u > c.threshold
                membrane[i] = c.zero if fired else u
                s[i] = spike if fired else silent


@kernel(error_model="numpy")
def _recompute(
    current: Array, c: Constants, change: Array, potential: Array, output: Array
) -> None:
    """Fill ``d``, ``u`` and the filtered output ``[T, n]`` of a chunk."""
    synapse = np.zeros(change.shape[1], change.dtype)
    membrane = np.zeros(change.shape[1], change.dtype)
    filtered = np.zeros(change.shape[1], change.dtype)
    for t in range(change.shape[0]):
        now = current[0 if current.shape[0] == 1 else t]
        d, u, y = change[t], potential[t], output[t]
        for i in range(synapse.size):
            synapse[i] = synapse[i] * c.kept + now[i]
            new_d = synapse[i] * c.weight - membrane[i] * c.leak
            new_u = membrane[i] + new_d
            fired = new_u > c.threshold
            d[i] = new_d
            u[i] = new_u
            filtered[i] = filtered[i] * c.kept + (c.one if fired else c.zero)
            y[i] = filtered[i] / c.tau_s
            membrane[i] = c.zero if fired else new_u


@kernel(error_model="numpy")
def _widen(row: Array, narrow: bool, wide: Array) -> None:
    """Fill ``wide`` with ``row``: numbers, or the bits of bfloat16, the upper half of float32."""
    if narrow:
        bits = wide.view(np.uint32)
        for i in range(row.size):
            bits[i] = np.uint32(row[i]) << np.uint32(16)
    else:
        for i in range(row.size):
            wide[i] = row[i]


@kernel(parallel=True, error_model="numpy")
def _backward(
    grad_spikes: Array,
    narrow: bool,
    current: Array,
    c: Constants,
    grad_current: Array,
) -> None:
    steps, n = grad_spikes.shape
    constant = current.shape[0] == 1
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        here = slice(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n))
        size = here.stop - here.start
        change = np.empty((steps, size), current.dtype)
        potential, output = np.empty_like(change), np.empty_like(change)
        _recompute(current[:, here], c, change, potential, output)
        carry, later = np.zeros(size, current.dtype), np.zeros(size, current.dtype)
        incoming = np.empty(size, current.dtype)
        if constant:
            grad_current[0, here] = c.zero
        for reverse in range(steps):
            t = steps - 1 - reverse
            out = grad_current[0 if constant else t, here]
            _widen(grad_spikes[t, here], narrow, incoming)
            d, u, y = change[t], potential[t], output[t]
            for i in range(size):
                slope = min(c.one / d[i], c.greatest_slope)
                fired = slope * (incoming[i] + carry[i] * u[i] * c.leak)
                carry[i] = fired if u[i] > c.threshold else carry[i] * c.remains
                silent = incoming[i] * _logistic_slope(u[i], c)
                later[i] = (silent if y[i] < c.recent else carry[i]) + later[i] * c.kept
                grad = later[i] * c.weight
                out[i] = out[i] + grad if constant else grad


def _constants(neuron: TsslBpNeuron, gain: float, dtype: torch.dtype) -> Constants:
    """Return the kernels' constants in ``dtype``, float32 or float64."""
    real = np.float64 if dtype == torch.float64 else np.float32
    return Constants(
        kept=real(1 - 1 / neuron.tau_s),
        weight=real(gain / neuron.tau_s),
        leak=real(1 / neuron.tau_m),
        remains=real(1 - 1 / neuron.tau_m),
        tau_s=real(neuron.tau_s),
        threshold=real(neuron.threshold),
        recent=real(RECENT / neuron.tau_s),
        greatest_slope=real(GREATEST_SLOPE),
        per_width=real(1 / (8 * WIDTH)),
        end=real((GREATEST_ARGUMENT / 8) ** 2),
        peak=real(1 / (2 * WIDTH)),
        zero=real(0),
        one=real(1),
        two=real(2),
        **{f"s{k}": real(1 / ((2 * k + 1) * (2 * k + 2))) for k in range(8)},
    )


class _Scan(torch.autograd.Function):
    """One kernel per direction; only the current is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        current: Tensor,
        time_steps: int,
        neuron: TsslBpNeuron,
        gain: float,
        spike_dtype: torch.dtype,
    ) -> Tensor:
        spikes = empty((time_steps, *current.shape[1:]), current, spike_dtype)
        ctx.constants = _constants(neuron, gain, current.dtype)
        _forward(rows(current), ctx.constants, spike_code(spike_dtype), rows(spikes))
        ctx.save_for_backward(current)
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: ANN401
        (current,) = ctx.saved_tensors
        if current.dtype != torch.float32:  # the kernel widens bfloat16 to float32 alone
            grad_spikes = grad_spikes.to(current.dtype)
        grads = laid_out_like(grad_spikes, current)
        grad, narrow = empty(current.shape, current, current.dtype), grads.dtype == torch.bfloat16
        _backward(rows(grads), narrow, rows(current), ctx.constants, rows(grad))
        return grad, None, None, None, None
