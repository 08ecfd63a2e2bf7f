"""W&B's sweep files: what they say, and the command lines they expand to.

``load`` reads and checks a file, ``expand`` gives the command lines that W&B's agent would start.
Only a part of W&B's format is read: grids over ``value`` and ``values``, as the files in
``sweeps/`` use it.
"""

import itertools
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from repro.errors import UserError, reading

Scalar = str | int | float | bool
KEYS: Final = ("name", "description", "project", "method", "metric", "parameters", "command")
START: Final = ("${interpreter}", "-m", "repro", "run")
ARGUMENTS: Final = "${args}"
LARGEST: Final = 100_000  # runs of a grid


@dataclass(frozen=True)
class SweepFile:
    """A sweep file that was read and checked.

    Attributes:
        path: Where it is.
        command: Words of the command, its macros still in.
        grid: Values of each parameter, names in alphabetical order as W&B passes them.
    """

    path: Path
    command: tuple[str, ...]
    grid: Mapping[str, tuple[Scalar, ...]]


def load(path: Path) -> SweepFile:
    """Return a checked sweep file.

    Raises:
        UserError: It is absent, no YAML, or no sweep that both W&B and this machine can run.
    """
    with reading(path, "give a sweep file like those in sweeps", yaml.YAMLError):
        return _checked(path, yaml.safe_load(path.read_text("utf-8")))


def _checked(path: Path, read: object) -> SweepFile:
    """Return the sweep that YAML says; raise UserError or ValueError for another one."""
    if not isinstance(read, dict):
        raise UserError(f"invalid sweep file {path}: give {', '.join(KEYS)}")
    if read.get("method") != "grid":
        raise UserError(
            f"{path}: method is {reprlib.repr(read.get('method'))}: only grid names its runs: "
            "start a search by wandb sweep"
        )
    if unknown := [str(key) for key in read if key not in KEYS]:
        raise UserError(f"{path}: unknown key {', '.join(unknown)}: one of {', '.join(KEYS)}")
    if not isinstance(read.get("project"), str):
        raise UserError(f"{path} has no project: W&B would file the sweep as uncategorized")
    return SweepFile(path, _command(path, read.get("command")), _grid(path, read.get("parameters")))


def _command(path: Path, command: object) -> tuple[str, ...]:
    """Return the words of a command that starts our program and passes all parameters."""
    listed = command if isinstance(command, list) else []
    words = tuple(str(word) for word in listed if isinstance(word, str | int | float))
    given = [word for word in words[len(START) :] if word != ARGUMENTS]
    wrong = [word for word in given if not re.fullmatch(r"--[^=]+=(?!.*\$\{).+", word)]
    wrong += ["a list"] * (len(words) < len(listed))
    if words[: len(START)] != START or words.count(ARGUMENTS) != 1 or wrong:
        raise UserError(
            f"{path}: command is {list(words)}: give {', '.join(START)}, then {ARGUMENTS} once and "
            "--name=value for the rest, without other macros"
        )
    return words


def _grid(path: Path, parameters: object) -> dict[str, tuple[Scalar, ...]]:
    """Return the values of each parameter, in alphabetical order of their names."""
    if not isinstance(parameters, dict) or not parameters:
        raise UserError(f"{path} has no grid: give parameters, each with value or values")
    grid = {}
    for name in sorted(map(str, parameters)):
        spec = parameters.get(name)
        shown = reprlib.repr(spec)
        if isinstance(spec, dict) and set(spec) == {"value"}:
            values = [spec["value"]]
        elif isinstance(spec, dict) and set(spec) == {"values"}:
            values = spec["values"] if isinstance(spec["values"], list) else []
        else:
            raise UserError(f"{path}: parameter {name} is {shown}: give value or values")
        for value in values:
            _require_scalar(path, name, value)
        if not values or len(set(map(str, values))) < len(values):
            raise UserError(f"{path}: parameter {name} is {shown}: list its values, each once")
        grid[name] = tuple(values)
    if (runs := math.prod(map(len, grid.values()))) > LARGEST:
        raise UserError(f"{path} is a grid of {runs:.0e} runs: {LARGEST:,} are the most")
    return grid


def _require_scalar(path: Path, name: str, value: object) -> None:
    """Raise a UserError for a value that W&B passes otherwise than it looks."""
    if not isinstance(value, str | int | float):
        raise UserError(
            f"{path}: parameter {name} has {reprlib.repr(value)}: give words, numbers, True or "
            "False"
        )
    if isinstance(value, str) and re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", value):
        raise UserError(
            f"{path}: parameter {name} has {value}, which YAML reads as a word: write 1.0e-3, "
            "with a point and a sign"
        )


def expand(file: SweepFile, settings: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the words behind ``python -m repro`` of every grid point, in W&B's order.

    Args:
        file: The sweep file.
        settings: Arguments of ``run`` that replace those of the file, by name without dashes.

    >>> command = ("${interpreter}", "-m", "repro", "run", "--wandb=online", "${args}")
    >>> file = SweepFile(Path("x.yaml"), command, {"seed": (0, 1), "tier": ("paper",)})
    >>> for words in expand(file, {"wandb": "off", "tier": "smoke"}):
    ...     print(*words)
    run --seed=0 --tier=smoke --wandb=off
    run --seed=1 --tier=smoke --wandb=off
    """
    grid = dict(file.grid)
    flags = {f"--{name}" for name in settings}
    given = file.command[3:]
    command = [word for word in given if word.partition("=")[0].replace("_", "-") not in flags]
    named = {name.replace("_", "-"): name for name in grid}
    for name, value in settings.items():
        if name in named:
            grid[named[name]] = (value,)
        else:
            command.append(f"--{name}={value}")
    expanded = []
    for values in itertools.product(*grid.values()):
        point = [f"--{name}={value}" for name, value in zip(grid, values, strict=True)]
        at = command.index(ARGUMENTS)
        expanded.append((*command[:at], *point, *command[at + 1 :]))
    return expanded
