"""Products by PyTorch: convolutions, and matrix products where they are nothing else."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear

from repro.products.geometry import Geometry


def convolve(numbers: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return ``[N, O, H', W']``.

    Args:
        numbers: ``[N, C, H, W]``.
        weight: ``[O, C / groups, kernel height, kernel width]``.
        bias: ``[O]``; None for 0.
        geometry: How the kernel walks.
    """
    if is_matrix_product(geometry, tuple(numbers.shape)):
        return linear(numbers.flatten(1), weight.flatten(1), bias)[:, :, None, None]
    fixed = geometry.stride, geometry.padding, geometry.dilation, geometry.groups
    return conv2d(numbers, weight, bias, *fixed)


def is_matrix_product(geometry: Geometry, shape: tuple[int, ...]) -> bool:
    """Return whether a convolution of maps of that shape is a product of two matrices."""
    return geometry == Geometry() and tuple(shape[2:]) == (1, 1)


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
    if is_matrix_product(geometry, shape):
        return (grad.flatten(1) @ weight.flatten(1)).view(shape)
    # Only its shape and layout are read; where PyTorch would copy it channels-last, it is so.
    like = grad.new_empty(()).expand(shape)
    if not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last):
        like = torch.empty(
            shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last
        )
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
    if is_matrix_product(geometry, tuple(numbers.shape)):
        return (grad.flatten(1).t() @ numbers.flatten(1)).view(shape)
    if geometry.kernel == (1, 1) and geometry.padding == (0, 0):
        # With a stride, a kernel of one pixel reads every other pixel, say. They are taken out
        # here: oneDNN's own way writes past its memory where few channels lie channels-last
        # (its issue 6035).
        down, right = geometry.stride
        numbers, geometry = numbers[..., ::down, ::right], replace(geometry, stride=(1, 1))
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
