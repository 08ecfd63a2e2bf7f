"""Neurons whose spikes leave as bits, on the CPU, for inference: no gradient goes through.

A step works on 32 neurons at a time, whose currents and states are in registers; the spikes are the
bits of one number. It computes what the kernels of ``stbp``, ``tssl_bp`` and ``integrate_and_fire``
beside it compute, operation by operation. `counted` has the currents from the layer itself: a line
of outputs after the other, all time steps of it at once, so that no current is ever in memory.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import prange, uint64
from torch import Tensor

from repro.device.compiled import kernel
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.stbp import StbpNeuron
from repro.neurons.tssl_bp import TsslBpNeuron
from repro.products.cpu.codes import (
    JOBS,
    LANES,
    Walk,
    by_lane,
    count_line,
    line_of,
    taps_of,
    walk_of,
)
from repro.products.cpu.spikes import words_of
from repro.products.cpu.vector import (
    add,
    bits_at_least,
    bits_greater,
    broadcast,
    cast,
    load,
    load_first,
    multiply,
    store,
    subtract,
    where_at_least,
    where_greater,
)
from repro.products.layer import CodedLayer
from repro.products.spikes import WORDS, PackedSpikes

Array = npt.NDArray[Any]
Neuron = IntegrateAndFire | StbpNeuron | TsslBpNeuron

INTEGRATE_AND_FIRE, STBP, TSSL_BP = 0, 1, 2
PIXELS: Final = 16  # that a thread works on at a time


class Kind(NamedTuple):
    """A neuron for the kernels; all but the first two are numbers of the currents' type.

    Attributes:
        number: Which kind.
        states: Numbers that it keeps from step to step.
        threshold: Of the potential.
        shift: Added at every step, of integrate-and-fire neurons.
        decay: Of STBP's.
        kept: Of the synapses of TSSL-BP's, as the next two.
        weight: Of what has passed the synapse.
        leak: Of the membrane.
    """

    number: int
    states: int
    threshold: Any
    shift: Any
    decay: Any
    kept: Any
    weight: Any
    leak: Any


def kind_of(neuron: Neuron, time_steps: int, gain: float, dtype: torch.dtype) -> Kind:
    """Return what the kernels need of a neuron whose currents have a type."""
    real = np.float64 if dtype == torch.float64 else np.float32
    nothing = real(0)
    threshold = real(neuron.threshold)
    if isinstance(neuron, IntegrateAndFire):
        shift = real(neuron.shift(time_steps))
        return Kind(INTEGRATE_AND_FIRE, 1, threshold, shift, *(nothing,) * 4)
    if isinstance(neuron, StbpNeuron):
        return Kind(STBP, 1, threshold, nothing, real(neuron.decay), *(nothing,) * 3)
    kept, weight, leak = 1 - 1 / neuron.tau_s, gain / neuron.tau_s, 1 / neuron.tau_m
    rates = (real(kept), real(weight), real(leak))
    return Kind(TSSL_BP, 2, threshold, nothing, nothing, *rates)


@kernel(inline="always")
def step(now: Any, state: Array, at: int, size: int, kind: Kind) -> Any:  # noqa: ANN401
    """Return which of 32 neurons fire, in the bits of a number, and move their states on.

    Args:
        now: Their currents.
        state: ``[states * size]``.
        at: Where the 32 are.
        size: Neurons that the state has room for.
        kind: Which neurons.
    """
    threshold = broadcast(kind.threshold, LANES)
    before = load(state, at, LANES)
    if kind.number == INTEGRATE_AND_FIRE:
        potential = add(add(before, now), broadcast(kind.shift, LANES))
        fired = bits_at_least(potential, threshold)
        lowered = subtract(potential, threshold)
        after = where_at_least(potential, threshold, lowered, potential)
        store(state, at, after)
    elif kind.number == STBP:
        potential = add(before, now)
        fired = bits_greater(potential, threshold)
        decayed = multiply(broadcast(kind.decay, LANES), potential)
        after = where_greater(potential, threshold, subtract(threshold, threshold), decayed)
        store(state, at, after)
    else:
        synapse = add(multiply(before, broadcast(kind.kept, LANES)), now)
        store(state, at, synapse)
        membrane = load(state, size + at, LANES)
        through = multiply(synapse, broadcast(kind.weight, LANES))
        leaked = multiply(membrane, broadcast(kind.leak, LANES))
        potential = add(membrane, subtract(through, leaked))
        fired = bits_greater(potential, threshold)
        after = where_greater(potential, threshold, subtract(threshold, threshold), potential)
        store(state, size + at, after)
    return fired


@kernel(inline="always")
def first_bits(count: int) -> Any:  # noqa: ANN401
    """Return a number whose lowest bits are set."""
    return (uint64(1) << uint64(min(count, LANES))) - uint64(1)


@kernel(parallel=True)
def _scan(
    current: Array, initial: Array, kind: Kind, channels: int, units: int, out: Array
) -> None:
    """Fill ``out`` ``[T, pixels * units]``.

    Args:
        current: ``[T, pixels * channels]``, or ``[1, ...]`` if it is constant.
        initial: First state before the first step ``[pixels * channels]``, or ``[0]`` for 0.
        kind: Which neurons.
        channels: Of a pixel.
        units: Parts of 32 bits, or 16, of a pixel.
        out: Filled.
    """
    steps, pixels, padded = out.shape[0], out.shape[1] // units, units * LANES
    constant = current.shape[0] == 1
    flat, length = current.reshape(-1), current.shape[1]
    for chunk in prange((pixels + PIXELS - 1) // PIXELS):
        first, last = chunk * PIXELS, min(chunk * PIXELS + PIXELS, pixels)
        size = (last - first) * padded
        state = np.zeros(kind.states * size, current.dtype)
        if initial.size > 0:
            for pixel in range(last - first):
                begin = (first + pixel) * channels
                state[pixel * padded : pixel * padded + channels] = initial[
                    begin : begin + channels
                ]
        for t in range(steps):
            line = 0 if constant else t * length
            for pixel in range(last - first):
                for unit in range(units):
                    at, left = (first + pixel) * channels + unit * LANES, channels - unit * LANES
                    fired = uint64(0)
                    if left > 0:
                        if left >= LANES:
                            now = load(flat, line + at, LANES)
                        else:
                            now = load_first(flat, line + at, LANES, left)
                        place = pixel * padded + unit * LANES
                        fired = step(now, state, place, size, kind) & first_bits(left)
                    out[t, (first + pixel) * units + unit] = fired


@kernel()
def fire_line(
    sums: Array,
    factor: Any,  # noqa: ANN401
    added: Any,  # noqa: ANN401
    state: Array,
    kind: Kind,
    left: int,
    out: Array,
    at: int,
    units: int,
) -> None:
    """Let the neurons behind a line of outputs, 32 of every pixel, take a step.

    Args:
        sums: Of codes, ``[columns * LANES]``.
        factor: Scales of the outputs.
        added: Their biases.
        state: ``[states * columns * LANES]``.
        kind: Which neurons.
        left: How many of the 32 there are.
        out: Filled with their spikes.
        at: Where those of the first column go.
        units: From column to column.
    """
    for x in range(sums.size // LANES):
        values = cast(load(sums, x * LANES, LANES), state.dtype)
        now = add(multiply(values, factor), added)
        fired = step(now, state, x * LANES, sums.size, kind)
        out[at + x * units] = fired & first_bits(left)


@kernel(parallel=True)
def _counted(
    spikes: Array,
    weights: Array,
    shifts: Array,
    least: int,
    walk: Walk,
    inside: tuple[Array, Array],
    bands: int,
    scale: Array,
    bias: Array,
    steps: int,
    kind: Kind,
    units: int,
    out: Array,
) -> None:
    """Fill ``out`` ``[T * B * H' * W' * units]``; see ``repro.products.cpu.codes``."""
    planes, size = spikes.shape
    flat, (by_row, by_column) = spikes.reshape(-1), inside
    of_plane, blocks = weights.size // shifts.size, walk.padded // LANES
    lines = walk.images // steps * walk.out_height
    for job in prange(lines * bands):
        row, band = job // bands, job % bands
        sums = np.empty(walk.out_width * LANES, np.int32)
        state = np.empty(kind.states * sums.size, scale.dtype)
        for block in range(band * blocks // bands, (band + 1) * blocks // bands):
            lane, left = block * LANES, walk.outputs - block * LANES
            factor, added = load(scale, lane, LANES), load(bias, lane, LANES)
            state[:] = 0
            for t in range(steps):
                sums[:] = 0
                for i in range(planes):
                    for j in range(shifts.size):
                        here = line_of(
                            walk, by_row, t * lines + row, 0, i * size, j * of_plane, block
                        )
                        low = (least << i) if j == 0 else 0
                        count_line(flat, weights, shifts[j] + i, low, here, by_column, sums)
                at = (t * lines + row) * walk.out_width * units + block
                fire_line(sums, factor, added, state, kind, left, out, at, units)


def empty_bits(shape: tuple[int, int, int], channels: int, bits: int) -> PackedSpikes:
    """Return room for the spikes of ``[N, H, W]`` pixels, not filled, padding 0."""
    words = -(-channels // bits)
    make = torch.zeros if bits == 64 and channels % 64 in range(1, 33) else torch.empty
    return PackedSpikes(make((1, *shape, words), dtype=WORDS[bits]), channels)


def units_of(spikes: PackedSpikes) -> Array:
    """Return the spikes' memory in parts of 32 bits, or 16, the lowest first."""
    words = words_of(spikes.planes)
    array: Array = words.view(np.uint16 if spikes.bits == 16 else np.uint32).reshape(-1)
    return array


def units_of_pixel(spikes: PackedSpikes) -> int:
    """Return how many of those parts a pixel has."""
    return spikes.planes.shape[-1] * max(1, spikes.bits // 32)


def scan(
    current: Tensor,
    time_steps: int,
    neuron: Neuron,
    bits: int,
    gain: float = 1.0,
    initial: Tensor | None = None,
) -> PackedSpikes:
    """Return the spikes of all time steps as bits, ``[T * B, ...]``.

    Args:
        current: ``[T, B, C, H, W]`` or ``[T, B, C]``, or one step of a constant current.
        time_steps: T.
        neuron: Constants.
        bits: Of a word.
        gain: Factor on the current, of TSSL-BP's neurons.
        initial: Potential before the first step, to be broadcast to ``current[0]``; 0 if None.
    """
    maps = current.detach().reshape(*current.shape[:3], *(current.shape[3:] or (1, 1)))
    steps, images, channels, height, width = maps.shape
    rows = (
        maps.permute(0, 1, 3, 4, 2)
        .contiguous()
        .view(steps, images * height * width * channels)
        .numpy()
    )
    spikes = empty_bits((time_steps * images, height, width), channels, bits)
    start = rows[0, :0]
    if initial is not None:
        full = initial.expand(images, channels, height, width)
        start = full.permute(0, 2, 3, 1).contiguous().view(-1).numpy()
    pixels, of_pixel = images * height * width, units_of_pixel(spikes)
    kind = kind_of(neuron, time_steps, gain, current.dtype)
    _scan(
        rows,
        start,
        kind,
        channels,
        of_pixel,
        units_of(spikes).reshape(time_steps, pixels * of_pixel),
    )
    return spikes


def counted(
    spikes: PackedSpikes,
    layer: CodedLayer,
    time_steps: int,
    neuron: Neuron,
    bits: int,
    gain: float = 1.0,
) -> PackedSpikes:
    """Return the spikes of the neurons behind a quantised layer, ``[T * B, ...]``.

    Args:
        spikes: Input of all time steps, ``[T * B, ...]``.
        layer: The layer, one group of channels.
        time_steps: T.
        neuron: Constants of the neurons.
        bits: Of a word of the result.
        gain: Factor on the currents, of TSSL-BP's neurons.
    """
    now, bias = layer.coded(), layer.bias
    codes, dtype = now.codes, now.scale.dtype
    walk = walk_of(spikes, codes, layer.geometry)
    shape = (walk.images, walk.out_height, walk.out_width)
    fired = empty_bits(shape, walk.outputs, bits)
    lines = max(1, walk.images // time_steps * walk.out_height)
    _counted(
        words_of(spikes.planes).reshape(len(spikes.planes), -1),
        words_of(codes.planes).reshape(-1),
        np.array(codes.shifts, np.int64),
        codes.least,
        walk,
        taps_of(walk),
        min(walk.padded // LANES, -(-JOBS // lines)),
        by_lane(now.scale, walk),
        by_lane(bias if isinstance(bias, Tensor) else torch.zeros((), dtype=dtype), walk),
        time_steps,
        kind_of(neuron, time_steps, gain, dtype),
        units_of_pixel(fired),
        units_of(fired),
    )
    return fired
