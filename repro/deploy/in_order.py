"""Layers of real weights that add up their products in a documented order, that of the C program.

PyTorch's order of summation is not documented and differs between machines. Here the products of an
output are added one after the other, in the order of the weight's memory (channel by channel, row
by row), each rounded to the data type. Slow; for comparisons.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from repro.products.dispatch import unpack
from repro.products.layer import CodedLayer, like, replace_
from repro.products.spikes import PackedSpikes


def sum_of_products(patches: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``[N, O, L]``: products of patches ``[N, K, L]`` and a weight ``[O, K]`` in order.

    Args:
        patches: Inputs of an output by place.
        weight: In the same type.
        bias: ``[O]``, added last; None for 0.

    >>> one, small = torch.ones(()), torch.tensor(2.0**-24)
    >>> patches = torch.stack([one, small, small]).view(1, 3, 1)
    >>> sum_of_products(patches, torch.ones(1, 3), None).item()  # each small number is lost
    1.0
    """
    out = patches.new_zeros(len(patches), len(weight), patches.shape[2])
    for k in range(weight.shape[1]):
        out += weight[None, :, k, None] * patches[:, None, k]
    return out if bias is None else out + bias[:, None]


class InOrderConv2d(nn.Conv2d):
    """A convolution without groups, padded by zeros."""

    def forward(self, inputs: Tensor | PackedSpikes) -> Tensor:
        """Return ``[N, O, H', W']`` for ``[N, C, H, W]``."""
        maps = unpack(inputs) if isinstance(inputs, PackedSpikes) else inputs
        assert not isinstance(self.padding, str)
        sizes = zip(maps.shape[2:], self.padding, self.kernel_size, self.stride, strict=True)
        height, width = ((size + 2 * p - k) // s + 1 for size, p, k, s in sizes)
        patches = unfold(maps, self.kernel_size, self.dilation, self.padding, self.stride)
        out = sum_of_products(patches, self.weight.flatten(1), self.bias)
        return out.view(len(maps), -1, height, width)


class InOrderLinear(nn.Linear):
    """A linear layer."""

    def forward(self, inputs: Tensor | PackedSpikes) -> Tensor:
        """Return ``[..., O]`` for ``[..., K]``."""
        rows = unpack(inputs).flatten(1) if isinstance(inputs, PackedSpikes) else inputs
        flat = rows.reshape(-1, rows.shape[-1], 1)
        return sum_of_products(flat, self.weight, self.bias).view(*rows.shape[:-1], -1)


def in_order_(network: nn.Module) -> nn.Module:
    """Put such a layer in the place of every convolution and linear layer that counts no codes.

    Args:
        network: In evaluation mode; its convolutions are two-dimensional and without groups.

    Returns:
        The network.
    """
    for layer in [*network.modules()]:
        if isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(layer, CodedLayer):
            kind = InOrderLinear if isinstance(layer, nn.Linear) else InOrderConv2d
            replace_(network, layer, like(layer, kind))
    return network


def logits_in_order(train: Tensor) -> Tensor:
    """Return the sum over time ``[B, K]`` of an output ``[T, B, K]``, step after step."""
    total = torch.zeros_like(train[0])
    for step in train:
        total = total + step
    return total
