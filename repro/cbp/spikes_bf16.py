"""Spike-exact bfloat16 arithmetic of a quantised layer.

A prepared layer computes ``scale * conv(spikes, codes) + bias``. Spikes (0, 1) and level codes (-1,
0, 1, and halves and quarters) are exact in bfloat16, products are summed in float32, and scale,
bias and everything after are float32. What is rounded is the sum when it leaves the product: whole
numbers up to 256 (quarters up to 64) are exact, larger ones keep 8 bits. A sum that large, times
the scale, is usually far from the threshold; that is no guarantee, and a network whose sums are
larger can flip a spike. ``tests/cbp/test_spikes_bf16.py`` compares spikes and gradients to float32.

Worth it where the processor multiplies matrices in bfloat16 (AMX, or a GPU).
"""

from typing import Any

import torch
from torch import Tensor, nn

from repro.cbp.quantiser import stand_ins
from repro.products.layer import StandIn

BF16 = torch.bfloat16


class _ScaledProduct(torch.autograd.Function):
    """``scale * conv(x, Q(w) / scale)``, straight through to ``w``; all products in bfloat16."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        spikes: Tensor,
        latent: Tensor,
        bias: Tensor | None,
        layer: "SpikesBf16Layer",
    ) -> Tensor:
        quantiser: Any = layer.parametrizations["weight"][0]  # type: ignore[index]
        scale = quantiser.scale.to(latent.device)
        codes = stand_ins(latent, quantiser.values, quantiser.unscaled.to(latent.device, BF16))
        ctx.dtype, ctx.bias = spikes.dtype, None if bias is None else bias.shape
        spikes = spikes.to(BF16)
        ctx.save_for_backward(spikes, codes, scale)
        ctx.layer = layer
        if isinstance(layer, nn.Linear):
            product = nn.functional.linear(spikes, codes)
        else:
            product = torch.convolution(spikes, codes, None, *_geometry(layer))
        return _scaled(product, scale, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        spikes, codes, scale = ctx.saved_tensors
        wants_spikes, wants_weight, wants_bias, _ = ctx.needs_input_grad
        to_bias = grad.sum_to_size(ctx.bias) if wants_bias else None
        grad = grad.to(BF16)
        if isinstance(ctx.layer, nn.Linear):
            flat = grad.reshape(-1, grad.shape[-1])
            to_spikes = grad @ codes if wants_spikes else None
            to_weight = flat.T @ spikes.reshape(-1, spikes.shape[-1]) if wants_weight else None
        else:
            wanted = [wants_spikes, wants_weight, False]
            to_spikes, to_weight, _ = torch.ops.aten.convolution_backward(
                grad, spikes, codes, None, *_geometry(ctx.layer), wanted
            )
        if to_spikes is not None:
            if ctx.dtype == BF16 and to_spikes.device.type == "cuda":
                to_spikes.mul_(scale.view(1))  # in float32, one pass
            else:
                to_spikes = to_spikes.float().mul_(scale)
        return to_spikes, None if to_weight is None else to_weight.float(), to_bias, None


def _scaled(product: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``scale * product + bias`` in float32; on a GPU in one pass.

    Args:
        product: In bfloat16.
        scale: Scalar.
        bias: To be broadcast to ``product``; None for 0.
    """
    if product.device.type == "cuda":
        added = scale.new_zeros((1,) * product.dim()) if bias is None else bias
        return torch.addcmul(added, product, scale)
    scaled = product.float().mul_(scale)
    return scaled if bias is None else scaled.add_(bias)


def _geometry(layer: nn.Module) -> tuple[Any, ...]:
    """Return stride, padding, dilation, transposed, output padding, groups of a convolution."""
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    none = [0] * len(layer.stride)
    return layer.stride, layer.padding, layer.dilation, False, none, layer.groups


class SpikesBf16Layer(StandIn):
    """A layer that computes in spike-exact bfloat16 and takes its spikes in it."""

    form = BF16

    def forward(self, spikes: Tensor) -> Tensor:
        """Return the output in float32."""
        chain: Any = self.parametrizations["weight"]  # type: ignore[index]
        latent, added = chain.original, self.bias
        bias = added.reshape(-1, *[1] * (latent.dim() - 2)) if isinstance(added, Tensor) else None
        current: Tensor = _ScaledProduct.apply(spikes, latent, bias, self)  # type: ignore[no-untyped-call]
        return current


class SpikesBf16Conv1d(SpikesBf16Layer, nn.Conv1d):
    """A convolution over one axis."""


class SpikesBf16Conv2d(SpikesBf16Layer, nn.Conv2d):
    """A convolution over two axes."""


class SpikesBf16Linear(SpikesBf16Layer, nn.Linear):
    """A linear layer."""


def kind_of(layer: nn.Module) -> type[SpikesBf16Layer]:
    """Return the class that computes a layer in spike-exact bfloat16.

    Raises:
        ValueError: A 3-d convolution, padding by name, or a weight that is not float32.
    """
    if isinstance(layer, nn.Conv3d):
        raise ValueError("spikes_bf16 takes no Conv3d: torch's is wrong in bfloat16 at some shapes")
    if isinstance(getattr(layer, "padding", None), str) or (
        getattr(layer, "padding_mode", "zeros") != "zeros"
    ):
        raise ValueError("spikes_bf16 takes convolutions with zero padding given in numbers")
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
    if layer.weight.dtype != torch.float32:
        raise ValueError("spikes_bf16 takes float32 networks")
    if isinstance(layer, nn.Linear):
        return SpikesBf16Linear
    return SpikesBf16Conv2d if isinstance(layer, nn.Conv2d) else SpikesBf16Conv1d
