"""Sums of codes by counting bits on the CPU; see ``repro.products.codes``.

The outputs of a group lie in the lanes of a vector: a word of spikes meets the words of 32 outputs
at once, and what the two have in common is counted (`count_bits`, one instruction where there is
AVX-512 VPOPCNTDQ, a few elsewhere). Whole numbers do not depend on the number of threads.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import int32, prange
from torch import Tensor

from repro.device.compiled import kernel
from repro.products.codes import PackedCodes, shifts_of
from repro.products.cpu.spikes import rows_of, to_bits, unpack, words_of
from repro.products.cpu.vector import (
    add,
    bit_and,
    broadcast,
    cast,
    count_bits,
    item,
    load,
    multiply,
    ones_in,
    shift_left,
    store,
    store_first,
)
from repro.products.geometry import Geometry
from repro.products.spikes import PLANES, WORDS, PackedSpikes

Array = npt.NDArray[Any]

LANES = 32  # outputs at a time
JOBS = 16  # at least so many, or as many as there are, so that threads have something to share


class Walk(NamedTuple):
    """Sizes of a product: maps, kernel, and how it walks.

    Attributes:
        images: N.
        height: Of the input, as the next.
        width: Of the input.
        words: Of a group's channels in a pixel.
        groups: Groups of channels.
        rows: Of the kernel.
        taps: Of the kernel from left to right.
        down: Stride of the rows.
        right: Stride in a row.
        above: Zeros above the maps.
        left: Zeros at their left.
        row_distance: Of the kernel's rows.
        tap_distance: Of its taps.
        out_height: Of the output.
        out_width: Of the output.
        outputs: Of a group.
        padded: The same, up to a multiple of ``LANES``.
    """

    images: int
    height: int
    width: int
    words: int
    groups: int
    rows: int
    taps: int
    down: int
    right: int
    above: int
    left: int
    row_distance: int
    tap_distance: int
    out_height: int
    out_width: int
    outputs: int
    padded: int


class Line(NamedTuple):
    """A line of outputs of one image, of a group and a block of lanes.

    Attributes:
        columns: Outputs from left to right.
        top: First row of the kernel inside the maps.
        bottom: One past the last.
        spikes: Where the input of the first output begins, as if all of the kernel were inside.
        weights: Where the weights begin.
        of_row: Words of the input from one row of the kernel to the next.
        of_column: From one output to the next.
        of_tap: From one tap to the next.
        weights_of_row: Of the weights, from row to row.
        weights_of_tap: From tap to tap.
        at_once: Taps whose words follow each other.
        words: Of a group's channels in a pixel.
        padded: Of the weights, from word to word.
    """

    columns: int
    top: int
    bottom: int
    spikes: int
    weights: int
    of_row: int
    of_column: int
    of_tap: int
    weights_of_row: int
    weights_of_tap: int
    at_once: int
    words: int
    padded: int


@kernel()
def line_of(
    walk: Walk, inside: Array, row: int, group: int, plane: int, weights: int, block: int
) -> Line:
    """Return where a line of outputs is.

    Args:
        walk: Sizes.
        inside: `taps_inside` by row of the output.
        row: Of the outputs of all images.
        group: Which.
        plane: Where the plane of the input begins.
        weights: Where that of the weights begins.
        block: Of lanes.
    """
    image, y = row // walk.out_height, row % walk.out_height
    pixel = walk.groups * walk.words
    start = (image * walk.height + y * walk.down - walk.above) * walk.width - walk.left
    of_tap = walk.words * walk.padded
    follow = walk.tap_distance == 1 and walk.groups == 1
    return Line(
        walk.out_width,
        inside[0, y],
        inside[1, y],
        plane + start * pixel + group * walk.words,
        weights + group * walk.rows * walk.taps * of_tap + block * LANES,
        walk.row_distance * walk.width * pixel,
        walk.right * pixel,
        walk.tap_distance * pixel,
        walk.taps * of_tap,
        of_tap,
        walk.taps if follow else 1,
        walk.words,
        walk.padded,
    )


@kernel()
def count_line(
    spikes: Array, weights: Array, shift: int, least: int, line: Line, inside: Array, sums: Array
) -> None:
    """Add ``2^shift * (bits in common) + least * ones`` to the sums of a line of outputs.

    Args:
        spikes: Words of all planes of the input.
        weights: Words of all planes.
        shift: What a bit counts, that of the weight and of the input together.
        least: What a one of the input counts by itself.
        line: Where.
        inside: `taps_inside` by column of the output.
        sums: ``[columns * LANES]``, int32.
    """
    for x in range(line.columns):
        low, high = item(inside, x), item(inside, line.columns + x)
        total = broadcast(weights.dtype.type(0), LANES)
        ones = 0
        for row in range(line.top, line.bottom):
            first = line.spikes + row * line.of_row + x * line.of_column
            weight = line.weights + row * line.weights_of_row
            for tap in range(low, high, line.at_once):
                at, there = first + tap * line.of_tap, weight + tap * line.weights_of_tap
                for word in range(min(line.at_once, high - low) * line.words):
                    bits = item(spikes, at + word)
                    ones += ones_in(bits)
                    other = load(weights, there + word * line.padded, LANES)
                    total = add(total, count_bits(bit_and(broadcast(bits, LANES), other)))
        counted = add(shift_left(cast(total, int32), shift), broadcast(int32(least * ones), LANES))
        store(sums, x * LANES, add(load(sums, x * LANES, LANES), counted))


@kernel()
def finish_line(
    sums: Array, scale: Array, bias: Array, lane: int, out: Array, at: int, step: int, outputs: int
) -> None:
    """Write ``sums * scale + bias`` of 32 outputs, or as many as there are, of a line."""
    factor, added = load(scale, lane, LANES), load(bias, lane, LANES)
    for x in range(sums.size // LANES):
        values = multiply(cast(load(sums, x * LANES, LANES), out.dtype), factor)
        values = add(values, added)
        if outputs >= LANES:
            store(out, at + x * step, values)
        else:
            store_first(out, at + x * step, values, outputs)


@kernel(parallel=True)
def _product(
    spikes: Array,
    weights: Array,
    shifts: Array,
    least: int,
    walk: Walk,
    inside: tuple[Array, Array],
    bands: int,
    scale: Array,
    bias: Array,
    out: Array,
) -> None:
    """Fill ``out`` ``[N * H' * W' * O]``.

    Args:
        spikes: ``[P, N * H * W * groups * words]``, unsigned.
        weights: ``[J * groups * taps * words * padded]``, unsigned.
        shifts: ``[J]``.
        least: Least code.
        walk: Sizes.
        inside: `taps_inside` by row and by column of the output.
        bands: In so many parts the outputs of a group are shared out, beside the rows.
        scale: ``[groups * padded]``, of the type of ``out``.
        bias: As ``scale``.
        out: Filled.
    """
    planes, size = spikes.shape
    flat, (by_row, by_column) = spikes.reshape(-1), inside
    of_plane, blocks = weights.size // shifts.size, walk.padded // LANES
    all_outputs = walk.groups * walk.outputs
    for job in prange(walk.images * walk.out_height * bands):
        row, band = job // bands, job % bands
        sums = np.empty(walk.out_width * LANES, np.int32)
        for group in range(walk.groups):
            for block in range(band * blocks // bands, (band + 1) * blocks // bands):
                lane = group * walk.padded + block * LANES
                sums[:] = 0
                for i in range(planes):
                    for j in range(shifts.size):
                        line = line_of(walk, by_row, row, group, i * size, j * of_plane, block)
                        low = (least << i) if j == 0 else 0
                        count_line(flat, weights, shifts[j] + i, low, line, by_column, sums)
                at = row * walk.out_width * all_outputs + group * walk.outputs + block * LANES
                left = walk.outputs - block * LANES
                finish_line(sums, scale, bias, lane, out, at, all_outputs, left)


def walk_of(spikes: PackedSpikes, codes: PackedCodes, geometry: Geometry) -> Walk:
    """Return the sizes of a product.

    Raises:
        ValueError: Spikes and codes are packed differently.
    """
    images, channels, height, width = spikes.shape
    outputs, inner, rows, taps = codes.shape
    same = spikes.planes.dtype == codes.planes.dtype and spikes.groups == codes.groups
    if not same or channels != inner * codes.groups:
        raise ValueError(
            f"spikes of {channels} channels in {spikes.groups} groups, {spikes.planes.dtype}, for "
            f"codes of {inner} in {codes.groups}, {codes.planes.dtype}: pack both alike"
        )
    out_height, out_width = geometry.outputs(height, width)
    words = spikes.planes.shape[-1] // spikes.groups
    return Walk(
        *(images, height, width, words, codes.groups, rows, taps),
        *(*geometry.stride, *geometry.padding, *geometry.dilation),
        *(out_height, out_width, outputs // codes.groups, codes.planes.shape[-1]),
    )


def taps_inside(
    outputs: int, stride: int, padding: int, distance: int, taps: int, size: int
) -> Array:
    """Return the first tap inside the maps and one past the last, ``[2, outputs]``, along an axis.

    An output without any has 0 and 0.
    """
    starts = np.arange(outputs) * stride - padding
    first = np.maximum(0, -(starts // distance))
    last = np.minimum(taps, -((starts - size) // distance))
    inside = np.stack([first, last])
    inside[:, last <= first] = 0
    return inside


def taps_of(walk: Walk) -> tuple[Array, Array]:
    """Return which taps are inside by row ``[2, H']`` and by column ``[2 * W']`` of the output."""
    down = (walk.down, walk.above, walk.row_distance, walk.rows, walk.height)
    right = (walk.right, walk.left, walk.tap_distance, walk.taps, walk.width)
    return taps_inside(walk.out_height, *down), taps_inside(walk.out_width, *right).reshape(-1)


def by_lane(numbers: Tensor, walk: Walk) -> Array:
    """Return ``[groups * padded]`` of ``[O]`` or a scalar: a group's outputs, then zeros."""
    padded = numbers.new_zeros(walk.groups, walk.padded)
    per_group = numbers.detach().expand(walk.groups * walk.outputs).view(walk.groups, -1)
    padded[:, : walk.outputs] = per_group
    array: Array = padded.view(-1).numpy()
    return array


def product(
    spikes: PackedSpikes,
    codes: PackedCodes,
    geometry: Geometry,
    scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """Return the product; see ``repro.products.dispatch.product``."""
    walk = walk_of(spikes, codes, geometry)
    outputs = walk.groups * walk.outputs
    shape = (walk.images, walk.out_height, walk.out_width, outputs)
    out = torch.empty(shape, dtype=scale.dtype)
    lines = max(1, walk.images * walk.out_height)
    bands = min(walk.padded // LANES, -(-JOBS // lines))
    _product(
        words_of(spikes.planes).reshape(len(spikes.planes), -1),
        words_of(codes.planes).reshape(-1),
        np.array(codes.shifts, np.int64),
        codes.least,
        walk,
        taps_of(walk),
        bands,
        by_lane(scale, walk),
        by_lane(torch.zeros((), dtype=scale.dtype) if bias is None else bias, walk),
        out.numpy().reshape(-1),
    )
    return out.permute(0, 3, 1, 2)


def pack_codes(above: Tensor, known: tuple[int, ...], groups: int, bits: int) -> PackedCodes:
    """Return codes as bits; see ``repro.products.dispatch.pack_codes``."""
    outputs, inner, rows, taps = above.shape
    pixels, shifts, words = rows_of(above), shifts_of(known), -(-inner // bits)
    planes = torch.empty((PLANES, outputs * rows * taps, words), dtype=WORDS[bits])
    made = list[Tensor]()
    for low in range(0, max(shifts) + 1, PLANES):
        four = pixels if max(shifts) < PLANES else pixels // (1 << low) % (1 << PLANES)
        to_bits(four, inner, bits, planes)
        made += [planes[j - low].clone() for j in shifts if low <= j < low + PLANES]
    by_output = torch.stack(made).view(len(made), groups, outputs // groups, -1)
    padded = -(-outputs // groups // LANES) * LANES
    lanes = by_output.new_zeros(len(made), groups, by_output.shape[-1], padded)
    lanes[..., : outputs // groups] = by_output.transpose(-1, -2)
    return PackedCodes(lanes, shifts, min(known), (outputs, inner, rows, taps), groups)


def unpack_codes(packed: PackedCodes, dtype: torch.dtype) -> Tensor:
    """Return the codes; see ``repro.products.dispatch.unpack_codes``."""
    outputs, inner, rows, taps = packed.shape
    codes = torch.full(packed.shape, packed.least, dtype=dtype)
    for plane, shift in zip(packed.planes, packed.shifts, strict=True):
        by_output = plane[..., : outputs // packed.groups].transpose(-1, -2).contiguous()
        planes = by_output.view(1, outputs, rows, taps, -1)
        codes += unpack(PackedSpikes(planes, inner), dtype) * (1 << shift)
    return codes
