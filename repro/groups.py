"""Rows of a tier by cell and precision, and the marks of what weakens a number made of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from repro.cells import CELLS, PRECISIONS, Cell, Precision, Tier
from repro.rows import Row, unpack_correct
from repro.statistics import pair

MARKS: Final[Mapping[str, str]] = {
    "†": "stale: the recipe has changed since a run of this cell",
    "‡": "the tree had changes that were not committed",
    "◇": "the seeds were run with different recipes",
    "¶": "the row of its parent, or of the ANN above that, is missing or has changed since",
    "△": "the learning rate fell at another epoch than in the control, or in one of the two only",
}
Groups = dict[tuple[Cell, Precision], list[Row]]


def grouped(rows: Iterable[Row], tier: Tier, cells: Sequence[Cell] = CELLS) -> Groups:
    """Return the rows of a tier by cell and precision, in the paper's order, sorted by seed.

    Args:
        rows: Rows of any tier and cell.
        tier: The tier.
        cells: Whose rows; by default those of the paper, simulated data sets left out.
    """
    mine = sorted((row for row in rows if row.tier == tier), key=lambda row: row.seed)
    groups = {
        (cell, precision): [
            row for row in mine if row.key.cell == cell and row.precision == precision
        ]
        for cell in cells
        for precision in PRECISIONS
    }
    return {name: group for name, group in groups.items() if group}


def marks(group: Sequence[Row], groups: Groups, current_hashes: Mapping[str, str] | None) -> str:
    """Return a blank and the `MARKS` that weaken the number made of these rows, or nothing.

    Args:
        group: Rows of one cell and precision.
        groups: All rows of the tier, see `grouped`.
        current_hashes: Run key -> hash of today's recipe; None leaves staleness unchecked.
    """
    found = set()
    for row in group:
        if current_hashes is not None and current_hashes.get(str(row.key)) != row.recipe_hash:
            found.add("†")
        if row.git_dirty:
            found.add("‡")
        if row.parent is not None and not _has_parent(row, groups):
            found.add("¶")
    if len({row.recipe_hash for row in group}) > 1:
        found.add("◇")
    return " " * bool(found) + "".join(mark for mark in MARKS if mark in found)


def joint_marks(
    several: Iterable[Sequence[Row]], groups: Groups, current_hashes: Mapping[str, str] | None
) -> str:
    """Return the marks of a number made of several groups of rows, see `marks`."""
    found = "".join(marks(group, groups, current_hashes) for group in several)
    return " " * bool(found) + "".join(mark for mark in MARKS if mark in found)


def _has_parent(row: Row, groups: Groups) -> bool:
    """Return whether the parent's row is there and right on the images it was when this one ran.

    So must be the row of the parent's own parent, the ANN that a conversion starts from.
    """
    above = row.key.parent()
    assert above is not None
    for parent in groups.get((above.cell, above.precision), []):
        if (parent.seed, parent.test_images) == (row.seed, row.test_images):
            counts = pair(*(unpack_correct(r.correct, r.test_images) for r in (parent, row)))
            found = (counts.parent_only_right, counts.child_only_right, parent.accuracy_file)
            same = found == (row.parent_only_right, row.child_only_right, row.accuracy_parent)
            return same and (parent.parent is None or _has_parent(parent, groups))
    return False
