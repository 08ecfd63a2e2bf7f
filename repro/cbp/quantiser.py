"""The quantiser: ``Q(w)`` forward, straight through backward."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from repro.cbp.levels import ChannelLevels, LayerLevels, Levels, nearest_level
from repro.device.triton_support import takes_triton


def quantise(weight: Tensor, values: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``nearest_level(weight, values)``; for one scale in one pass over memory.

    Args:
        weight: Any shape.
        values: Scaled levels ``[L]``, ascending; or ``[C, L]``, a row per output channel.
        out: Tensor like ``weight`` to fill and return, on the CPU; None for a new one.
    """
    if values.dim() == 2:
        out = torch.empty_like(weight, requires_grad=False) if out is None else out
        return out.copy_(nearest_level(weight, values))  # in the memory order of the weight
    if takes_triton(weight):
        from repro.cbp import gpu as triton_kernels

        return triton_kernels.nearest_on_gpu(weight, values)
    if weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64):
        from repro.cbp import cpu as kernels

        return kernels.nearest_on_cpu(weight, values, out)
    return nearest_level(weight, values)


def stand_ins(weight: Tensor, values: Tensor, chosen: Tensor) -> Tensor:
    """Return what stands for the level nearest to each weight, in the weight's memory order.

    Args:
        weight: Any shape.
        values: As in ``quantise``.
        chosen: What stands for each level, ``[L]`` of any type.
    """
    if values.dim() == 1 and takes_triton(weight):
        from repro.cbp import gpu as triton_kernels

        return triton_kernels.nearest_on_gpu(weight, values, chosen)
    if values.dim() == 1 and weight.device.type == "cpu":
        from repro.cbp import cpu as kernels

        return kernels.nearest_on_cpu(weight, values, chosen=chosen)
    rows = values.expand(len(weight), -1) if values.dim() == 1 else values
    middles = (rows[:, :-1] + rows[:, 1:]) / 2
    above = torch.searchsorted(middles, weight.reshape(len(weight), -1).contiguous(), right=True)
    out = torch.empty_like(weight, dtype=chosen.dtype, requires_grad=False)
    return out.copy_(chosen[above].view(weight.shape))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, values: Tensor, out: Tensor | None) -> Tensor:  # noqa: ANN401
        quantised = quantise(weight, values, out)
        return quantised if out is None else quantised.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        return grad, None, None


class Quantiser(nn.Module):
    """Parametrisation of one weight: ``Q(w)`` forward, identity backward.

    Attributes:
        unscaled: Levels ``[L]``, a buffer.
        scale: The scale, a buffer in the weight's type; ``[C]`` where every channel has one.
        values: Scaled levels ``[L]`` or ``[C, L]``, a buffer; constant during training.
    """

    unscaled: Tensor
    scale: Tensor
    values: Tensor

    def __init__(self, layer_levels: Levels, dtype: torch.dtype, device: torch.device) -> None:
        """Keep the levels in the weight's own type and place."""
        super().__init__()
        self.register_buffer("unscaled", torch.tensor(layer_levels.levels, dtype=dtype))
        if isinstance(layer_levels, LayerLevels):
            scale: float | tuple[float, ...] = layer_levels.scale
        else:
            scale = layer_levels.scales
        self.register_buffer("scale", torch.tensor(scale, dtype=dtype))
        self.register_buffer("values", layer_levels.values(dtype).to(device))
        self._reused: Tensor | None = None
        self._version = -1

    @property
    def layer_levels(self) -> Levels:
        """Unscaled levels and the scale or scales, as the buffers hold them."""
        unscaled = tuple(self.unscaled.tolist())
        scale: Any = self.scale.tolist()
        return (
            ChannelLevels(unscaled, tuple(scale))
            if self.scale.dim()
            else LayerLevels(unscaled, scale)
        )

    def forward(self, weight: Tensor) -> Tensor:
        """Return the level nearest to each weight, same shape."""
        out = self._memory_to_reuse(weight)
        quantised: Tensor = _StraightThrough.apply(weight, self.values, out)  # type: ignore[no-untyped-call]
        return quantised

    def _memory_to_reuse(self, weight: Tensor) -> Tensor | None:
        """Return memory for the result if none is in use: after a step, in training, on the CPU.

        New memory costs more than the quantiser itself (page faults). The result of an earlier call
        may still be needed by its backward pass unless the weight has changed since, and then that
        pass is an error anyway, as it is for any layer. Whoever keeps a result to compare it with a
        later one must clone it, or take it under ``torch.no_grad()``.
        """
        if not torch.is_grad_enabled() or weight.device.type != "cpu":
            return None
        if weight._version == self._version:
            return None
        self._version = weight._version
        if self._reused is None or not _are_alike(self._reused, weight):
            self._reused = torch.empty_like(weight, requires_grad=False)
        increment_version(self._reused)
        return self._reused


def _are_alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same shape, memory order and type."""
    same = one.shape == other.shape and one.stride() == other.stride()
    return same and one.dtype == other.dtype
