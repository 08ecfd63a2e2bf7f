"""Rows: one JSON file per run, the only source of every table and figure."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from repro.errors import UserError, reading
from repro.files import checksum, write_atomically
from repro.results.row import Row
from repro.schema import in_one_line, parse


def write_row(row: Row, folder: Path) -> Path:
    """Write the row to ``<folder>/<run key>.json`` and return that path."""
    return write_atomically(folder / f"{row.key}.json", row_to_text(row) + "\n")


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of a folder in the order of their file names.

    Raises:
        UserError: No such folder, or a file that is damaged or holds no row; the line names it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: give the one that holds the rows by --rows")
    return [read_row(path) for path in sorted(folder.glob("*.json"))]


def read_ablation(folder: Path) -> list[Row]:
    """Return the rows of an ablation, which has a folder for each recipe; none without a folder."""
    recipes = sorted(path for path in folder.glob("*") if path.is_dir())
    return [row for recipe in recipes for row in read_rows(recipe)]


def read_row(path: Path) -> Row:
    """Return the row of one file, every field checked.

    Raises:
        UserError: The file is damaged or holds no row; the line names it and says what to do.
    """
    with reading(path, "restore it from git, or delete it and run that cell again"):
        row = row_from_text(path.read_bytes())
        if path.stem != str(row.key):
            raise ValueError(f"it holds the run {row.key}")
    return row


def row_to_text(row: Row) -> str:
    """Return the row as JSON, as its file has it: its fields and their checksum."""
    fields = vars(row) | {"checksum": checksum(vars(row))}
    return json.dumps(fields, sort_keys=True, indent=1)


def row_from_text(text: str | bytes) -> Row:
    """Return the row of a JSON text, every field checked.

    Rows that were written before there were checksums have none.

    Raises:
        ValueError: It does not hold a row, or another one than was written.
    """
    fields = parse(text, dict[str, Any])
    if (stated := fields.pop("checksum", None)) not in (None, found := checksum(fields)):
        raise ValueError(f"its checksum is {found[:8]}.., it says {stated!s:.8}..: it was changed")
    try:
        return Row(**fields)
    except ValidationError as error:
        raise ValueError(in_one_line(error)) from error
