"""Prepare a network for CBP, and convert it back to plain modules whose weights are levels.

``prepare`` parametrises the weights of convolutions and linear layers: the forward pass uses
``Q(w)``, the backward pass is straight through to the latent weight ``w``. Nothing here knows how
the network is built or trained.
"""

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.nn.utils import parametrize

from repro.cbp.choice import Layer, LevelChoice, choose_layers, choose_levels, find_layers
from repro.cbp.levels import ChannelLevels, LayerLevels, Levels, nearest_level
from repro.errors import UserError
from repro.gpu import takes_triton

__all__ = ["choose_layers", "convert", "convert_state", "find_layers", "prepare"]
LATENT = ".parametrizations.weight.original"
Arithmetic = Literal["float32", "spikes_bf16"]
Scale = Literal["layer", "channel"]


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
        from repro.cbp import triton_kernels

        return triton_kernels.nearest_on_gpu(weight, values)
    if weight.device.type == "cpu":
        from repro.cbp import kernels

        return kernels.nearest_on_cpu(weight, values, out)
    return nearest_level(weight, values)


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
        layer_levels: Unscaled levels and the scale or scales.
        unscaled: Those levels ``[L]``, a buffer.
        scale: The scale, a buffer in the weight's type; ``[C]`` where every channel has one.
        values: Scaled levels ``[L]`` or ``[C, L]``, a buffer; constant during training.
    """

    unscaled: Tensor
    scale: Tensor
    values: Tensor

    def __init__(self, layer_levels: Levels, dtype: torch.dtype, device: torch.device) -> None:
        """Keep the levels in the weight's own type and place."""
        super().__init__()
        self.layer_levels = layer_levels
        self.register_buffer("unscaled", torch.tensor(layer_levels.levels, dtype=dtype))
        if isinstance(layer_levels, LayerLevels):
            scale: float | tuple[float, ...] = layer_levels.scale
        else:
            scale = layer_levels.scales
        self.register_buffer("scale", torch.tensor(scale, dtype=dtype))
        self.register_buffer("values", layer_levels.values(dtype).to(device))
        self._reused: Tensor | None = None
        self._version = -1

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
        if self._reused is None or self._reused.shape != weight.shape:
            self._reused = torch.empty_like(weight, requires_grad=False)
        increment_version(self._reused)
        return self._reused


def prepare(
    network: nn.Module,
    levels: LevelChoice = "binary",
    *,
    keep: Collection[str] | None = None,
    layers: Collection[str] = ("*",),
    exclude: Collection[str] = (),
    scale: Scale = "layer",
    arithmetic: Arithmetic = "float32",
) -> dict[str, Levels]:
    """Parametrise the weights of a network in place; return the levels by layer name.

    The scale of a layer is ``mean |w|`` of its weights now, that is of the pre-trained network, and
    never changes. Optimisers made before or after see the same parameters, the latent weights.

    Args:
        network: Any module with ``Conv1d``, ``Conv2d``, ``Conv3d`` and ``Linear`` layers.
        levels: ``binary``, ``ternary``, ``shift1``, ``shift2``, or ascending unscaled levels; or
            such level sets by pattern of layer name (``repro.cbp.choice``).
        keep: Patterns of layers that stay FP32; by default the first and the last.
        layers: Patterns of the layers to take.
        exclude: Patterns of layers that stay FP32, beside those of ``keep``.
        scale: ``layer``, the paper's; ``channel`` for a scale of each output channel.
        arithmetic: ``spikes_bf16`` multiplies level codes and spikes in bfloat16 (``spikes_bf16``).

    Raises:
        UserError: Unknown level set or layer, fewer than three layers, a layer already prepared or
            that shares its weight, or a scale of 0.

    References:
        Paper, Algorithm 1, initialisation; the first and the last layer are not quantised.
    """
    if scale == "channel" and arithmetic == "spikes_bf16":
        raise UserError("spikes_bf16 takes one scale per layer: give scale='layer' or float32")
    prepared = plan(network, levels, keep=keep, layers=layers, exclude=exclude, scale=scale)
    for name, layer_levels in prepared.items():
        layer: Any = network.get_submodule(name)
        quantiser = Quantiser(layer_levels, layer.weight.dtype, layer.weight.device)
        parametrize.register_parametrization(layer, "weight", quantiser)
        if arithmetic == "spikes_bf16":
            from repro.cbp import spikes_bf16

            spikes_bf16.enable(layer)
    return prepared


def plan(
    network: nn.Module,
    levels: LevelChoice = "binary",
    *,
    keep: Collection[str] | None = None,
    layers: Collection[str] = ("*",),
    exclude: Collection[str] = (),
    scale: Scale = "layer",
) -> dict[str, Levels]:
    """Return the levels by layer name that ``prepare`` would give, and change nothing.

    Arguments and errors are those of ``prepare``.
    """
    chosen = choose_layers(network, keep, layers, exclude)
    unscaled = choose_levels(list(chosen), levels)
    _require_untied(network, unscaled)
    return {name: measure_levels(name, chosen[name], unscaled[name], scale) for name in unscaled}


def _require_untied(network: nn.Module, names: Collection[str]) -> None:
    """Raise UserError if the weight of a named layer is a parameter of another module, too."""
    owners: dict[int, str] = {}
    for name, module in network.named_modules():
        for key, parameter in module.named_parameters(name, recurse=False):
            owner = owners.setdefault(id(parameter), name)
            if owner != name and {owner, name} & set(names):
                raise UserError(
                    f"{key} is a parameter of {owner}, too: exclude both layers, or untie them"
                )


def measure_levels(name: str, layer: Layer, unscaled: tuple[float, ...], scale: Scale) -> Levels:
    """Return the levels of one layer, the scale being ``mean |w|`` of its weight now.

    Raises:
        UserError: The layer is parametrised already, or a scale is not above 0 and finite.
    """
    if parametrize.is_parametrized(layer, "weight"):
        raise UserError(f"the weight of {name} is parametrised already: convert it first")
    size = layer.weight.detach().double().abs()
    scales = size.flatten(1).mean(1) if scale == "channel" else size.mean()
    if not bool((scales > 0).all() & scales.isfinite().all()):
        wrong = float(scales.min()) if scales.isfinite().all() else float(scales.sum())
        raise UserError(f"mean |w| of {name} is {wrong}: load pre-trained weights first")
    if scale == "channel":
        return ChannelLevels(unscaled, tuple(scales.to(layer.weight.dtype).tolist()))
    return LayerLevels(unscaled, float(scales))


def prepared_layers(network: nn.Module) -> dict[str, tuple[nn.Parameter, Quantiser]]:
    """Return latent weight and quantiser of every prepared layer by module name."""
    found: dict[str, tuple[nn.Parameter, Quantiser]] = {}
    for name, layer in find_layers(network).items():
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        chain: Any = layer.parametrizations["weight"]  # type: ignore[index]
        if isinstance(chain[0], Quantiser):
            found[name] = (chain.original, chain[0])
    return found


def convert(network: nn.Module) -> dict[str, Levels]:
    """Replace every latent weight by its level, in place; return the levels by layer name.

    Afterwards the modules are plain again: ``state_dict()`` has the names of the network before
    ``prepare``, and every weight of a converted layer is exactly one of its ``values``.
    """
    converted = {}
    for name, (_, quantiser) in prepared_layers(network).items():
        layer = network.get_submodule(name)
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        if hasattr(layer, "spikes_bf16"):
            from repro.cbp import spikes_bf16

            spikes_bf16.disable(layer)
        converted[name] = quantiser.layer_levels
    return converted


def convert_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Levels]]:
    """Do to a prepared network's state dict what ``convert`` does to the network.

    Args:
        state: ``state_dict()`` of a network after ``prepare``, or of a plain one.

    Returns:
        The state dict of the plain network, and the levels by tensor name (``conv2.weight``).
    """
    plain: dict[str, Tensor] = dict(state)
    levels: dict[str, Levels] = {}
    for key in [key for key in state if key.endswith(LATENT)]:
        name = key.removesuffix(LATENT)
        latent, values = plain.pop(key), plain.pop(f"{name}.parametrizations.weight.0.values")
        unscaled = tuple(plain.pop(f"{name}.parametrizations.weight.0.unscaled").tolist())
        scale = plain.pop(f"{name}.parametrizations.weight.0.scale")
        plain[f"{name}.weight"] = quantise(latent, values)
        levels[f"{name}.weight"] = (
            ChannelLevels(unscaled, tuple(scale.tolist()))
            if scale.dim()
            else LayerLevels(unscaled, float(scale))
        )
    return plain, levels
