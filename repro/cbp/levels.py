"""Quantisation levels Q and the nearest level of a weight (paper, Section II)."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

LEVELS: Final[dict[str, tuple[float, ...]]] = {
    "binary": (-1.0, 1.0),
    "ternary": (-1.0, 0.0, 1.0),
    "shift1": (-1.0, -0.5, 0.0, 0.5, 1.0),
    "shift2": (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0),
}


@dataclass(frozen=True)
class LayerLevels:
    """Levels of one layer: ``scale`` times the level set.

    Attributes:
        levels: Ascending, unscaled; one of the values of ``LEVELS``.
        scale: ``a``, in the paper ``mean |w|`` of the pre-trained layer; above 0.
    """

    levels: tuple[float, ...]
    scale: float

    def values(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the levels that weights take, shape ``[L]``, ascending, on the CPU.

        The scale is rounded to ``dtype`` first, the product once more, so that a file that
        stores the scale in ``dtype`` gives the same values to the last bit.
        """
        return torch.tensor(self.levels, dtype=dtype) * torch.tensor(self.scale, dtype=dtype)

    @property
    def bits(self) -> int:
        """Bits per weight: the smallest whole number that tells the levels apart."""
        return bits_of(self.levels)


@dataclass(frozen=True)
class ChannelLevels:
    """Levels of one layer with a scale for each output channel; not in the paper.

    Attributes:
        levels: Ascending, unscaled; one of the values of ``LEVELS``.
        scales: Of each output channel (first axis), in the weight's own precision; all above 0.
    """

    levels: tuple[float, ...]
    scales: tuple[float, ...]

    def values(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the levels of every channel, shape ``[C, L]``, ascending, on the CPU."""
        scales = torch.tensor(self.scales, dtype=dtype)
        return torch.tensor(self.levels, dtype=dtype) * scales[:, None]

    @property
    def bits(self) -> int:
        """Bits per weight, as ``LayerLevels.bits``."""
        return bits_of(self.levels)


Levels = LayerLevels | ChannelLevels


def bits_of(levels: tuple[float, ...]) -> int:
    """Return the smallest whole number of bits that tells the levels apart.

    >>> [bits_of(levels) for levels in LEVELS.values()]
    [1, 2, 3, 3]
    """
    return (len(levels) - 1).bit_length()


def nearest_level(weight: Tensor, levels: Tensor) -> Tensor:
    """Return the level nearest to each weight; a tie goes to the upper level.

    Args:
        weight: Any shape; ``[C, ...]`` where every channel has levels of its own.
        levels: Shape ``[L]``, ascending, already multiplied by the layer's scale; or ``[C, L]``.

    Returns:
        Same shape as ``weight``; every value is one of ``levels``.
    """
    midpoints = (levels[..., :-1] + levels[..., 1:]) / 2
    if levels.dim() == 1:
        return levels[torch.bucketize(weight.contiguous(), midpoints, right=True)]
    rows = weight.reshape(len(levels), -1).contiguous()
    above = torch.searchsorted(midpoints, rows, right=True)
    return levels.gather(1, above).reshape(weight.shape)
