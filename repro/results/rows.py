"""Rows: one JSON file per run, the only source of every table and figure."""

import json
from pathlib import Path

from pydantic import ValidationError

from repro.errors import UserError
from repro.files import write_atomically
from repro.results.row import Row
from repro.results.schema import in_one_line


def write_row(row: Row, folder: Path) -> Path:
    """Write the row to ``<folder>/<run key>.json`` and return that path."""
    return write_atomically(folder / f"{row.key}.json", row_to_text(row) + "\n")


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of a folder in the order of their file names; none if it does not exist.

    Raises:
        UserError: A file that is damaged or holds no row; the line names it and says what to do.
    """
    return [read_row(path) for path in sorted(folder.glob("*.json"))]


def read_row(path: Path) -> Row:
    """Return the row of one file, every field checked.

    Raises:
        UserError: The file is damaged or holds no row; the line names it and says what to do.
    """
    try:
        row = row_from_text(path.read_text("utf-8"))
        if path.stem != str(row.key):
            raise ValueError(f"it holds the run {row.key}")
    except ValueError as error:  # json and unicode errors are ValueErrors
        remedy = "restore it from git, or delete it and run that cell again"
        raise UserError(f"{path}: invalid row: {error}; {remedy}") from error
    return row


def row_to_text(row: Row) -> str:
    """Return the row as JSON, as its file has it."""
    return json.dumps(vars(row), sort_keys=True, indent=1, allow_nan=False)


def row_from_text(text: str) -> Row:
    """Return the row of a JSON text, every field checked.

    Raises:
        ValueError: It does not hold a row; json's errors are ValueErrors, too.
    """
    fields = json.loads(text, parse_constant=_refuse)
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object, found {type(fields).__name__}")
    try:
        return Row(**fields)
    except ValidationError as error:
        raise ValueError(in_one_line(error)) from error


def _refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which are not JSON."""
    raise ValueError(f"{constant} is not a number")
