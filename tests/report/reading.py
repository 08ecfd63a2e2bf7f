"""Rows of the desk tier as a table takes them, and a table as a test reads it."""

from collections.abc import Sequence

from paths import ROOT

from repro.report.tier_rows import Hashes, TierRows
from repro.results.row import Row
from repro.table import Table

PAPER = ROOT / "results" / "paper.csv"


def desk(rows: Sequence[Row], hashes: Hashes = None) -> TierRows:
    return TierRows(rows, "desk", hashes=hashes)


def column(table: Table, name: str) -> list[str]:
    return [line[table.header.index(name)] for line in table.lines]


def line(table: Table, *start: str) -> dict[str, str]:
    """The one line that starts so, by the names of the columns."""
    (found,) = [cells for cells in table.lines if cells[: len(start)] == start]
    return dict(zip(table.header, found, strict=True))
