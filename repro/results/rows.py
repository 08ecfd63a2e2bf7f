"""Rows: one JSON file per run, the only source of every table and figure."""

import functools
import json
import types
import typing
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.files import write_atomically
from repro.results.row import Row


def write_row(row: Row, folder: Path) -> Path:
    """Write the row to ``<folder>/<run key>.json`` and return that path."""
    return write_atomically(folder / f"{row.key}.json", row_to_text(row) + "\n")


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of a folder in the order of their file names; none if it does not exist.

    Raises:
        UserError: A file that is damaged or no row; the line names it and says what to do.
    """
    return [read_row(path) for path in sorted(folder.glob("*.json"))]


def read_row(path: Path) -> Row:
    """Return the row of one file, every field checked.

    Raises:
        UserError: The file is damaged or no row; the line names it and says what to do.
    """
    try:
        row = row_from_text(path.read_text("utf-8"))
        if path.stem != str(row.key):
            raise ValueError(f"it holds the run {row.key}")
    except ValueError as error:  # json and unicode errors are ValueErrors
        remedy = "restore it from git, or delete it and run that cell again"
        raise UserError(f"{path} is no valid row: {error}; {remedy}") from error
    return row


def row_to_text(row: Row) -> str:
    """Return the row as JSON, as its file has it."""
    return json.dumps(vars(row), sort_keys=True, indent=1, allow_nan=False)


def row_from_text(text: str) -> Row:
    """Return the row of a JSON text, every field checked.

    Raises:
        ValueError: It is no row; json's and unicode's errors are ValueErrors, too.
    """
    return Row(**_checked(json.loads(text, parse_constant=_refuse)))


def _refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which are no JSON."""
    raise ValueError(f"{constant} is not a number")


OPTIONAL = {
    "cfs_selected",
    "g_selected",
    "conversion",
    "epoch_lr_drop",
    "skipped",
    "firing_rates",
}  # None where a row does not name them


@functools.cache
def _field_types() -> dict[str, tuple[type, ...]]:
    """Return the types that each field of a row may have in JSON."""
    allowed: dict[str, tuple[type, ...]] = {}
    for name, hint in typing.get_type_hints(Row).items():
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        plain = [str if typing.get_origin(part) is typing.Literal else part for part in parts]
        allowed[name] = tuple(typing.get_origin(part) or part for part in plain)
    return allowed


def _checked(fields: object) -> dict[str, Any]:
    """Return the fields of a row, whole numbers made floats where the row holds floats.

    Raises:
        ValueError: Missing or unknown fields, or a value of the wrong type.
    """
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object, found {type(fields).__name__}")
    allowed = _field_types()
    for words, names in (
        ("missing", allowed.keys() - fields - OPTIONAL),
        ("unknown", fields - allowed.keys()),
    ):
        if names:
            raise ValueError(f"{words} fields: {', '.join(sorted(names))}")
    checked = {}
    for name, value in fields.items():
        if float in allowed[name] and type(value) is int:
            value = float(value)
        if type(value) not in allowed[name]:
            wanted = " or ".join(part.__name__ for part in allowed[name])
            raise ValueError(f"{name} is {value!r}, expected {wanted}")
        checked[name] = value
    return checked
