"""Kernels of batch normalisation, hard-reset neurons and the SEW connection, in one pass each.

Arrays are ``[T, N]`` views whose rows are channels-last: channel ``i % C`` stands at ``i``.
``gain`` and ``offset`` are repeated over a chunk, whose length is a multiple of C, so that the
innermost loops run over memory in order. Chunks depend on N and C alone, so results do not depend
on the number of threads. See ``repro.neurons.normed_plif`` for what is computed.
"""

import math

import numpy as np
from numba import prange

from repro.device.compiled import kernel
from repro.neurons.cpu.memory import Array

PIECES = 64  # of a sum over all elements
NONE, ADD, AND, IAND = 0, 1, 2, 3


@kernel()
def _charge(
    now: Array, gain: Array, offset: Array, leak: float, leaky: bool, v: Array, h: Array
) -> None:
    """Fill ``h`` with the potential before the reset; move ``v`` on."""
    zero, one = leak - leak, h.dtype.type(1)
    for i in range(v.size):
        x = now[i] * gain[i] + offset[i]
        charged = v[i] + ((x - v[i]) * leak if leaky else x)
        h[i] = charged
        v[i] = zero if charged >= one else charged


@kernel()
def _connect(h: Array, shortcut: Array, connection: int, out: Array) -> None:
    """Fill ``out`` with spikes and shortcut, combined."""
    zero, one = out.dtype.type(0), out.dtype.type(1)
    threshold = h.dtype.type(1)
    if connection == NONE:
        for i in range(h.size):
            out[i] = one if h[i] >= threshold else zero
    elif connection == ADD:
        for i in range(h.size):
            out[i] = shortcut[i] + (one if h[i] >= threshold else zero)
    elif connection == AND:
        for i in range(h.size):
            out[i] = shortcut[i] if h[i] >= threshold else zero
    else:
        for i in range(h.size):
            out[i] = zero if h[i] >= threshold else shortcut[i]


@kernel(error_model="numpy")  # else a check for 0 keeps divisions from vector code
def _through_spike(h: Array, alpha: float, grad: Array, later: Array, to_h: Array) -> None:
    """Fill the gradient of ``h`` from that of the spikes; add that of the next step.

    ``to_h`` may be ``grad`` itself.
    """
    zero, one = alpha - alpha, h.dtype.type(1)
    height = alpha / h.dtype.type(2)
    steepness = h.dtype.type(math.pi) * height
    for i in range(h.size):
        distance = steepness * (h[i] - one)
        slope = height / (one + distance * distance)
        to_h[i] = grad[i] * slope + (zero if h[i] >= one else later[i])


@kernel()
def _to_leak(h: Array, before: Array, has_before: bool, to_h: Array, to_leak: Array) -> None:
    """Add ``to_h * (h - v)``, the leak times its own gradient; v is the potential before."""
    zero, one = h.dtype.type(0), h.dtype.type(1)
    if has_before:
        for i in range(h.size):
            v = zero if before[i] >= one else before[i]
            to_leak[i] += to_h[i] * (h[i] - v)
    else:
        for i in range(h.size):
            to_leak[i] += to_h[i] * h[i]


@kernel()
def _fold(summed: Array, by_channel: Array) -> None:
    """Fill ``by_channel`` ``[3, C]`` with the sums over all pixels of ``[3, pixels * C]``.

    An even number of pixels is added in halves, which overwrites ``summed``: long inner loops.
    """
    channels = by_channel.shape[1]
    for k in range(summed.shape[0]):
        row, out, n = summed[k], by_channel[k], summed.shape[1]
        while n > channels and n // channels % 2 == 0:
            n //= 2
            first, second = row[:n], row[n : 2 * n]
            for i in range(n):
                first[i] += second[i]
        for c in range(channels):
            out[c] = 0.0
        for start in range(0, n, channels):
            for c in range(channels):
                out[c] += row[start + c]


@kernel(parallel=True)
def forward(
    maps: Array,
    gain: Array,
    offset: Array,
    leak: float,
    leaky: bool,
    shortcut: Array,
    connection: int,
    out: Array,
) -> None:
    """Fill ``out`` ``[T, N]`` from maps ``[T, N]`` or ``[1, N]``.

    Args:
        maps: What is normalised: the neurons' current is ``maps * gain + offset``.
        gain: ``[chunk]``.
        offset: ``[chunk]``.
        leak: Of a PLIF neuron.
        leaky: Whether it is one; otherwise an IF neuron.
        shortcut: ``[T, N]``; ``[T, 0]`` with the connection NONE.
        connection: How spikes and shortcut combine.
        out: Filled.
    """
    steps, n = out.shape
    constant, chunk = maps.shape[0] == 1, gain.size
    for piece in prange((n + chunk - 1) // chunk):
        start, stop = piece * chunk, min(piece * chunk + chunk, n)
        v = np.zeros(stop - start, maps.dtype)
        h = np.empty(stop - start, maps.dtype)
        for t in range(steps):
            _charge(maps[0 if constant else t, start:stop], gain, offset, leak, leaky, v, h)
            other = shortcut[t, start:stop] if connection != NONE else shortcut[t, 0:0]
            _connect(h, other, connection, out[t, start:stop])


@kernel(parallel=True)
def backward(
    grad_out: Array,
    maps: Array,
    gain: Array,
    offset: Array,
    leak: float,
    leaky: bool,
    alpha: float,
    shortcut: Array,
    connection: int,
    grad_current: Array,
    grad_shortcut: Array,
    sums: Array,
) -> None:
    """Fill the gradients of current and shortcut, and sums of the former, from that of ``out``.

    Arguments are those of ``forward``, from whose maps potentials are computed again, the steepness
    ``alpha`` of the arctan surrogate, and, to be filled: ``grad_current`` ``[T, N]`` or, for
    constant maps, its sum over time ``[1, N]``; ``grad_shortcut`` ``[T, N]`` with AND and IAND,
    which alone read the shortcut (ADD passes ``grad_out`` on); ``sums`` ``[chunks, 3, C]``,
    float64: by channel, the gradient of the current, that times the map, and the leak times its
    gradient.
    """
    steps, n = grad_out.shape
    constant, chunk = maps.shape[0] == 1, gain.size
    zero, one = leak - leak, maps.dtype.type(1)
    share, kept = (leak, one - leak) if leaky else (one, one)
    for piece in prange((n + chunk - 1) // chunk):
        start, stop = piece * chunk, min(piece * chunk + chunk, n)
        size = stop - start
        carried, later = np.zeros(size, maps.dtype), np.zeros(size, maps.dtype)
        hs = np.empty((steps, size), maps.dtype)
        to_h = np.empty(size, maps.dtype)
        summed = np.zeros((3, size), maps.dtype)
        total, product, to_leak = summed[0], summed[1], summed[2]
        for t in range(steps):
            now = maps[0 if constant else t, start:stop]
            _charge(now, gain, offset, leak, leaky, carried, hs[t])
        if constant:
            grad_current[0, start:stop] = zero
        for reverse in range(steps):
            t = steps - 1 - reverse
            h, now = hs[t], maps[0 if constant else t, start:stop]
            grad, out = grad_out[t, start:stop], grad_current[0 if constant else t, start:stop]
            if connection == AND:
                other, to_other = shortcut[t, start:stop], grad_shortcut[t, start:stop]
                for i in range(size):
                    to_h[i] = grad[i] * other[i]
                    to_other[i] = grad[i] if h[i] >= one else zero
            elif connection == IAND:
                other, to_other = shortcut[t, start:stop], grad_shortcut[t, start:stop]
                for i in range(size):
                    to_h[i] = -grad[i] * other[i]
                    to_other[i] = zero if h[i] >= one else grad[i]
            incoming = to_h if connection in (AND, IAND) else grad
            _through_spike(h, alpha, incoming, later, to_h)
            if leaky:
                _to_leak(h, hs[max(t - 1, 0)], t > 0, to_h, to_leak)
            to_x = carried if constant else out
            for i in range(size):
                to_x[i] = to_h[i] * share
                later[i] = to_h[i] * kept
            for i in range(size):
                total[i] += to_x[i]
                product[i] += to_x[i] * now[i]
            if constant:
                for i in range(size):
                    out[i] += to_x[i]
        _fold(summed, sums[piece])


@kernel(parallel=True)
def through_norm(grad: Array, maps: Array, a: Array, b: Array, c: Array) -> None:
    """Replace ``grad`` ``[R, N]`` by ``a * grad + b * maps + c``; coefficients ``[chunk]``."""
    rows, n = grad.shape
    chunk = a.size
    pieces = (n + chunk - 1) // chunk
    for job in prange(rows * pieces):
        row, piece = job // pieces, job % pieces
        start, stop = piece * chunk, min(piece * chunk + chunk, n)
        g, m = grad[row, start:stop], maps[row, start:stop]
        for i in range(stop - start):
            g[i] = a[i] * g[i] + b[i] * m[i] + c[i]


@kernel(parallel=True)
def moments(maps: Array, shift: Array, sums: Array) -> None:
    """Fill ``sums`` ``[PIECES, 2, chunk]``: sums of ``maps - shift`` and of its square, float64.

    Args:
        maps: ``[R, N]``.
        shift: ``[chunk]``, near the mean, so that nothing cancels.
        sums: Filled, of every place in a chunk.
    """
    rows, n = maps.shape
    chunk = shift.size
    pieces = (n + chunk - 1) // chunk
    jobs = rows * pieces
    for block in prange(PIECES):
        first, second = sums[block, 0], sums[block, 1]
        first[:] = 0.0
        second[:] = 0.0
        for job in range(block * jobs // PIECES, (block + 1) * jobs // PIECES):
            row, piece = job // pieces, job % pieces
            start, stop = piece * chunk, min(piece * chunk + chunk, n)
            now = maps[row, start:stop]
            for i in range(stop - start):
                value = np.float64(now[i] - shift[i])
                first[i] += value
                second[i] += value * value
