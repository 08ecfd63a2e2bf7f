"""All runs as one table of plain numbers, for whoever computes with them."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from repro.results.row import Row
from repro.table import csv_text

# Nested, or long: they stay in the row's JSON file.
LEFT_OUT: Final = ("recipe", "versions", "correct", "conversion", "firing_rates")
COLUMNS: Final = (
    "run",
    *(field.name for field in dataclasses.fields(Row) if field.name not in LEFT_OUT),
    "stale",
)


def runs_csv(rows: Iterable[Row], hashes: Mapping[str, str] | None = None) -> str:
    """Return one line per row, sorted by name: its plain fields under their own names.

    Accuracies are fractions, epochs counted from 0, as in the row; an empty field is None.

    Args:
        rows: Rows of any tier.
        hashes: Run key -> hash of today's recipe, which decides ``stale``; None leaves that empty.
    """
    lines = []
    for row in sorted(rows, key=lambda row: str(row.key)):
        stale = None if hashes is None else hashes.get(str(row.key)) != row.recipe_hash
        own = {name: getattr(row, name) for name in COLUMNS[1:-1]}
        lines.append({"run": str(row.key), **own, "stale": stale})
    return csv_text(COLUMNS, lines)
