"""Sums over the processes that train one network together, each on its share of every batch."""

import torch
from torch import Tensor
from torch import distributed as dist


def world_size() -> int:
    """Return how many processes train together; 1 outside of such a training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def total(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, which meet here; the tensor if there is one.

    All get the same bits. With several processes the sum is written into ``value``.
    """
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def gradient_factor(images: int, reduction: str, device: torch.device) -> Tensor:
    """Return what a process multiplies its loss by, a float64 scalar.

    DistributedDataParallel takes the mean of the processes' gradients. With this factor that mean
    is the gradient of the loss of the whole batch, however unequal the shares, and the mean of the
    losses is that loss.

    Args:
        images: In this process's share of the batch.
        reduction: ``mean`` or ``sum``: what the loss is of its images.
        device: Of the losses.
    """
    world = torch.full((), world_size(), dtype=torch.float64, device=device)
    if reduction == "sum":
        return world
    mine = torch.full((), images, dtype=torch.float64, device=device)
    return mine * world / total(mine.clone())
