"""Gradients of a product ``conv(numbers, weight)``, and of ``scale * (sum of codes) + bias``."""

from typing import Any

import torch
from torch import Tensor

from repro.products.codes import product_plain
from repro.products.dispatch import product, unpack
from repro.products.geometry import Geometry
from repro.products.spikes import PackedSpikes


def input_gradient(
    grad: Tensor, weight: Tensor, geometry: Geometry, shape: tuple[int, ...]
) -> Tensor:
    """Return the gradient ``[N, C, H, W]`` of the input.

    Args:
        grad: Of the output, ``[N, O, H', W']``.
        weight: ``[O, C / groups, kernel height, kernel width]``.
        geometry: How the kernel walks.
        shape: Of the input.
    """
    # Only its shape and layout are read.
    like = grad.new_empty(()).expand(shape)
    found = _backward(grad, like, weight, geometry, (True, False, False))[0]
    assert found is not None
    return found


def weight_gradient(
    grad: Tensor, numbers: Tensor, geometry: Geometry, shape: tuple[int, ...]
) -> Tensor:
    """Return the gradient ``[O, C / groups, kernel height, kernel width]`` of the weight.

    Args:
        grad: Of the output, ``[N, O, H', W']``.
        numbers: The input, ``[N, C, H, W]``.
        geometry: How the kernel walks.
        shape: Of the weight.
    """
    like = grad.new_empty(()).expand(shape)
    found = _backward(grad, numbers, like, geometry, (False, True, False))[1]
    assert found is not None
    return found


def _backward(
    grad: Tensor, numbers: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Return what PyTorch's convolution gives backwards."""
    walked = geometry.stride, geometry.padding, geometry.dilation, False, (0, 0), geometry.groups
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        grad, numbers, weight, None, *walked, wanted
    )
    return found


def _maps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``[N, C, H, W]`` of that or of ``[N, C]``."""
    return shape if len(shape) == 4 else (*shape, 1, 1)


class _CodedProduct(torch.autograd.Function):
    """``scale * (sum of codes) + bias``, straight through to the latent weight.

    The gradient of the latent weight is that of ``conv(numbers, Q(w))`` at ``Q(w)``; the input's
    goes through ``Q(w)`` as well. The quantised weight is made again for the backward pass, so that
    between the two only the latent weight and the bits of the input are kept. Without bits the
    products are PyTorch's.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        numbers: Tensor,
        latent: Tensor | None,
        bias: Tensor | None,
        layer: Any,  # noqa: ANN401  (a CodedLayer; it imports this file)
        spikes: PackedSpikes | None,
    ) -> Tensor:
        ctx.layer, ctx.spikes, ctx.shape = layer, spikes, numbers.shape
        ctx.save_for_backward(latent, numbers if spikes is None else None)
        if spikes is None:
            maps, (dense, scale) = numbers.view(_maps(numbers.shape)), layer.dense_codes()
            return product_plain(maps, dense, layer.geometry, scale, bias)
        coded = layer.coded()
        return product(spikes, coded.codes, layer.geometry, coded.scale, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        layer, spikes = ctx.layer, ctx.spikes
        latent, numbers = ctx.saved_tensors
        shape = _maps(ctx.shape)
        to_numbers = to_weight = None
        if ctx.needs_input_grad[0]:
            weight = layer.quantised_weight()
            to_numbers = input_gradient(grad, weight, layer.geometry, shape).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            numbers = unpack(spikes, grad.dtype) if spikes is not None else numbers.view(shape)
            kernel = layer.maps_of(latent).shape
            to_weight = weight_gradient(grad, numbers, layer.geometry, kernel).view(latent.shape)
        to_bias = grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return to_numbers, to_weight, to_bias, None, None


def coded_product(
    numbers: Tensor,
    latent: Tensor | None,
    bias: Tensor | None,
    layer: Any,  # noqa: ANN401
    spikes: PackedSpikes | None,
) -> Tensor:
    """Return the output ``[N, O, H', W']`` of a quantised layer, with gradients.

    Args:
        numbers: Input, ``[N, C, H, W]`` or ``[N, C]``.
        latent: What the weight's gradient goes to; None where nothing trains.
        bias: ``[O]``, or None.
        layer: A ``CodedLayer``.
        spikes: The input as bits; None for PyTorch's products.
    """
    given = (numbers, latent, bias, layer, spikes)
    product: Tensor = _CodedProduct.apply(*given)  # type: ignore[no-untyped-call]
    return product
