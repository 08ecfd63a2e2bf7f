"""Integer arithmetic of packed layers: spikes uint8, level codes int8, sums int32.

A sum of spikes times +-a is a count times a. The counts are exact in whatever order they are added;
one multiplication by the scale and one addition of the bias round. The float32 layer rounds every
partial sum, so the two differ in the last bits, and a potential within that distance of its
threshold gives another spike: outputs are close to the unpacked network's, not equal to them.

The products are oneDNN's, by way of the operators that PyTorch's own quantisation for x86 lowers
to. They are fast where the processor has integer dot products (AVX512-VNNI, AVX-VNNI, AMX).
"""

import functools
from typing import Any, Final

import torch
from torch import Tensor, nn

from repro.cbp.levels import LayerLevels
from repro.deploy.packed_inference import Loaded, PackedWeight
from repro.errors import UserError
from repro.networks.convolution import UnfoldedConv2d

KINDS: Final = (nn.Conv2d, nn.Linear, UnfoldedConv2d)
GREATEST_CODE: Final = 64


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


def compute_in_integers_(network: nn.Module, loaded: Loaded) -> list[str]:
    """Let packed layers compute in integers where they can; return the names of those that will.

    They are ``nn.Conv2d`` with zero padding given in numbers and ``nn.Linear``, in float32, whose
    levels are whole numbers times a power of two. A call whose input is not made of whole numbers
    from 0 to 255 (an analogue input) is computed as before, in float32.

    Args:
        network: What ``load_packed_`` filled.
        loaded: What it returned.

    Raises:
        UserError: This build of PyTorch has no such operators.
    """
    if not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        raise UserError("this PyTorch has no integer convolution (oneDNN): compute in float32")
    chosen = []
    for name, weight in loaded.weights.items():
        owner, _, attribute = name.rpartition(".")
        layer = network.get_submodule(owner)
        levels = weight.tensor.levels
        codes = level_codes(levels.levels)
        if not isinstance(levels, LayerLevels):
            continue  # a scale per channel: computed in float32
        if codes is None or attribute != "weight" or not _is_plain(layer, weight):
            continue
        values, unit = codes
        scale = float(levels.values()[-1] / levels.levels[-1])
        layer.forward = functools.partial(
            _forward, layer, weight, torch.tensor(values, dtype=torch.int8), scale / unit
        )
        chosen.append(owner)
    return chosen


def _is_plain(layer: nn.Module, weight: PackedWeight) -> bool:
    """Return whether the layer computes what one of ``KINDS`` does, in float32."""
    forwards = [kind.forward for kind in KINDS]
    if type(layer).forward not in forwards or weight.tensor.dtype != torch.float32:
        return False
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return True


def _forward(
    layer: nn.Module, weight: PackedWeight, codes: Tensor, scale: float, inputs: Tensor
) -> Tensor:
    """Return ``scale * (codes summed over the spikes) + bias``."""
    spikes = inputs.to(torch.uint8)
    if inputs.dtype not in (torch.uint8, torch.float32) or not torch.equal(
        spikes.to(inputs.dtype), inputs
    ):
        analogue: Tensor = type(layer).forward(layer, inputs)
        return analogue
    whole, ops = weight.decode(codes), torch.ops.onednn
    outputs = whole.shape[0]
    scales, zeros = torch.full((outputs,), scale), torch.zeros(outputs, dtype=torch.int64)
    # Of the output: scale 1, zero 0, float32, nothing behind the product.
    ending: Any = (1.0, 0, torch.float32, "none", [], "")
    if isinstance(layer, nn.Conv2d):
        geometry: Any = (list(layer.stride), list(layer.padding), list(layer.dilation))
        groups, shape = layer.groups, list(spikes.shape)
        packed = ops.qconv_prepack(whole, scales, 1.0, 0, *geometry, groups, shape)
        sums: Tensor = ops.qconv2d_pointwise(
            spikes, 1.0, 0, packed, scales, zeros, layer.bias, *geometry, groups, *ending
        )
        return sums
    flat = spikes.reshape(-1, spikes.shape[-1])
    packed = ops.qlinear_prepack(whole, list(flat.shape))
    bias: Any = layer.bias
    sums = ops.qlinear_pointwise(flat, 1.0, 0, packed, scales, zeros, bias, *ending)
    return sums.reshape(*spikes.shape[:-1], outputs)
