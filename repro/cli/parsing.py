"""Words of a command line to a dataclass; what is wrong is one line."""

import contextlib
import io
import os
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import tyro
from tyro.conf import Positional, arg

from repro.errors import UserError

T = TypeVar("T")

# Help of arguments that several commands take.
RUNS: Final = arg(help="Folder of run folders.")
ROWS: Final = arg(help="Folder of rows.")
DATA: Final = arg(help="Data sets; by default the variable CBP_DATA, else data.")
TIER: Final = arg(
    help="paper as published, paper_short with its schedule shortened, desk in minutes to "
    "hours on a core, smoke in seconds."
)
WANDB: Final = arg(help="Tell Weights & Biases: online, offline (synchronise later) or off.")
FILE: Final = (
    Positional,
    arg(help="A file written by export, the folder of a finished run, or model:NAME."),
)
BATCH: Final = arg(help="Images at a time; by default the recipe's.")


def parse(kind: type[T], arguments: Sequence[str], **options: Any) -> T:  # noqa: ANN401
    """Return the parsed arguments; a bad one is a UserError of one line.

    Args:
        kind: Dataclass of the command, ``<Command>Arguments``.
        arguments: Words after the command.
        options: Passed on to ``tyro.cli``.
    """
    command = {"prog": f"python -m repro {command_of(kind)}"}
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            words = [at_home(word) for word in arguments]
            parsed: T = tyro.cli(kind, args=words, **(command | options))
            return parsed
    except SystemExit as stop:
        if not stop.code:
            raise
        # What is in tyro's box as one line, without its colours, title and lines.
        text = re.sub(r"\x1b\[[0-9;]*m|╭─.*╮\n|[│╭╮╰╯─┌┐└┘|]+|-{5,}", " ", errors.getvalue())
        raise UserError(" ".join(text.split())) from None


def command_of(kind: type) -> str:
    """Return the command of a dataclass ``<Command>Arguments``.

    >>> command_of(type("WandbReportArguments", (), {}))
    'wandb-report'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__.removesuffix("Arguments")).lower()


def at_home(word: str) -> str:
    """Return a word with the home folder for ~, which a shell leaves in ``--runs=~/a``."""
    flag = word.partition("=")[0] + "=" if word.startswith("--") and "=" in word else ""
    return flag + os.path.expanduser(word.removeprefix(flag))


def parse_override(recipe: T, words: Sequence[str], title: str) -> T:
    """Return the recipe with the fields changed that the words name."""
    if not words:
        return recipe
    words = [plain_flag(word) for word in words]
    about = {"prog": "python -m repro run", "description": f"Recipe of the {title}."}
    return parse(type(recipe), words, default=recipe, **about)


def plain_flag(word: str) -> str:
    """Return the flag that says the same as a truth value in W&B's words; other words unchanged.

    >>> [plain_flag(word) for word in ("--augment=True", "--cbp.window=False", "--lr=1")]
    ['--augment', '--cbp.no-window', '--lr=1']
    """
    if word.startswith("--") and word.endswith("=True"):
        return word.removesuffix("=True")
    if word.startswith("--") and word.endswith("=False"):
        parts = word[2:].removesuffix("=False").split(".")
        return "--" + ".".join([*parts[:-1], f"no-{parts[-1]}"])
    return word
