"""Augmentation of 32x32 images: what is drawn on the CPU, and what is done with it anywhere."""

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32
PADDING = 4


def draw_crops(count: int, generator: torch.Generator) -> Tensor:
    """Return ``[count, 3]`` int64: row and column of the crop in 0..8, and 1 to flip, else 0.

    Drawn on the CPU, so that every device sees the same crops.
    """
    corners = torch.randint(0, 2 * PADDING + 1, (count, 2), generator=generator)
    flips = torch.randint(0, 2, (count, 1), generator=generator)
    return torch.cat([corners, flips], dim=1)


def draw_centres(count: int, generator: torch.Generator) -> Tensor:
    """Return ``[count, 2]`` int64: row and column of the centre of a cutout, 0..31."""
    return torch.randint(0, SIDE, (count, 2), generator=generator)


def cut_out_(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Set a square of every image to 0, in place, and return the images.

    Args:
        images: ``[B, C, 32, 32]``, any dtype, before normalisation.
        centres: ``[B, 2]`` of `draw_centres`, on the same device.
        side: Side of the square, pixels; what sticks out of the image is cut off, so that the
            border loses less (torchvision's RandomErasing keeps the square inside).

    References:
        DeVries & Taylor, Improved Regularization of Convolutional Neural Networks with Cutout,
        arXiv:1708.04552, 2017: rows ``y - side // 2`` to ``y + side // 2 - 1``.
    """
    ramp = torch.arange(SIDE, device=images.device)
    low = centres.unsqueeze(2) - side // 2  # [B, 2, 1]
    inside = (ramp >= low) & (ramp < low + side)  # [B, 2, 32]
    square = inside[:, 0].unsqueeze(2) & inside[:, 1].unsqueeze(1)
    return images.masked_fill_(square.unsqueeze(1), 0)


def crop_and_flip(images: Tensor, crops: Tensor) -> Tensor:
    """Return the images padded by 4 zero pixels, cut to 32x32 at their corners, some mirrored.

    Args:
        images: ``[B, C, 32, 32]``, any dtype, before normalisation.
        crops: ``[B, 3]`` of `draw_crops`, on the same device; further columns are ignored.

    Returns:
        A new tensor like ``images``.

    References:
        RandomCrop(32, padding=4) and RandomHorizontalFlip() of the official scripts.
    """
    batch, channels = images.shape[:2]
    width = SIDE + 2 * PADDING
    padded = F.pad(images, (PADDING,) * 4).view(batch, channels, width * width)
    ramp = torch.arange(SIDE, device=images.device)
    row, column, flip = crops[:, :3].unsqueeze(2).unbind(1)
    rows = row + ramp
    columns = column + torch.where(flip > 0, SIDE - 1 - ramp, ramp)
    pixels = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).view(batch, 1, SIDE * SIDE)
    return padded.gather(2, pixels.expand(-1, channels, -1)).view_as(images)
