"""Spikes to bits and back on the CPU; see ``repro.products.spikes``."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import int32, prange, uint64
from torch import Tensor

from repro.device.compiled import kernel
from repro.products.cpu.vector import (
    add,
    bits_equal,
    bits_set,
    broadcast,
    cast,
    clamp,
    from_bits,
    load,
    load_first,
    shift_left,
    store,
    store_first,
    subtract,
)
from repro.products.spikes import PLANES, WORDS, PackedSpikes

Array = npt.NDArray[Any]

LANES = 16  # numbers that become bits at a time
ALL = (1 << LANES) - 1
GREATEST = (1 << PLANES) - 1
ROWS = 256  # that a thread works on at a time
WRONG = 1 << PLANES  # what a chunk finds where there are other numbers
UNSIGNED = {16: np.uint16, 32: np.uint32, 64: np.uint64}


@kernel(parallel=True)
def _to_bits(numbers: Array, channels: int, bits: int, planes: Array) -> Array:
    """Fill planes ``[P, rows, words]`` from rows ``[rows * channels]``.

    Returns:
        By chunk, which planes hold ones, plane i in bit i; ``WRONG`` for other numbers.
    """
    rows, words = planes.shape[1], planes.shape[2]
    found = np.zeros((rows + ROWS - 1) // ROWS, np.int64)
    for chunk in prange(found.size):
        seen = 0
        one = cast(broadcast(int32(1), LANES), numbers.dtype)
        zero = subtract(one, one)
        for row in range(chunk * ROWS, min(chunk * ROWS + ROWS, rows)):
            for word in range(words):
                first, second, third, fourth = uint64(0), uint64(0), uint64(0), uint64(0)
                for at in range(word * bits, min(word * bits + bits, channels), LANES):
                    place, left = row * channels + at, uint64(at - word * bits)
                    if channels - at >= LANES:
                        values = load(numbers, place, LANES)
                    else:
                        values = load_first(numbers, place, LANES, channels - at)
                    ones = bits_equal(values, one)
                    if ones | bits_equal(values, zero) == ALL:  # spikes
                        first |= ones << left
                        continue
                    whole = cast(clamp(values, GREATEST), int32)
                    if bits_equal(cast(whole, numbers.dtype), values) != ALL:
                        seen |= WRONG
                    first |= bits_set(whole, 0) << left
                    second |= bits_set(whole, 1) << left
                    third |= bits_set(whole, 2) << left
                    fourth |= bits_set(whole, 3) << left
                planes[0, row, word], planes[1, row, word] = first, second
                planes[2, row, word], planes[3, row, word] = third, fourth
                seen |= 2 * (second != 0) | 4 * (third != 0) | 8 * (fourth != 0)
        found[chunk] = seen
    return found


@kernel(parallel=True)
def _from_bits(planes: Array, channels: int, bits: int, numbers: Array) -> None:
    """Fill rows ``[rows * channels]`` from planes ``[P, rows, words]``."""
    count, rows = planes.shape[0], planes.shape[1]
    for chunk in prange((rows + ROWS - 1) // ROWS):
        for row in range(chunk * ROWS, min(chunk * ROWS + ROWS, rows)):
            for at in range(0, channels, LANES):
                whole = broadcast(int32(0), LANES)
                for i in range(count):
                    word = uint64(planes[i, row, at // bits]) >> uint64(at % bits)
                    whole = add(whole, shift_left(from_bits(word, LANES), i))
                values = cast(whole, numbers.dtype)
                if channels - at >= LANES:
                    store(numbers, row * channels + at, values)
                else:
                    store_first(numbers, row * channels + at, values, channels - at)


def words_of(planes: Tensor) -> Array:
    """Return the words of planes as an array of unsigned numbers, the same memory."""
    array: Array = planes.numpy().view(UNSIGNED[8 * planes.element_size()])
    return array


def rows_of(numbers: Tensor) -> Tensor:
    """Return ``[N, H, W, C]`` of ``[N, C, H, W]`` or ``[N, C]``, contiguous."""
    if numbers.dim() == 2:
        return numbers.contiguous().view(len(numbers), 1, 1, -1)
    return numbers.permute(0, 2, 3, 1).contiguous()


def to_bits(rows: Tensor, channels: int, bits: int, planes: Tensor) -> int:
    """Fill ``planes`` with the bits of rows of so many channels; return which hold ones.

    Args:
        rows: Contiguous, float32, float64 or uint8.
        channels: Of a row.
        bits: Of a word.
        planes: ``[PLANES, ...]``.

    Returns:
        Plane i in bit i; ``WRONG`` and above where a number is none of those that planes can hold.
    """
    words = words_of(planes).reshape(PLANES, -1, -(-channels // bits))
    found = _to_bits(rows.numpy().reshape(-1), channels, bits, words)
    return int(np.bitwise_or.reduce(found)) if found.size else 0


def pack(numbers: Tensor, groups: int, bits: int) -> PackedSpikes | None:
    """Return whole numbers as bits; see ``repro.products.dispatch.pack``."""
    rows = rows_of(numbers.detach())
    images, height, width, channels = rows.shape
    inner = channels // groups
    words = -(-inner // bits)
    shape = (PLANES, images, height, width, groups * words)
    planes = torch.empty(shape, dtype=WORDS[bits])
    seen = to_bits(rows, inner, bits, planes)
    if seen >= WRONG:
        return None
    return PackedSpikes(planes[: max(1, seen.bit_length())], channels, groups)


def unpack(packed: PackedSpikes, dtype: torch.dtype) -> Tensor:
    """Return the numbers; see ``repro.products.dispatch.unpack``."""
    images, channels, height, width = packed.shape
    rows = torch.empty((images, height, width, channels), dtype=dtype)
    inner = channels // packed.groups
    words = words_of(packed.planes)
    by_row = words.reshape(len(words), -1, words.shape[-1] // packed.groups)
    _from_bits(by_row, inner, packed.bits, rows.numpy().reshape(-1))
    return rows.permute(0, 3, 1, 2)
