"""Spikes with a surrogate gradient."""

import math
from typing import Any

import torch
from torch import Tensor


class _RectangularSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potential: Tensor, threshold: float, half_width: float) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward((potential - threshold).abs() < half_width)
        return (potential > threshold).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (inside,) = ctx.saved_tensors
        return grad * inside, None, None


def rectangular_spike(potential: Tensor, threshold: float, half_width: float) -> Tensor:
    """Return 1 where ``potential > threshold``, else 0; gradient 1 within the window, else 0.

    Args:
        potential: Membrane potential, any shape.
        threshold: Firing threshold.
        half_width: The gradient passes where ``|potential - threshold| < half_width``.

    References:
        Wu et al., Frontiers in Neuroscience 12:331 (2018), equation 24 with a_1 = 2 half_width; the
        reference scales the window to height 1.
    """
    spikes: Tensor = _RectangularSpike.apply(potential, threshold, half_width)  # type: ignore[no-untyped-call]
    return spikes


def arctan_slope(distance: Tensor, alpha: float = 2.0) -> Tensor:
    """Return ``(alpha / 2) / (1 + (pi / 2 * alpha * distance)^2)``, an arctan's derivative.

    Args:
        distance: Membrane potential minus threshold, any shape.
        alpha: Steepness; the slope at the threshold is ``alpha / 2``.

    References:
        Fang et al., *Incorporating learnable membrane time constant to enhance learning of spiking
        neural networks*, ICCV 2021, the surrogate of its experiments; alpha 2 there and here.
    """
    return alpha / 2 / (1 + (math.pi / 2 * alpha * distance).square())


class _ArctanSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potential: Tensor, threshold: float, alpha: float) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(potential)
        ctx.threshold, ctx.alpha = threshold, alpha
        return (potential >= threshold).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (potential,) = ctx.saved_tensors
        return grad * arctan_slope(potential - ctx.threshold, ctx.alpha), None, None


def arctan_spike(potential: Tensor, threshold: float, alpha: float = 2.0) -> Tensor:
    """Return 1 where ``potential >= threshold``, else 0; gradient ``arctan_slope``."""
    spikes: Tensor = _ArctanSpike.apply(potential, threshold, alpha)  # type: ignore[no-untyped-call]
    return spikes
