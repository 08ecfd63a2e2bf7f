"""Which layers of a network are quantised, and to which levels: by patterns of their names.

A pattern is a module name as ``named_modules`` gives it, in which ``*`` stands for any characters,
dots included, ``?`` for one and ``[ab]`` for one of several.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from repro.cbp.levels import LEVELS
from repro.errors import UserError

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
LevelSet = str | Sequence[float]
LevelChoice = LevelSet | Mapping[str, LevelSet]


def find_layers(network: nn.Module) -> dict[str, Layer]:
    """Return the convolutions and linear layers by module name, in order of definition."""
    return {name: m for name, m in network.named_modules() if isinstance(m, LAYERS)}


def choose_layers(
    network: nn.Module,
    keep: Collection[str] | None = None,
    layers: Collection[str] = ("*",),
    exclude: Collection[str] = (),
) -> dict[str, Layer]:
    """Return the layers that ``prepare`` quantises.

    Args:
        network: Any module.
        keep: Patterns of layers that stay FP32; by default the first and the last.
        layers: Patterns of the layers to take.
        exclude: Patterns of layers that stay FP32, beside those of ``keep``.

    Raises:
        UserError: A pattern that fits no layer, or nothing is left to quantise.
    """
    found = find_layers(network)
    names = list(found)
    if keep is None and len(names) < 3:
        raise UserError(
            f"the network has {len(names)} convolutions and linear layers, the first and the last "
            "stay FP32: at least 3 are needed, or name the layers to keep (keep=())"
        )
    ends = {names[0], names[-1]} if keep is None else _fitting(keep, names)
    kept = ends | _fitting(exclude, names)
    taken = _fitting(layers, names) - kept
    if not taken:
        raise UserError(
            f"keep={sorted(ends)} leaves no layer to quantise: of {names} the patterns "
            f"{list(layers)} take and {list(exclude)} exclude"
        )
    return {name: layer for name, layer in found.items() if name in taken}


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
