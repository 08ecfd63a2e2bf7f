"""Scales per channel in a packed file: a tensor of scales beside level indices of scale 1."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from repro.cbp.levels import ChannelLevels, LayerLevels, Levels
from repro.errors import UserError

SUFFIX: Final = ".scales"  # of the name of a weight: its tensor of scales
_INTEGERS: Final = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a weight


def split(
    state: Mapping[str, Tensor], layers: Mapping[str, Levels]
) -> tuple[dict[str, Tensor], dict[str, LayerLevels]]:
    """Return a state dict in which every quantised weight has one scale, and its levels.

    A weight with a scale per channel becomes its unscaled levels and, behind all tensors, a tensor
    ``[C]`` of scales in the weight's type, under its name and ``SUFFIX``. All else stays.

    Args:
        state: State dict; not changed.
        layers: Levels by tensor name, every name one of ``state``.

    Raises:
        UserError: A weight is not bit for bit a level of its channel, or the scales do not fit it.
    """
    plain, scales, single = dict(state), dict[str, Tensor](), dict[str, LayerLevels]()
    for name, levels in layers.items():
        if isinstance(levels, LayerLevels):
            single[name] = levels
            continue
        scales[name + SUFFIX] = _scales_of(name, state[name], levels)
        plain[name] = _unscaled(name, state[name], levels)
        single[name] = LayerLevels(levels.levels, 1.0)
    if taken := sorted(scales.keys() & plain.keys()):
        raise UserError(f"{taken} are names of tensors: scales need these names, rename them")
    return plain | scales, single


def _scales_of(name: str, weight: Tensor, levels: ChannelLevels) -> Tensor:
    """Return the scales as a tensor in the type of the weight, exact."""
    scales = torch.tensor(levels.scales, dtype=weight.dtype)
    usable = bool((scales > 0).all() & scales.isfinite().all())
    if weight.dim() == 0 or weight.shape[0] != len(scales) or not usable:
        raise UserError(
            f"{name}, shape {tuple(weight.shape)}, has {len(scales)} scales: one above 0 is needed "
            "for each place along the first axis"
        )
    if tuple(scales.tolist()) != levels.scales:
        raise UserError(f"{name}: scales are not exact in {weight.dtype}: round them first")
    return scales


def _unscaled(name: str, weight: Tensor, levels: ChannelLevels) -> Tensor:
    """Return the weight divided by its scales: every value an unscaled level, exactly."""
    channels = weight.shape[0]
    rows = weight.detach().cpu().reshape(channels, weight.numel() // max(1, channels))
    values = levels.values(weight.dtype)
    above = torch.searchsorted(values.double(), rows.double()).clamp(max=len(levels.levels) - 1)
    integer = _INTEGERS[weight.element_size()]  # compare bits: -0.0 is not the level 0.0
    strangers = values.gather(1, above).view(integer) != rows.view(integer)
    if count := int(strangers.sum()):
        raise UserError(
            f"{name}: {count} of {rows.numel()} weights are not levels {levels.levels} of their "
            "channel: convert the network before packing it"
        )
    return torch.tensor(levels.levels, dtype=weight.dtype)[above].reshape(weight.shape)


def scaled(unscaled: Tensor, levels: ChannelLevels) -> Tensor:
    """Return weights ``[C, ...]`` from their unscaled levels: what ``split`` took apart."""
    scales = torch.tensor(levels.scales, dtype=unscaled.dtype)
    return unscaled * scales.reshape(-1, *[1] * (unscaled.dim() - 1))
