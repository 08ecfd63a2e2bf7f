"""Sums of codes by counting bits on the CPU; see ``repro.products.codes``.

The outputs of a group lie in the lanes of a vector: a word of spikes meets the words of 32 outputs
at once, and what the two have in common is counted (`count_bits`, one instruction on processors with
AVX-512 VPOPCNTDQ, a few on others). No sum depends on the number of threads: they are whole numbers.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import int32, prange
from torch import Tensor

from repro.products.codes import PackedCodes, shifts_of
from repro.products.cpu.spikes import rows_of, to_bits, unpack, words_of
from repro.products.cpu.vector import (
    add,
    bit_and,
    broadcast,
    cast,
    count_bits,
    kernel,
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
        taps: Of the kernel from left to right.
        rows: Of the kernel.
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


@kernel(inline="always")
def count(
    spikes: Array, plane: int, weights: Array, shift: int, least: int, walk: Walk, place: Any
) -> Any:  # noqa: ANN401
    """Return ``least * ones + 2^shift * (bits in common)`` of 32 outputs at one place, int32.

    Args:
        spikes: Words of all planes of the input.
        plane: Where a plane begins in them.
        weights: Words of all planes.
        shift: See ``PackedCodes``.
        least: See ``PackedCodes``; 0 to count no ones.
        walk: Sizes.
        place: The pixel of the kernel's first row and tap, and where weights of the plane, the
            group and the lanes begin; the first and one past the last row and tap that lie inside
            the maps; group.
    """
    pixel, begin, top, bottom, low, high, group = place
    # Taps whose words follow each other.
    run = max(1, high - low) if walk.tap_distance == 1 and walk.groups == 1 else 1
    size = walk.groups * walk.words
    total = broadcast(weights.dtype.type(0), LANES)
    ones = 0
    for row in range(top, bottom):
        for tap in range(low, high, run):
            here = pixel + row * walk.row_distance * walk.width + tap * walk.tap_distance
            at = plane + here * size + group * walk.words
            weight = begin + (row * walk.taps + tap) * walk.words * walk.padded
            for word in range(run * walk.words):
                bits = spikes[at + word]
                ones += ones_in(bits)
                there = load(weights, weight + word * walk.padded, LANES)
                total = add(total, count_bits(bit_and(broadcast(bits, LANES), there)))
    common = shift_left(cast(total, int32), shift)
    return add(common, broadcast(int32(least * ones), LANES))


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
    of_plane = weights.size // shifts.size
    of_group = of_plane // walk.groups
    blocks = walk.padded // LANES
    for job in prange(walk.images * walk.out_height * bands):
        line, band = job // bands, job % bands
        image, y = line // walk.out_height, line % walk.out_height
        top, bottom = by_row[0, y], by_row[1, y]
        start = (image * walk.height + y * walk.down - walk.above) * walk.width - walk.left
        for x in range(walk.out_width):
            pixel, low, high = start + x * walk.right, by_column[0, x], by_column[1, x]
            for group in range(walk.groups):
                at = ((line * walk.out_width + x) * walk.groups + group) * walk.outputs
                for block in range(band * blocks // bands, (band + 1) * blocks // bands):
                    lane = block * LANES
                    sums = broadcast(int32(0), LANES)
                    for i in range(planes):
                        for j in range(shifts.size):
                            begin = j * of_plane + group * of_group + lane
                            place = (pixel, begin, top, bottom, low, high, group)
                            least_here = least if j == 0 else 0
                            common = count(
                                flat, i * size, weights, shifts[j], least_here, walk, place
                            )
                            sums = add(sums, shift_left(common, i))
                    values = cast(sums, out.dtype)
                    factor = load(scale, group * walk.padded + lane, LANES)
                    values = multiply(values, factor)
                    values = add(values, load(bias, group * walk.padded + lane, LANES))
                    if walk.outputs - lane >= LANES:
                        store(out, at + lane, values)
                    else:
                        store_first(out, at + lane, values, walk.outputs - lane)


def walk_of(spikes: PackedSpikes, codes: PackedCodes, geometry: Geometry) -> Walk:
    """Return the sizes of a product.

    Raises:
        ValueError: Spikes and codes are packed differently.
    """
    images, channels, height, width = spikes.shape
    outputs, inner, *kernel = codes.shape
    same = spikes.planes.dtype == codes.planes.dtype and spikes.groups == codes.groups
    if not same or channels != inner * codes.groups:
        raise ValueError(
            f"spikes of {channels} channels in {spikes.groups} groups, {spikes.planes.dtype}, for "
            f"codes of {inner} in {codes.groups}, {codes.planes.dtype}: pack both alike"
        )
    out_height, out_width = geometry.outputs(height, width)
    words = spikes.planes.shape[-1] // spikes.groups
    sizes = (images, height, width, words, codes.groups, *kernel)
    walked = (*geometry.stride, *geometry.padding, *geometry.dilation, out_height, out_width)
    return Walk(*sizes, *walked, outputs // codes.groups, codes.planes.shape[-1])


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
    """Return the product; see ``repro.products.codes.product``."""
    walk = walk_of(spikes, codes, geometry)
    outputs = walk.groups * walk.outputs
    shape = (walk.images, walk.out_height, walk.out_width, outputs)
    out = torch.empty(shape, dtype=scale.dtype)
    lines = max(1, walk.images * walk.out_height)
    bands = min(walk.padded // LANES, -(-JOBS // lines))
    inside = (
        taps_inside(walk.out_height, walk.down, walk.above, walk.row_distance, walk.rows, walk.height),
        taps_inside(walk.out_width, walk.right, walk.left, walk.tap_distance, walk.taps, walk.width),
    )
    _product(
        words_of(spikes.planes).reshape(len(spikes.planes), -1),
        words_of(codes.planes).reshape(-1),
        np.array(codes.shifts, np.int64),
        codes.least,
        walk,
        inside,
        bands,
        by_lane(scale, walk),
        by_lane(torch.zeros((), dtype=scale.dtype) if bias is None else bias, walk),
        out.numpy().reshape(-1),
    )
    return out.permute(0, 3, 1, 2)


def pack_codes(above: Tensor, known: tuple[int, ...], groups: int, bits: int) -> PackedCodes:
    """Return codes as bits; see ``repro.products.codes.pack_codes``."""
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
    """Return the codes; see ``repro.products.codes.unpack_codes``."""
    outputs, inner, rows, taps = packed.shape
    codes = torch.full(packed.shape, packed.least, dtype=dtype)
    for plane, shift in zip(packed.planes, packed.shifts, strict=True):
        by_output = plane[..., : outputs // packed.groups].transpose(-1, -2).contiguous()
        planes = by_output.view(1, outputs, rows, taps, -1)
        codes += unpack(PackedSpikes(planes, inner), dtype) * (1 << shift)
    return codes
