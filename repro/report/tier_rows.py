"""Rows of a tier by cell and precision, and the marks of what weakens a number made of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from repro.cells import CELLS, PRECISIONS, Cell, Precision, Tier
from repro.recipes.spec import shipped_hash
from repro.results.row import Row, unpack_correct
from repro.results.statistics import Difference, pair, paired_difference

Hashes = Mapping[str, str] | None

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


def comparable(groups: Groups, cell: Cell, *precisions: Precision) -> list[tuple[Row, ...]]:
    """Return the rows of each seed that has all these precisions, on one set of test images.

    Args:
        groups: Rows of one tier.
        cell: Their cell.
        precisions: One row of each, in this order.
    """
    by_seed = [{row.seed: row for row in groups.get((cell, name), [])} for name in precisions]
    seeds = sorted(set.intersection(*map(set, by_seed)))
    found = [tuple(rows[seed] for rows in by_seed) for seed in seeds]
    images = [{(row.data_checksum, row.test_images) for row in rows} for rows in found]
    one = next((each for each in images if len(each) == 1), None)
    return [rows for rows, each in zip(found, images, strict=True) if each == one]


def difference(before: Sequence[Row], after: Sequence[Row]) -> Difference:
    """Return the accuracy of the files of ``after`` minus those of ``before``, seed by seed."""
    old, new = (
        np.stack([unpack_correct(row.correct, row.test_images) for row in rows])
        for rows in (before, after)
    )
    return paired_difference(old, new)


def mark_notes(lines: Iterable[Sequence[str]], current_hashes: Hashes) -> list[str]:
    """Return what the marks in the lines mean, and whether staleness was looked at."""
    text = "".join(cell for line in lines for cell in line)
    notes = [f"{mark} {meaning}." for mark, meaning in MARKS.items() if mark in text]
    if current_hashes is None:
        notes.append("Whether recipes have changed since was not checked.")
    return notes


def _of(found: int, rows: int) -> str:
    """Return the number of seeds that were compared, and of how many where some are missing."""
    return str(found) if found == rows else f"{found} of {rows}"


def current_hashes(rows: Iterable[Row]) -> dict[str, str]:
    """Return run key -> hash of today's recipe; a run whose recipe is gone is left out."""
    hashes = {str(row.key): shipped_hash(row.key) for row in rows}
    return {name: found for name, found in hashes.items() if found is not None}
