"""Prepare a network for CBP, and convert it back to plain modules whose weights are levels.

``prepare`` parametrises the weights of convolutions and linear layers: the forward pass uses
``Q(w)``, the backward pass is straight through to the latent weight ``w``. Nothing here knows how
the network is built or trained.
"""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from repro.cbp import codes, spikes_bf16
from repro.cbp.levels import ChannelLevels, LayerLevels, Levels
from repro.cbp.quantiser import Quantiser, quantise
from repro.cbp.selection import LevelChoice, WeightLayer, choose_layers, choose_levels, find_layers
from repro.cbp.settings import Arithmetic, Scale
from repro.errors import UserError
from repro.products.layer import StandIn, plain_again, replace_, standing_in

__all__ = ["choose_layers", "convert", "convert_state", "find_layers", "prepare"]
LATENT = ".parametrizations.weight.original"


def prepare(
    network: nn.Module,
    levels: LevelChoice = "binary",
    *,
    keep: Collection[str] | None = None,
    layers: Collection[str] = ("*",),
    exclude: Collection[str] = (),
    example: Any = None,  # noqa: ANN401
    scale: Scale = "layer",
    arithmetic: Arithmetic = "float32",
) -> dict[str, Levels]:
    """Parametrise the weights of a network in place; return the levels by layer name.

    The scale of a layer is measured on its weights now, those of the pre-trained network, and never
    changes. Optimisers made before or after see the same parameters, the latent weights.

    Args:
        network: Any module with ``Conv1d``, ``Conv2d``, ``Conv3d`` and ``Linear`` layers.
        levels: ``binary``, ``ternary``, ``shift1``, ``shift2``, or ascending unscaled levels; or
            such level sets by pattern of layer name (``repro.cbp.selection``).
        keep: Patterns of layers that stay FP32; by default the first and the last of those taken.
        layers: Patterns of the layers to take; frozen ones are left out unless named exactly.
        exclude: Patterns of layers that stay FP32, beside those of ``keep``.
        example: Input of the network, see `repro.cbp.selection.choose_layers`: says which layer is
            first and last.
        scale: ``layer``, the paper's; ``channel`` for a scale of each output channel; with
            ``_rms`` behind it the root mean square of the weights, not the mean of their sizes.
        arithmetic: ``float32`` multiplies by the quantised weights; ``codes`` adds up level codes
            (``codes``); ``spikes_bf16`` multiplies them and spikes in bfloat16 (``spikes_bf16``).

    Raises:
        UserError: Unknown level set or layer, no layer left to quantise, a weight that is shared,
            not there yet, or computed from other tensors, or a scale of 0.

    References:
        Paper, Algorithm 1, initialisation; the first and the last layer are not quantised.
    """
    if by_channel(scale) and arithmetic == "spikes_bf16":
        raise UserError("spikes_bf16 takes one scale per layer: give scale='layer' or float32")
    choice: dict[str, Any] = {"keep": keep, "layers": layers, "exclude": exclude}
    prepared = plan(network, levels, **choice, example=example, scale=scale)
    parametrise_(network, prepared, arithmetic)
    return prepared


def parametrise_(
    network: nn.Module, levels: Mapping[str, Levels], arithmetic: Arithmetic = "float32"
) -> None:
    """Parametrise the named layers' weights with given levels, in place.

    A layer that computes in another arithmetic is replaced by one that does, with the same
    parameters, buffers and hooks.

    Args:
        network: Any module.
        levels: By layer name.
        arithmetic: As in ``prepare``.

    Raises:
        UserError: The network is itself the layer, and would have to be replaced.
    """
    for name, layer_levels in levels.items():
        layer: Any = network.get_submodule(name)
        kind = _kind_for(layer, layer_levels, arithmetic)
        if kind is not None:
            if layer is network:
                raise UserError(f"arithmetic={arithmetic} replaces layers: give a network of some")
            other: Any = standing_in(layer, kind)
            replace_(network, layer, other)
            layer = other
        quantiser = Quantiser(layer_levels, layer.weight.dtype, layer.weight.device)
        parametrize.register_parametrization(layer, "weight", quantiser)


def _kind_for(layer: nn.Module, levels: Levels, arithmetic: Arithmetic) -> type[StandIn] | None:
    """Return the class of the layer that computes in an arithmetic; None for the layer itself."""
    if arithmetic == "codes":
        return codes.kind_of(layer, levels.levels)
    return spikes_bf16.kind_of(layer) if arithmetic == "spikes_bf16" else None


def plan(
    network: nn.Module,
    levels: LevelChoice = "binary",
    *,
    keep: Collection[str] | None = None,
    layers: Collection[str] = ("*",),
    exclude: Collection[str] = (),
    example: Any = None,  # noqa: ANN401
    scale: Scale = "layer",
) -> dict[str, Levels]:
    """Return the levels by layer name that ``prepare`` would give, and change nothing.

    Arguments and errors are those of ``prepare``.
    """
    chosen = choose_layers(network, keep, layers, exclude, example)
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


def measure_levels(
    name: str, layer: WeightLayer, unscaled: tuple[float, ...], scale: Scale
) -> Levels:
    """Return the levels of one layer, whose scale its weight now gives (``prepare``).

    Raises:
        UserError: The weight is not a tensor that the layer holds, or a scale is not above 0 and
            finite.
    """
    _require_plain(name, layer)
    rms = scale.endswith("_rms")
    weight = layer.weight.detach().double()
    size = weight.square() if rms else weight.abs()
    scales = size.flatten(1).mean(1) if by_channel(scale) else size.mean()
    scales = scales.sqrt() if rms else scales
    if not bool((scales > 0).all() & scales.isfinite().all()):
        wrong = float(scales.min()) if scales.isfinite().all() else float(scales.sum())
        mean = "root mean square of w" if rms else "mean |w|"
        raise UserError(f"{mean} of {name} is {wrong}: load pre-trained weights first")
    rounded = scales.to(layer.weight.dtype)  # as the layer keeps it
    if by_channel(scale):
        return ChannelLevels(unscaled, tuple(rounded.tolist()))
    return LayerLevels(unscaled, float(rounded))


def by_channel(scale: Scale) -> bool:
    """Return whether every output channel has a scale of its own."""
    return scale in ("channel", "channel_rms")


def _require_plain(name: str, layer: WeightLayer) -> None:
    """Raise UserError unless the weight of a layer is an ordinary parameter with numbers in it."""
    if parametrize.is_parametrized(layer, "weight"):
        raise UserError(
            f"the weight of {name} is parametrised already: call convert first, or "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    weight = layer._parameters.get("weight")
    if weight is None:
        raise UserError(
            f"the weight of {name} is computed by a hook (weight norm, spectral norm, pruning): "
            "remove it first, with torch.nn.utils.remove_weight_norm, remove_spectral_norm or "
            "prune.remove"
        )
    if isinstance(weight, UninitializedParameter):
        raise UserError(f"{name} is lazy and has no weight yet: pass a batch through it first")
    if weight.is_meta:
        raise UserError(f"the weight of {name} is on meta, without numbers: load weights first")


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


def levels_of(network: nn.Module) -> dict[str, Levels]:
    """Return the levels of the prepared layers by name; none of a plain network."""
    return {
        name: quantiser.layer_levels for name, (_, quantiser) in prepared_layers(network).items()
    }


def convert(network: nn.Module) -> dict[str, Levels]:
    """Replace every latent weight by its level, in place; return the levels by layer name.

    Afterwards the modules are plain again: ``state_dict()`` has the names of the network before
    ``prepare``, and every weight of a converted layer is exactly one of its ``values``.
    """
    converted = {}
    for name, (_, quantiser) in prepared_layers(network).items():
        layer = network.get_submodule(name)
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        parameters = layer._parameters  # the weight first again, as it was
        parameters |= {key: parameters.pop(key) for key in list(parameters) if key != "weight"}
        if isinstance(layer, codes.CodesLayer | spikes_bf16.SpikesBf16Layer):
            replace_(network, layer, plain_again(layer))
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
