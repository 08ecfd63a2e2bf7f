"""Memory of ``[T, ...]``: dense, time outermost, rows in the order of another tensor's."""

import torch
from torch import Tensor


def strides_of(tensor: Tensor) -> tuple[int, ...]:
    """Return the strides of ``[T, ...]`` with rows like the tensor's and time outermost."""
    return (tensor[0].numel(), *tensor.stride()[1:])


def dense(tensor: Tensor) -> Tensor:
    """Return the tensor ``[T, ...]`` if its memory is dense with time outermost, else a copy."""
    row = tensor[0]
    filled = row.is_contiguous() or (
        row.dim() == 4 and row.is_contiguous(memory_format=torch.channels_last)
    )
    in_order = len(tensor) == 1 or tensor.stride(0) == row.numel()
    return tensor if filled and in_order else tensor.contiguous()


def laid_out_like(tensor: Tensor, layout: Tensor) -> Tensor:
    """Return a tensor ``[T, ...]`` in the memory order of another, itself where it has it."""
    strides = strides_of(layout)
    if tensor.stride() == strides:
        return tensor
    return empty(tensor.shape, layout, tensor.dtype).copy_(tensor)


def empty(shape: tuple[int, ...], layout: Tensor, dtype: torch.dtype) -> Tensor:
    """Return memory for ``[T, ...]`` in the order of another tensor's rows."""
    return torch.empty_strided(shape, strides_of(layout), dtype=dtype, device=layout.device)
