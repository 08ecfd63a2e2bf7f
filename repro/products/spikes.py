"""Spikes and small whole numbers as bits, 32 times smaller than as float32.

A number from 0 to 15 is kept in up to four *planes*, plane ``i`` counting ``2^i``; spikes have one.
The channels of a pixel follow each other in words of 16, 32 or 64 bits, the lowest bit first; every
group of channels starts a word of its own.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

PLANES: Final = 4  # numbers up to 15
WORDS: Final = {16: torch.int16, 32: torch.int32, 64: torch.int64}  # by bits of a word
GREATEST_COUNT: Final = 65535  # that a lane of 16 bits can hold


@dataclass(frozen=True)
class PackedSpikes:
    """Whole numbers ``[N, C, H, W]``, or ``[N, C]`` with H = W = 1.

    Attributes:
        planes: ``[P, N, H, W, groups * words]``, one of ``WORDS``, on the CPU.
        channels: C.
        groups: Groups of channels.
    """

    planes: Tensor
    channels: int
    groups: int = 1

    @property
    def bits(self) -> int:
        """Bits of a word."""
        return 8 * self.planes.element_size()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``[N, C, H, W]``."""
        _, images, height, width, _ = self.planes.shape
        return images, self.channels, height, width

    def rate(self) -> float:
        """Return ones of all planes by number of the input, 0 to ``PLANES``; 0 of an empty one."""
        words: Any = self.planes.numpy()
        ones = int(np.bitwise_count(words.view(f"u{words.itemsize}")).sum(dtype=np.int64))
        return ones / max(1, math.prod(self.shape))


def word_bits(channels: int, taps: int = 1) -> int:
    """Return the bits of a word for the channels of a group.

    Args:
        channels: Of one group.
        taps: Places of the kernel; what is counted over all of them must fit a lane.

    >>> word_bits(12), word_bits(32), word_bits(96), word_bits(12, taps=5000)
    (16, 32, 64, 32)
    """
    if channels <= 16 and 16 * taps <= GREATEST_COUNT:
        return 16
    return 32 if channels <= 32 else 64


def pack_plain(numbers: Tensor, groups: int = 1, bits: int = 64) -> PackedSpikes | None:
    """Return whole numbers from 0 to 15 as bits; None if some are none.

    Args:
        numbers: ``[N, C, H, W]`` or ``[N, C]``; not changed.
        groups: Groups of channels.
        bits: Of a word.
    """
    whole = numbers.detach().nan_to_num(-1).clamp(-1, 1 << PLANES).long()
    if not bool(((whole == numbers) & (whole >= 0) & (whole < 1 << PLANES)).all()):
        return None
    whole = whole.reshape(*whole.shape[:2], *(whole.shape[2:] or (1, 1))).permute(0, 2, 3, 1)
    images, height, width, channels = whole.shape
    by_group = whole.reshape(images, height, width, groups, channels // groups)
    words = -(-by_group.shape[-1] // bits)
    padded = by_group.new_zeros(*by_group.shape[:-1], words * bits)
    padded[..., : by_group.shape[-1]] = by_group
    place = torch.arange(bits)
    used = max(1, int(whole.max()).bit_length() if whole.numel() else 1)
    planes = [
        ((padded.view(*padded.shape[:-1], words, bits) >> i & 1) << place).sum(-1)
        for i in range(used)
    ]
    stacked = torch.stack(planes).flatten(-2).to(WORDS[bits])
    return PackedSpikes(stacked, channels, groups)


def unpack_plain(packed: PackedSpikes, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the numbers ``[N, C, H, W]``."""
    planes = packed.planes.long()
    per_group = planes.shape[-1] // packed.groups
    words = planes.view(*planes.shape[:-1], packed.groups, per_group)
    numbers = torch.zeros(())
    for i, plane in enumerate(words):
        bits = plane.unsqueeze(-1) >> torch.arange(packed.bits) & 1
        numbers = numbers + (bits << i)
    inner = numbers.flatten(-2)[..., : packed.channels // packed.groups]
    return inner.flatten(-2).permute(0, 3, 1, 2).to(dtype)


def sum_of_squares(packed: PackedSpikes) -> PackedSpikes:
    """Return the sums over squares of 2x2, ``[N, C, H/2, W/2]``, of spikes ``[N, C, H, W]``.

    The bits of four words are added by the logic of an adder. H and W are even.

    Raises:
        ValueError: Numbers above 1.
    """
    if len(packed.planes) > 1:
        raise ValueError("numbers above 1 may have sums above 15, which are not packed")
    words = packed.planes[0]
    a, b, c, d = (words[:, y::2, x::2] for y in (0, 1) for x in (0, 1))
    first, second = a ^ b, c ^ d
    both, other = a & b, c & d
    planes = torch.stack([first ^ second, both ^ other ^ first & second, both & other])
    return PackedSpikes(planes, packed.channels, packed.groups)
