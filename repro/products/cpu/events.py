"""Products that touch spikes alone, with real-valued weights, on the CPU.

Forward, the outputs of a pixel lie in the lanes of a vector, and every spike below the kernel adds
the weights that it meets. The gradient of the weights goes through lists of spikes by channel: the
sum for a channel, a tap and a block of outputs stays in registers while the spikes of some images
add their rows of the output's gradient. Sums are made in one order, whatever the number of threads.
"""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import prange, uint64
from torch import Tensor

from repro.device.compiled import kernel
from repro.products.cpu.codes import (
    JOBS,
    LANES,
    Line,
    Walk,
    by_lane,
    finish_line,
    line_of,
    taps_of,
)
from repro.products.cpu.spikes import words_of
from repro.products.cpu.vector import add, broadcast, item, load, lowest_one, multiply, store
from repro.products.geometry import Geometry
from repro.products.spikes import PackedSpikes

Array = npt.NDArray[Any]

PIXELS = 512  # of the input, so many at a time, or an image: their gradient fits the second cache
BANDS = 4  # at least, of channels and outputs that threads share out


@kernel()
def sum_line(
    spikes: Array,
    weights: Array,
    bits: int,
    block: int,
    factor: Any,  # noqa: ANN401
    line: Line,
    inside: Array,
    sums: Array,
) -> None:
    """Add ``factor * (weights that spikes meet)`` to the sums of a line of outputs.

    Args:
        spikes: Words of all planes of the input.
        weights: ``[groups * taps * words * bits * padded]``.
        bits: Of a word.
        block: First lane of the outputs.
        factor: What a one of this plane counts.
        line: Where; its weights are those of words.
        inside: `taps_inside` by column of the output.
        sums: ``[columns * LANES]``, of the weights' type.
    """
    for x in range(line.columns):
        low, high = item(inside, x), item(inside, line.columns + x)
        total = broadcast(weights.dtype.type(0), LANES)
        for row in range(line.top, line.bottom):
            first = line.spikes + row * line.of_row + x * line.of_column
            weight = line.weights + row * line.weights_of_row
            for tap in range(low, high, line.at_once):
                at, there = first + tap * line.of_tap, weight + tap * line.weights_of_tap
                for word in range(min(line.at_once, high - low) * line.words):
                    left = uint64(item(spikes, at + word))
                    place = (there + word * line.padded) * bits + block
                    while left != uint64(0):
                        channel = lowest_one(left)
                        left &= left - uint64(1)
                        met = load(weights, place + channel * line.padded, LANES)
                        total = add(total, met)
        before = load(sums, x * LANES, LANES)
        store(sums, x * LANES, add(before, multiply(total, broadcast(factor, LANES))))


@kernel(parallel=True)
def _forward(
    spikes: Array,
    weights: Array,
    bits: int,
    walk: Walk,
    inside: tuple[Array, Array],
    bands: int,
    ones: Array,
    bias: Array,
    out: Array,
) -> None:
    """Fill ``out`` ``[N * H' * W' * O]``; arguments as in ``repro.products.cpu.codes._product``."""
    planes, size = spikes.shape
    flat, (by_row, by_column) = spikes.reshape(-1), inside
    blocks, all_outputs = walk.padded // LANES, walk.groups * walk.outputs
    for job in prange(walk.images * walk.out_height * bands):
        row, band = job // bands, job % bands
        sums = np.empty(walk.out_width * LANES, weights.dtype)
        for group in range(walk.groups):
            for block in range(band * blocks // bands, (band + 1) * blocks // bands):
                sums[:] = 0
                for i in range(planes):
                    line = line_of(walk, by_row, row, group, i * size, 0, 0)
                    factor = weights.dtype.type(1 << i)
                    sum_line(flat, weights, bits, block * LANES, factor, line, by_column, sums)
                lane = group * walk.padded + block * LANES
                at = row * walk.out_width * all_outputs + group * walk.outputs + block * LANES
                left = walk.outputs - block * LANES
                finish_line(sums, ones, bias, lane, out, at, all_outputs, left)


@kernel(parallel=True)
def _count(words: Array, bits: int, of_group: int, inner: int, pixels: int, counts: Array) -> None:
    """Fill ``counts`` ``[chunks, C]`` with the spikes by chunk of pixels and channel.

    Args:
        words: ``[rows, groups * of_group]``.
        bits: Of a word.
        of_group: Words of a group.
        inner: Channels of a group.
        pixels: Of a chunk.
        counts: Filled.
    """
    for chunk in prange(counts.shape[0]):
        counts[chunk] = 0
        for pixel in range(chunk * pixels, min(chunk * pixels + pixels, words.shape[0])):
            for word in range(words.shape[1]):
                left = uint64(words[pixel, word])
                base = word // of_group * inner + word % of_group * bits
                while left != uint64(0):
                    counts[chunk, base + lowest_one(left)] += 1
                    left &= left - uint64(1)


@kernel(parallel=True)
def _list(
    words: Array, bits: int, of_group: int, inner: int, pixels: int, ends: Array, positions: Array
) -> None:
    """Fill ``positions`` with the pixels of the spikes, counted in their chunk.

    Args:
        words: As in `_count`, as the next four.
        bits: Of a word.
        of_group: Words of a group.
        inner: Channels of a group.
        pixels: Of a chunk.
        ends: ``[chunks, C]``: where a list begins; moved to its end.
        positions: Filled, by chunk, then by channel.
    """
    for chunk in prange(ends.shape[0]):
        first = chunk * pixels
        for pixel in range(first, min(first + pixels, words.shape[0])):
            for word in range(words.shape[1]):
                left = uint64(words[pixel, word])
                base = word // of_group * inner + word % of_group * bits
                while left != uint64(0):
                    channel = base + lowest_one(left)
                    left &= left - uint64(1)
                    positions[ends[chunk, channel]] = pixel - first
                    ends[chunk, channel] += 1


@kernel()
def sum_rows(
    grad: Array, base: int, positions: Array, first: int, last: int, targets: Array, tap: int
) -> Any:  # noqa: ANN401
    """Return the sum of the rows of a gradient that spikes meet, of 32 outputs.

    Args:
        grad: Rows of outputs.
        base: Where the rows of the chunk begin, for the first of the 32.
        positions: Pixels of spikes.
        first: Of them, the first.
        last: One past the last.
        targets: Where the row of a pixel and a tap is.
        tap: Where those of the tap begin.
    """
    one = broadcast(grad.dtype.type(0), LANES)
    two, three, four = one, one, one
    at = first
    while at + 4 <= last:
        one = add(one, load(grad, base + item(targets, tap + item(positions, at)), LANES))
        two = add(two, load(grad, base + item(targets, tap + item(positions, at + 1)), LANES))
        three = add(three, load(grad, base + item(targets, tap + item(positions, at + 2)), LANES))
        four = add(four, load(grad, base + item(targets, tap + item(positions, at + 3)), LANES))
        at += 4
    while at < last:
        one = add(one, load(grad, base + item(targets, tap + item(positions, at)), LANES))
        at += 1
    return add(add(one, two), add(three, four))


@kernel(parallel=True)
def _weight_gradient(
    positions: Array,
    starts: Array,
    targets: Array,
    grad: Array,
    of_chunk: int,
    walk: Walk,
    bands: int,
    factor: Any,  # noqa: ANN401
    out: Array,
) -> None:
    """Add to ``out`` ``[C * taps * padded]``.

    Args:
        positions: Spikes by chunk and channel.
        starts: ``[chunks, C + 1]``.
        targets: ``[taps * pixels]``: the row of a pixel of a chunk, in numbers of ``grad``.
        grad: Rows of ``groups * padded`` outputs; those that no pixel meets are 0.
        of_chunk: Numbers of ``grad`` that belong to a chunk.
        walk: Sizes.
        bands: Parts of the channels.
        factor: What a one of this plane counts.
        out: Sums.
    """
    chunks, channels = starts.shape[0], starts.shape[1] - 1
    taps, blocks = walk.rows * walk.taps, walk.padded // LANES
    pixels, inner = targets.size // taps, channels // walk.groups
    for job in prange(blocks * bands):
        block, band = job // bands, job % bands
        for chunk in range(chunks):
            for channel in range(band * channels // bands, (band + 1) * channels // bands):
                first, last = starts[chunk, channel], starts[chunk, channel + 1]
                if first == last:
                    continue
                base = chunk * of_chunk + channel // inner * walk.padded + block * LANES
                for tap in range(taps):
                    total = sum_rows(grad, base, positions, first, last, targets, tap * pixels)
                    at = (channel * taps + tap) * walk.padded + block * LANES
                    total = multiply(total, broadcast(factor, LANES))
                    store(out, at, add(load(out, at, LANES), total))


def walk_of(spikes: PackedSpikes, shape: tuple[int, ...], geometry: Geometry) -> Walk:
    """Return the sizes of a product with a weight ``[O, C / groups, kernel height, kernel width]``.

    Raises:
        ValueError: The spikes are packed for other groups or channels.
    """
    images, channels, height, width = spikes.shape
    outputs, inner, rows, taps = shape
    if spikes.groups != geometry.groups or channels != inner * geometry.groups:
        raise ValueError(
            f"spikes of {channels} channels in {spikes.groups} groups for a weight of {inner} "
            f"channels in {geometry.groups}: pack them by the groups of the layer"
        )
    per_group = outputs // geometry.groups
    return Walk(
        *(images, height, width, spikes.planes.shape[-1] // spikes.groups, spikes.groups),
        *(rows, taps, *geometry.stride, *geometry.padding, *geometry.dilation),
        *geometry.outputs(height, width),
        *(per_group, -(-per_group // LANES) * LANES),
    )


def forward(
    spikes: PackedSpikes, weight: Tensor, geometry: Geometry, bias: Tensor | None
) -> Tensor:
    """Return the product; see ``repro.products.dispatch.sum_of_events``."""
    walk = walk_of(spikes, tuple(weight.shape), geometry)
    outputs, inner, rows, taps = weight.shape
    per_word = walk.words * spikes.bits
    laid_out = weight.new_zeros(walk.groups, rows, taps, per_word, walk.padded)
    by_group = weight.detach().view(walk.groups, walk.outputs, inner, rows, taps)
    laid_out[..., :inner, : walk.outputs] = by_group.permute(0, 3, 4, 2, 1)
    shape = (walk.images, walk.out_height, walk.out_width, outputs)
    out = torch.empty(shape, dtype=weight.dtype)
    lines = max(1, walk.images * walk.out_height)
    _forward(
        words_of(spikes.planes).reshape(len(spikes.planes), -1),
        laid_out.view(-1).numpy(),
        spikes.bits,
        walk,
        taps_of(walk),
        min(walk.padded // LANES, -(-JOBS // lines)),
        by_lane(torch.ones((), dtype=weight.dtype), walk),
        by_lane(torch.zeros((), dtype=weight.dtype) if bias is None else bias, walk),
        out.numpy().reshape(-1),
    )
    return out.permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=256)
def targets_of(walk: Walk, images: int) -> Array:
    """Return ``[taps * pixels]``: where the gradient's row of a pixel of a chunk and a tap is.

    Rows are those of the chunk's images, ``H' * W'`` and one of zeros each, which a tap leads to
    that leaves the maps or falls between the strides.
    """
    axes = []
    for size, out, kernel_size, stride, padding, distance in (
        (walk.height, walk.out_height, walk.rows, walk.down, walk.above, walk.row_distance),
        (walk.width, walk.out_width, walk.taps, walk.right, walk.left, walk.tap_distance),
    ):
        reach = np.arange(size) + padding - np.arange(kernel_size)[:, None] * distance
        met = (reach % stride == 0) & (reach >= 0) & (reach < out * stride)
        axes.append(np.where(met, reach // stride, -1))
    down, right = axes[0][:, None, :, None], axes[1][None, :, None, :]
    zeros = walk.out_height * walk.out_width
    of_image = np.where((down < 0) | (right < 0), zeros, down * walk.out_width + right)
    of_image = of_image.reshape(walk.rows * walk.taps, 1, -1)
    rows = np.arange(images)[:, None] * (zeros + 1) + of_image
    targets: Array = rows.reshape(-1) * (walk.groups * walk.padded)
    return targets


def weight_gradient(
    grad: Tensor, spikes: PackedSpikes, geometry: Geometry, shape: tuple[int, ...]
) -> Tensor:
    """Return the gradient of the weight; see ``repro.products.dispatch.weight_gradient``."""
    walk = walk_of(spikes, shape, geometry)
    _, inner, rows, taps = shape
    channels, places = inner * walk.groups, walk.out_height * walk.out_width
    images = max(1, PIXELS // max(1, walk.height * walk.width))
    lanes = walk.groups * walk.padded
    laid_out = grad.new_empty(walk.images, places + 1, walk.groups, walk.padded)
    laid_out[:, places:], laid_out[..., walk.outputs :] = 0, 0
    by_group = grad.permute(0, 2, 3, 1).reshape(walk.images, places, walk.groups, walk.outputs)
    laid_out[:, :places, :, : walk.outputs] = by_group
    sums = grad.new_zeros(channels, rows * taps, walk.padded)
    bands = min(channels, -(-BANDS * LANES // walk.padded))
    for i, plane in enumerate(words_of(spikes.planes)):
        words = plane.reshape(-1, plane.shape[-1])
        pixels = images * walk.height * walk.width
        counts = np.empty((-(-len(words) // max(1, pixels)), channels), np.int64)
        how = (words, spikes.bits, walk.words, inner, pixels)
        _count(*how, counts)
        ends = np.cumsum(counts).reshape(counts.shape)
        starts = np.empty((len(counts), channels + 1), np.int64)
        starts[:, :-1], starts[:, -1] = ends - counts, ends[:, -1] if channels else 0
        positions = np.empty(int(counts.sum()), np.int32)
        _list(*how, starts[:, :-1].copy(), positions)
        _weight_gradient(
            positions,
            starts,
            targets_of(walk._replace(images=0), images),
            laid_out.view(-1).numpy(),
            images * (places + 1) * lanes,
            walk,
            bands,
            laid_out.numpy().dtype.type(1 << i),
            sums.view(-1).numpy(),
        )
    by_channel = sums.view(walk.groups, inner, rows, taps, walk.padded)[..., : walk.outputs]
    return by_channel.permute(0, 4, 1, 2, 3).reshape(shape)
