"""Prepare a network for CBP, and convert it back to plain modules whose weights are levels.

``prepare`` parametrises the weights of convolutions and linear layers: the forward pass uses
``Q(w)``, the backward pass is straight through to the latent weight ``w``. Nothing here knows how
the network is built or trained.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.nn.utils import parametrize

from repro.cbp.levels import LEVELS, LayerLevels, nearest_level
from repro.errors import UserError

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
LATENT = ".parametrizations.weight.original"
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
Arithmetic = Literal["float32", "spikes_bf16"]


def quantise(weight: Tensor, values: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``nearest_level(weight, values)``; on the CPU in one pass over memory.

    Args:
        weight: Any shape.
        values: Scaled levels ``[L]``, ascending.
        out: Tensor like ``weight`` to fill and return, on the CPU; None for a new one.
    """
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
        layer_levels: Unscaled levels and the scale.
        unscaled: Those levels ``[L]``, a buffer.
        scale: The scale, a buffer in the weight's type.
        values: Scaled levels ``[L]``, a buffer; constant during training.
    """

    unscaled: Tensor
    scale: Tensor
    values: Tensor

    def __init__(self, layer_levels: LayerLevels, dtype: torch.dtype, device: torch.device) -> None:
        """Keep the levels in the weight's own type and place."""
        super().__init__()
        self.layer_levels = layer_levels
        self.register_buffer("unscaled", torch.tensor(layer_levels.levels, dtype=dtype))
        self.register_buffer("scale", torch.tensor(layer_levels.scale, dtype=dtype))
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


def find_layers(network: nn.Module) -> dict[str, Layer]:
    """Return the convolutions and linear layers by module name, in order of definition."""
    return {name: m for name, m in network.named_modules() if isinstance(m, LAYERS)}


def choose_layers(network: nn.Module, keep: Collection[str] | None = None) -> dict[str, Layer]:
    """Return the layers that ``prepare`` quantises.

    Args:
        network: Any module.
        keep: Names of layers that stay FP32; by default the first and the last.

    Raises:
        UserError: A name that is no layer, or nothing is left to quantise.
    """
    layers = find_layers(network)
    names = list(layers)
    if keep is None and len(names) < 3:
        raise UserError(
            f"the network has {len(names)} convolutions and linear layers, the first and the last "
            "stay FP32: at least 3 are needed, or name the layers to keep (keep=())"
        )
    kept = {names[0], names[-1]} if keep is None else set(keep)
    if unknown := sorted(kept - set(names)):
        raise UserError(f"no convolution or linear layer named {unknown}; there are {names}")
    chosen = {name: layer for name, layer in layers.items() if name not in kept}
    if not chosen:
        raise UserError(f"keep={sorted(kept)} leaves no layer to quantise")
    return chosen


def prepare(
    network: nn.Module,
    levels: str | Sequence[float] = "binary",
    *,
    keep: Collection[str] | None = None,
    arithmetic: Arithmetic = "float32",
) -> dict[str, LayerLevels]:
    """Parametrise the weights of a network in place; return the levels by layer name.

    The scale of a layer is ``mean |w|`` of its weights now, that is of the pre-trained network, and
    never changes. Optimisers made before or after see the same parameters, the latent weights.

    Args:
        network: Any module with ``Conv1d``, ``Conv2d``, ``Conv3d`` and ``Linear`` layers.
        levels: ``binary``, ``ternary``, ``shift1``, ``shift2``, or ascending unscaled levels.
        keep: Names of layers that stay FP32; by default the first and the last.
        arithmetic: ``spikes_bf16`` multiplies level codes and spikes in bfloat16 (``spikes_bf16``).

    Raises:
        UserError: Unknown level set or layer, fewer than three layers, a layer already prepared or
            without any weight different from 0.

    References:
        Paper, Algorithm 1, initialisation; the first and the last layer are not quantised.
    """
    unscaled = LEVELS.get(levels) if isinstance(levels, str) else tuple(levels)
    if unscaled is None:
        raise UserError(f"unknown level set {levels!r}: one of {', '.join(LEVELS)}")
    if len(unscaled) < 2 or list(unscaled) != sorted(set(unscaled)):
        raise UserError(f"levels must ascend and be at least two, got {unscaled}")
    chosen, prepared = choose_layers(network, keep), {}
    for name, layer in chosen.items():
        if parametrize.is_parametrized(layer, "weight"):
            raise UserError(f"the weight of {name} is parametrised already: convert it first")
        scale = float(layer.weight.detach().double().abs().mean())
        if not 0 < scale < float("inf"):
            raise UserError(f"mean |w| of {name} is {scale}: load pre-trained weights first")
        prepared[name] = LayerLevels(unscaled, scale)
    for name, layer in chosen.items():
        quantiser = Quantiser(prepared[name], layer.weight.dtype, layer.weight.device)
        parametrize.register_parametrization(layer, "weight", quantiser)
        if arithmetic == "spikes_bf16":
            from repro.cbp import spikes_bf16

            spikes_bf16.enable(layer)
    return prepared


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


def convert(network: nn.Module) -> dict[str, LayerLevels]:
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


def convert_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, LayerLevels]]:
    """Do to a prepared network's state dict what ``convert`` does to the network.

    Args:
        state: ``state_dict()`` of a network after ``prepare``, or of a plain one.

    Returns:
        The state dict of the plain network, and the levels by tensor name (``conv2.weight``).
    """
    plain, levels = dict(state), {}
    for key in [key for key in state if key.endswith(LATENT)]:
        name = key.removesuffix(LATENT)
        latent, values = plain.pop(key), plain.pop(f"{name}.parametrizations.weight.0.values")
        unscaled = plain.pop(f"{name}.parametrizations.weight.0.unscaled")
        scale = float(plain.pop(f"{name}.parametrizations.weight.0.scale"))
        plain[f"{name}.weight"] = quantise(latent, values)
        levels[f"{name}.weight"] = LayerLevels(tuple(unscaled.tolist()), scale)
    return plain, levels
