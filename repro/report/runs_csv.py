"""All runs as one table of plain numbers, for further analysis."""

import dataclasses
from collections.abc import Iterable
from typing import Final

from repro.report.tier_rows import Hashes, is_stale
from repro.results.row import Row
from repro.table import csv_text

# Nested, or long: they stay in the row's JSON file.
LEFT_OUT: Final = ("recipe", "versions", "correct", "conversion", "firing_rates")
HEADER: Final = (
    "run",
    *(field.name for field in dataclasses.fields(Row) if field.name not in LEFT_OUT),
    "stale",
)


def runs_csv(rows: Iterable[Row], hashes: Hashes = None) -> str:
    """Return one line per row, sorted by name: its plain fields under their own names.

    Accuracies are fractions, epochs counted from 0, as in the row; an empty field is None.

    Args:
        rows: Rows of any tier.
        hashes: Run key -> hash of today's recipe, which decides ``stale``; None leaves that empty.
    """
    lines = []
    for row in sorted(rows, key=lambda row: str(row.key)):
        own = {name: getattr(row, name) for name in HEADER[1:-1]}
        lines.append({"run": str(row.key), **own, "stale": is_stale(row, hashes)})
    return csv_text(HEADER, lines)
