"""Quantised layers: ``scale * (sum of codes) + bias``, the sums being whole numbers.

A quantised weight is a scale times a level, and levels are whole numbers, *codes*, times a power of
two. Codes summed over spikes are exact in float32 (below 2^24), in integers and when bits are
counted, so that every way of adding them up gives the same bits: the product with the scale and the
sum with the bias round once each. Training, evaluation and packed files compute the same numbers.

On bits, codes lie in planes, too: ``code = least + sum_j 2^shift_j plane_j``, and a sum over spikes
``s`` is ``least * ones(s) + sum_j 2^shift_j ones(s and plane_j)``.
"""

from dataclasses import dataclass

from torch import Tensor

from repro.products.dense import convolve
from repro.products.geometry import Geometry

GREATEST_CODE = 64


def level_codes(levels: tuple[float, ...]) -> tuple[tuple[int, ...], int] | None:
    """Return whole numbers in the ratio of the levels, and how many of them make a level of 1.

    None if no power of two up to 64 makes the levels whole numbers up to 64.

    >>> level_codes((-1.0, -0.5, 0.0, 0.5, 1.0))
    ((-2, -1, 0, 1, 2), 2)
    """
    for unit in (1, 2, 4, 8, 16, 32, 64):
        codes = [level * unit for level in levels]
        if all(code == int(code) and abs(code) <= GREATEST_CODE for code in codes):
            return tuple(map(int, codes)), unit
    return None


@dataclass(frozen=True)
class PackedCodes:
    """Codes of a layer's weight as bits, in the order in which the kernel reads them.

    Attributes:
        planes: ``[J, groups, taps * words, outputs]``: words of a group's inputs, tap by tap; the
            outputs of a group, with zeros up to a multiple of the kernel's lanes.
        shifts: Plane j counts ``2^shifts[j]``.
        least: Least code.
        shape: Of the weight, ``[O, C / groups, kernel height, kernel width]``.
        groups: Groups of channels.
    """

    planes: Tensor
    shifts: tuple[int, ...]
    least: int
    shape: tuple[int, int, int, int]
    groups: int

    @property
    def nbytes(self) -> int:
        """Bytes of the planes."""
        return self.planes.numel() * self.planes.element_size()


def shifts_of(codes: tuple[int, ...]) -> tuple[int, ...]:
    """Return which bits of ``code - least`` differ among the codes.

    >>> shifts_of((-1, 1)), shifts_of((-1, 0, 1)), shifts_of((-4, -2, -1, 0, 1, 2, 4))
    ((1,), (0, 1), (0, 1, 2, 3))
    """
    above = [code - min(codes) for code in codes]
    return tuple(j for j in range(max(above).bit_length()) if any(a >> j & 1 for a in above))


def product_plain(
    numbers: Tensor, codes: Tensor, geometry: Geometry, scale: Tensor, bias: Tensor | None
) -> Tensor:
    """Return ``scale * (sum of codes) + bias``, ``[N, O, H', W']``.

    Args:
        numbers: Input, ``[N, C, H, W]``.
        codes: ``[O, C / groups, kernel height, kernel width]``, in the input's type.
        geometry: How the kernel walks.
        scale: ``[O]`` or a scalar.
        bias: ``[O]``; None for 0.
    """
    sums = sums_plain(numbers, codes, geometry)
    scaled = sums * (scale if scale.dim() == 0 else scale[:, None, None])
    return scaled if bias is None else scaled + bias[:, None, None]


def sums_plain(numbers: Tensor, codes: Tensor, geometry: Geometry) -> Tensor:
    """Return the sums of codes, exact while they stay below 2^24 in float32."""
    return convolve(numbers, codes, None, geometry)
