"""Words of a command line to a dataclass; what is wrong is one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from repro.errors import UserError

T = TypeVar("T")


def parse(kind: type[T], arguments: Sequence[str], **options: Any) -> T:  # noqa: ANN401
    """Return the parsed arguments; a bad one is a UserError of one line.

    Args:
        kind: Dataclass of the command.
        arguments: Words after the command.
        options: Passed on to ``tyro.cli``.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed: T = tyro.cli(kind, args=list(arguments), **options)
            return parsed
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(plain_line(errors.getvalue())) from None


def parse_override(recipe: T, words: Sequence[str], title: str) -> T:
    """Return the recipe with the fields changed that the words name."""
    words = [plain_flag(word) for word in words]
    return parse(type(recipe), words, default=recipe, description=f"Recipe of the {title}.")


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


def plain_line(box: str) -> str:
    """Return the text of tyro's box as one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    text = re.sub(r"[│╭╮╰╯─┌┐└┘|]+|-{5,}", " ", text)
    return " ".join(text.split())
