"""Which layers of a network are quantised, and to which levels: by patterns of their names.

A pattern is a module name as ``named_modules`` gives it, in which ``*`` stands for any characters,
dots included, ``?`` for one and ``[ab]`` for one of several.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from repro.cbp.levels import LEVELS
from repro.errors import UserError, in_words

WeightLayer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
LevelSet = str | Sequence[float]
LevelChoice = LevelSet | Mapping[str, LevelSet]


def find_layers(network: nn.Module) -> dict[str, WeightLayer]:
    """Return the convolutions and linear layers by module name, in order of definition."""
    return {name: m for name, m in network.named_modules() if isinstance(m, LAYERS)}


def choose_layers(
    network: nn.Module,
    keep: Collection[str] | None = None,
    layers: Collection[str] = ("*",),
    exclude: Collection[str] = (),
    example: Any = None,  # noqa: ANN401  (whatever the network takes)
) -> dict[str, WeightLayer]:
    """Return the layers that ``prepare`` quantises.

    They are those that ``layers`` takes and whose weights train, without the first and the last of
    them. A layer that is named exactly, without a wildcard, is taken though it is frozen or first
    or last.

    Args:
        network: Any module.
        keep: Patterns of layers that stay FP32; by default the first and the last of those that are
            taken.
        layers: Patterns of the layers to take.
        exclude: Patterns of layers that stay FP32, beside those of ``keep``.
        example: Input of the network, a tuple or a dictionary of several; first and last are then
            meant in the order in which a forward pass meets the layers. By default the network's
            ``example_input_array`` (Lightning's name for it), and without one they are meant in the
            order in which the layers are registered.

    Raises:
        UserError: A pattern that fits no layer, nothing is left to quantise, or the network cannot
            take the example.
    """
    found = find_layers(network)
    names = list(found)
    named = _fitting(layers, names) & set(layers)
    taken = {name for name in _fitting(layers, names) if name in named or _trains(found[name])}
    if not taken:
        raise UserError(
            f"no weight that {list(layers)} takes requires a gradient: name a frozen layer exactly "
            "to quantise it"
        )
    kept = set(_ends(network, taken, example)) - named if keep is None else _fitting(keep, names)
    left = taken - kept - _fitting(exclude, names)
    if not left:
        raise UserError(
            f"no layer is left to quantise: {list(layers)} takes {sorted(taken)}, {sorted(kept)} "
            f"stay FP32 and {list(exclude)} excludes; name layers exactly, or the layers to keep "
            "(keep=())"
        )
    return {name: layer for name, layer in found.items() if name in left}


def _trains(layer: WeightLayer) -> bool:
    """Return whether the weight of a layer requires a gradient, or what a hook makes it of."""
    own = [p for name, p in layer.named_parameters() if not name.startswith("bias")]
    return any(parameter.requires_grad for parameter in own)


def _ends(network: nn.Module, taken: Collection[str], example: Any) -> list[str]:  # noqa: ANN401
    """Return the first and the last of these layers, see `choose_layers`."""
    example = getattr(network, "example_input_array", None) if example is None else example
    order = list(find_layers(network)) if example is None else forward_order(network, example)
    met = [name for name in order if name in taken]
    return met[:1] + met[-1:]


def forward_order(network: nn.Module, example: Any) -> list[str]:  # noqa: ANN401
    """Return the names of the layers in the order in which a forward pass meets them.

    The pass is one in evaluation mode, without gradients; buffers are as before afterwards.

    Args:
        network: Any module.
        example: Its input, or several in a tuple or a dictionary.

    Raises:
        UserError: The network cannot take it.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    example = tree_map_only(Tensor, lambda tensor: tensor.to(device), example)
    order: dict[str, None] = {}
    handles = [
        layer.register_forward_pre_hook(lambda *_, name=name: order.setdefault(name))
        for name, layer in find_layers(network).items()
    ]
    modes = {module: module.training for module in network.modules()}
    buffers = {buffer: buffer.clone() for buffer in network.buffers()}
    try:
        with torch.no_grad():
            network.eval()
            if isinstance(example, Mapping):
                network(**example)
            else:
                network(*example) if isinstance(example, tuple) else network(example)
    except Exception as error:  # the network is anyone's
        raise UserError(f"the network cannot take the example: {in_words(error)}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
        for buffer, before in buffers.items():
            buffer.copy_(before)
    return list(order)


def _fitting(patterns: Iterable[str], names: Sequence[str]) -> set[str]:
    """Return the names that a pattern fits; a pattern that fits none is an error."""
    if isinstance(patterns, str):
        raise UserError(f"patterns are {patterns!r}: give a list, [{patterns!r}]")
    fitting: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            raise UserError(f"no convolution or linear layer named {[pattern]}; there are {names}")
        fitting |= found
    return fitting


def choose_levels(names: Sequence[str], levels: LevelChoice) -> dict[str, tuple[float, ...]]:
    """Return the unscaled levels of each layer that has some.

    Args:
        names: Names of the layers that may be quantised.
        levels: One level set for all of them; or level sets by pattern: the first pattern that fits
            decides, and a layer that none fits stays FP32.

    Raises:
        UserError: Unknown or unusable levels, or a pattern that decides nothing.
    """
    if not isinstance(levels, Mapping):
        return dict.fromkeys(names, unscaled_levels(levels))
    chosen: dict[str, tuple[float, ...]] = {}
    for pattern, level_set in levels.items():
        unscaled = unscaled_levels(level_set)
        fresh = [name for name in names if fnmatchcase(name, pattern) and name not in chosen]
        if not fresh:
            raise UserError(
                f"levels for {pattern!r} concern no layer: of {list(names)} it fits none, or none "
                "that an earlier pattern does not"
            )
        chosen |= dict.fromkeys(fresh, unscaled)
    return {name: chosen[name] for name in names if name in chosen}


def unscaled_levels(levels: LevelSet) -> tuple[float, ...]:
    """Return a level set by its name in ``LEVELS``, or levels of one's own after a check.

    Raises:
        UserError: An unknown name, or levels that do not ascend.
    """
    unscaled = LEVELS.get(levels) if isinstance(levels, str) else tuple(map(float, levels))
    if unscaled is None:
        raise UserError(f"unknown level set {levels!r}: one of {', '.join(LEVELS)}")
    if len(unscaled) < 2 or list(unscaled) != sorted(set(unscaled)):
        raise UserError(f"levels must ascend and be at least two, got {unscaled}")
    return unscaled
