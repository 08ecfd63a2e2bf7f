"""Constraint function cs(w; Q, g) and its slope, and the constraint failure score."""

from collections.abc import Iterable

import torch
from torch import Tensor

from repro.cbp.window import NO_WINDOW
from repro.device.dense import is_dense
from repro.device.triton_support import takes_triton

PIECE = 1 << 20  # weights worked on at a time where an operation needs temporaries


def constraint(weight: Tensor, levels: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Return ``cs(w)`` and ``d cs / d w``, elementwise.

    ``cs(w) = 2 |w - Q(w)|``, and 0 inside the unconstrained window: where that exceeds
    ``fraction`` of the gap between the two levels around ``w``. Beyond the outermost levels no
    window applies.

    Args:
        weight: Latent weights, any shape; ``[C, ...]`` where every channel has its own levels.
        levels: Shape ``[L]``, ascending, scaled by the layer's scale; or ``[C, L]``, a row per
            channel.
        fraction: Constrained fraction of each half-interval, ``1 - 1/g`` (``window``); 1 for none.

    Returns:
        Two tensors shaped like ``weight``.

    References:
        Kim & Jeong, NeurIPS 2021, Section 3.2 and Algorithm 1.
    """
    if levels.dim() == 2:
        rows = weight.reshape(len(levels), -1).contiguous()
        interval = torch.searchsorted(levels, rows, right=True).clamp(1, levels.shape[1] - 1)
        low, high = levels.gather(1, interval - 1), levels.gather(1, interval)
        value, slope = _distance(rows, low, high, (levels[:, :1], levels[:, -1:]), fraction)
        return value.reshape(weight.shape), slope.reshape(weight.shape)
    interval = torch.bucketize(weight.contiguous(), levels, right=True).clamp(1, len(levels) - 1)
    low, high = levels[interval - 1], levels[interval]
    return _distance(weight, low, high, (levels[0], levels[-1]), fraction)


def _distance(
    weight: Tensor, low: Tensor, high: Tensor, outermost: tuple[Tensor, Tensor], fraction: float
) -> tuple[Tensor, Tensor]:
    """Return ``cs(w)`` and its slope, the two levels around each weight being known."""
    nearest = torch.where(weight < (low + high) / 2, low, high)
    distance = weight - nearest
    interior = (weight > outermost[0]) & (weight < outermost[1])
    free = interior & (2 * distance.abs() > (high - low) * fraction)
    distance = distance.masked_fill(free, 0)
    return 2 * distance.abs(), 2 * distance.sign()


def add_slope_(
    grad: Tensor, weight: Tensor, multiplier: Tensor, levels: Tensor, fraction: float, clip: float
) -> float | Tensor:
    """Add ``multiplier * d cs/d w`` to ``grad``, clip it by value, return ``sum(multiplier cs)``.

    One pass over memory on the CPU and by Triton; elsewhere, and where every channel has its own
    levels, the closed form above.

    Args:
        grad: Gradient of the task loss, shape of ``weight``; changed in place.
        weight: Latent weights.
        multiplier: One Lagrange multiplier per weight.
        levels: See ``constraint``.
        fraction: See ``constraint``.
        clip: Bound of every element of the sum; infinity for none.

    Returns:
        The layer's part of the Lagrangian, summed in float64; on a GPU it stays there.
    """
    if levels.dim() == 1 and takes_triton(weight):
        from repro.cbp import gpu as triton_kernels

        if triton_kernels.fits(weight, grad, multiplier):
            same = grad, weight, multiplier, levels
            return triton_kernels.add_slope_on_gpu_(*same, fraction, clip)
    kernel = weight.dtype in (torch.float32, torch.float64)
    if kernel and weight.device.type == "cpu" and levels.dim() == 1:
        from repro.cbp import cpu as kernels

        return kernels.add_slope_on_cpu_(grad, weight, multiplier, levels, fraction, clip)
    value, slope = constraint(weight, levels, fraction)
    grad.addcmul_(multiplier, slope).clamp_(-clip, clip)
    return torch.sum(multiplier * value, dtype=torch.float64)


def write_constraint_(out: Tensor, weight: Tensor, levels: Tensor, fraction: float) -> None:
    """Fill ``out``, shaped and laid out like the dense weight, with ``cs(w)``, see ``constraint``.

    It goes a piece at a time: temporaries stay small beside the weights.
    """
    if levels.dim() == 2:
        out.copy_(constraint(weight, levels, fraction)[0])
        return
    pairs = zip(pieces(out), pieces(weight), strict=True)
    for target, piece in pairs:
        target.copy_(constraint(piece, levels, fraction)[0])


def pieces(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return views of the tensor's memory, in storage order; the whole tensor if it has gaps."""
    if not is_dense(tensor):
        return (tensor,)
    flat = tensor.detach().as_strided((tensor.numel(),), (1,))
    return torch.split(flat, PIECE)


def constraint_failure_score(layers: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return CFS, the mean of ``cs`` without window over all quantised weights; 0 and up.

    Args:
        layers: Pairs of latent weights and their layer's scaled levels.

    References:
        Kim & Jeong, NeurIPS 2021, Section 4 (constraint failure score).
    """
    total: float | Tensor = 0.0
    count = 0
    for weight, levels in layers:
        for piece in pieces(weight) if levels.dim() == 1 else (weight,):
            value, _ = constraint(piece, levels, NO_WINDOW)
            total = total + torch.sum(value, dtype=torch.float64)  # the device is not waited for
        count += weight.numel()
    return float(total) / count
