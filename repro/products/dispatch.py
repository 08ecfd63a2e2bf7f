"""Products by the fastest backend: kernels for the CPU, elsewhere plain torch."""

import torch
from torch import Tensor

from repro.products.codes import PackedCodes
from repro.products.geometry import Geometry
from repro.products.spikes import PackedSpikes


def pack(numbers: Tensor, groups: int = 1, bits: int = 64) -> PackedSpikes | None:
    """Return what ``pack_plain`` does; None also on another device, or of another type.

    Args:
        numbers: ``[N, C, H, W]`` or ``[N, C]``, float32 or float64; not changed.
        groups: Groups of channels.
        bits: Of a word.
    """
    if numbers.device.type != "cpu" or numbers.dtype not in (torch.float32, torch.float64):
        return None
    from repro.products.cpu import spikes as on_cpu

    return on_cpu.pack(numbers, groups, bits)


def unpack(packed: PackedSpikes, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the numbers ``[N, C, H, W]``, channels-last in memory.

    Args:
        packed: Numbers as bits.
        dtype: Of the result, float32 or float64.
    """
    from repro.products.cpu import spikes as on_cpu

    return on_cpu.unpack(packed, dtype)


def product(
    spikes: PackedSpikes,
    codes: PackedCodes,
    geometry: Geometry,
    scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """Return ``scale * (sum of codes) + bias``, ``[N, O, H', W']``, channels-last in memory.

    Args:
        spikes: Input, packed by the groups of the geometry in words like those of the codes.
        codes: Weight.
        geometry: How the kernel walks.
        scale: ``[O]`` or a scalar, float32 or float64, the type of the result.
        bias: ``[O]``; None for 0.
    """
    from repro.products.cpu import codes as on_cpu

    return on_cpu.product(spikes, codes, geometry, scale, bias)


def sum_of_events(
    spikes: PackedSpikes, weight: Tensor, geometry: Geometry, bias: Tensor | None
) -> Tensor:
    """Return ``conv(numbers, weight) + bias``, ``[N, O, H', W']``, touching what is not 0 alone.

    Args:
        spikes: Input, packed by the groups of the geometry.
        weight: ``[O, C / groups, kernel height, kernel width]``, float32 or float64.
        geometry: How the kernel walks.
        bias: ``[O]``; None for 0.
    """
    from repro.products.cpu import events as on_cpu

    return on_cpu.forward(spikes, weight, geometry, bias)


def weight_gradient_of_events(
    grad: Tensor, spikes: PackedSpikes, geometry: Geometry, shape: tuple[int, ...]
) -> Tensor:
    """Return the gradient of the weight, touching what is not 0 in the input alone.

    Args:
        grad: Of the output, ``[N, O, H', W']``, float32 or float64.
        spikes: Input, packed by the groups of the geometry.
        geometry: How the kernel walks.
        shape: Of the weight.
    """
    from repro.products.cpu import events as on_cpu

    return on_cpu.weight_gradient(grad, spikes, geometry, shape)


def pack_codes(above: Tensor, known: tuple[int, ...], groups: int, bits: int) -> PackedCodes:
    """Return the codes of a weight as bits.

    Args:
        above: Codes minus the least one, ``[O, C / groups, kernel height, kernel width]``, uint8 or
            floating-point.
        known: The level set's codes, ascending.
        groups: Groups of channels.
        bits: Of a word.
    """
    from repro.products.cpu import codes as on_cpu

    return on_cpu.pack_codes(above, known, groups, bits)


def unpack_codes(packed: PackedCodes, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the codes ``[O, C / groups, kernel height, kernel width]``."""
    from repro.products.cpu import codes as on_cpu

    return on_cpu.unpack_codes(packed, dtype)
