"""Gradients of a product ``conv(numbers, weight)`` of spikes."""

from typing import Any

import torch
from torch import Tensor

from repro.products.dense import input_gradient, weight_gradient
from repro.products.dispatch import unpack, weight_gradient_of_events
from repro.products.spikes import PackedSpikes


class _SpikeProduct(torch.autograd.Function):
    """Output of a layer for spikes, and PyTorch's gradients of ``conv(numbers, weight)``.

    Of a quantised layer the weight is ``Q(w)``, and its gradient goes straight through to the
    latent weight. It is made again for the backward pass, so that between the two only the latent
    weight and the bits of the input are kept.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        numbers: Tensor,
        latent: Tensor | None,
        bias: Tensor | None,
        layer: Any,  # noqa: ANN401  (a ProductLayer; it imports this file)
        spikes: PackedSpikes | None,
    ) -> Tensor:
        ctx.layer, ctx.spikes, ctx.shape = layer, spikes, numbers.shape
        ctx.save_for_backward(latent, numbers if spikes is None else None)
        output: Tensor = layer.dense(numbers) if spikes is None else layer.sparse(spikes, numbers)
        return output.data  # not a view: a scan behind may overwrite it

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        layer, (latent, numbers) = ctx.layer, ctx.saved_tensors
        to_numbers = to_weight = None
        if ctx.needs_input_grad[0]:
            weight = layer.maps_weight()
            to_numbers = input_gradient(grad, weight, layer.geometry, ctx.shape)
        if ctx.needs_input_grad[1]:
            given = (layer.geometry, tuple(layer.weight_shape))
            if ctx.spikes is None:
                to_weight = weight_gradient(grad, numbers, *given)
            elif layer.choose("weight gradient", ctx.spikes) == "events":
                to_weight = weight_gradient_of_events(grad, ctx.spikes, *given)
            else:
                to_weight = weight_gradient(grad, unpack(ctx.spikes, grad.dtype), *given)
            to_weight = to_weight.view(latent.shape)
        to_bias = grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return to_numbers, to_weight, to_bias, None, None


def spike_product(
    numbers: Tensor,
    latent: Tensor | None,
    bias: Tensor | None,
    layer: Any,  # noqa: ANN401
    spikes: PackedSpikes | None,
) -> Tensor:
    """Return the output ``[N, O, H', W']`` of a layer, with gradients.

    Args:
        numbers: Input, ``[N, C, H, W]``.
        latent: What the weight's gradient goes to; None where nothing trains.
        bias: ``[O]``, or None.
        layer: A ``ProductLayer``.
        spikes: The input as bits; None for PyTorch's products.
    """
    given = (numbers, latent, bias, layer, spikes)
    product: Tensor = _SpikeProduct.apply(*given)  # type: ignore[no-untyped-call]
    return product
