"""A user's own object from an import path: ``package.module:Name`` and ``key=value`` words."""

import ast
import os
import sys
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

from repro.errors import UserError, in_words


def make(path: str, words: Sequence[str] = ()) -> Any:  # noqa: ANN401  (whatever it returns)
    """Return what the callable at an import path returns.

    The current folder is looked in first. Importing runs that code, as Python does.

    Args:
        path: ``package.module:Name``; a name may have dots (``module:Class.method``).
        words: Keyword arguments, ``key=value``.

    Raises:
        UserError: There is no such module or name, or importing or calling it fails.
    """
    found = locate(path)
    if not callable(found):
        raise UserError(f"{path} is a {type(found).__name__}: give a class or a function")
    arguments = keywords(words)
    try:
        return found(**arguments)
    except Exception as error:  # the user's own code fails in its own way
        given = f" with {', '.join(words)}" if words else ""
        raise UserError(f"{path}{given} cannot be made: {in_words(error)}") from error


def locate(path: str) -> Any:  # noqa: ANN401
    """Return the object at an import path; raises as ``make`` does."""
    module_name, separator, name = path.partition(":")
    if not separator or not module_name or not name:
        raise UserError(f"invalid import path {path!r}: give package.module:Name")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = resolve_name(f"{module_name}:")
    except Exception as error:  # whatever the module does at import
        raise UserError(f"{module_name} cannot be imported: {in_words(error)}") from error
    try:
        return resolve_name(path)
    except AttributeError as error:
        public = (name for name in dir(found) if not name.startswith("_"))
        names = [each for each in public if callable(getattr(found, each))]
        has = f"it has {', '.join(names[:20])}" if names else "it has nothing to call"
        raise UserError(f"{module_name} has no {name}: {has}") from error


def keywords(words: Sequence[str]) -> dict[str, Any]:
    """Return keyword arguments; values as Python writes them, all else as text.

    >>> keywords(["width=0.5", "name=vgg", "sizes=(1, 2)", "bias=False"])
    {'width': 0.5, 'name': 'vgg', 'sizes': (1, 2), 'bias': False}

    Raises:
        UserError: A word without a key, or a key twice.
    """
    arguments: dict[str, Any] = {}
    for word in words:
        key, separator, text = word.partition("=")
        if not separator or not key.isidentifier() or key in arguments:
            raise UserError(f"argument {word!r}: give key=value, every key once")
        try:
            arguments[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            arguments[key] = text
    return arguments
