"""Trials of desk recipes: of seeds that no table of results has, compared on validation images."""

from collections.abc import Sequence
from typing import Any, Final

from repro.recipes.spec import LATER, RunSpec
from repro.report.run_difference import shown, unequal
from repro.results.row import Row, flat
from repro.table import Table

SEARCH: Final = "search"  # name of the ablation in the sweep files of sweeps/search


def changes(row: Row) -> dict[str, Any]:
    """Return the fields in which a trial differs from the recipe that ships, with its values."""
    tried, ships = (
        {name.removeprefix("."): v for part in (LATER, recipe) for name, v in flat(part, "")}
        for recipe in (row.recipe, RunSpec.shipped(row.key).values)
    )
    return {name: value for name, value, _ in unequal(tried, ships)}


def search_table(rows: Sequence[Row]) -> Table:
    """Return a line for each trial, best validation accuracy first."""
    ordered = sorted(rows, key=lambda r: (str(r.key.cell), r.precision, -r.accuracy_val_selected))
    lines = tuple(
        (
            str(row.key.cell),
            row.precision,
            ", ".join(f"{name} {shown(value)}" for name, value in changes(row).items()),
            (row.parent_file_sha256 or "")[:8],
            f"{row.train_images:,}",
            f"{row.epochs_done}",
            f"{100 * row.accuracy_val_selected:.2f}",
            f"{row.val_images:,}",
            "" if row.cfs_last is None else f"{row.cfs_last:.2g}",
        )
        for row in ordered
    )
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    return Table(
        "Trials of desk recipes",
        (
            *("cell", "run", "where it differs from the recipe that ships now"),
            *("parent", "training images", "epochs", "validation %", "validation images", "CFS"),
        ),
        lines,
        (
            "Compared by validation accuracy, never by test accuracy. Trials of different parents "
            "differ by the parent, too: the column has the first eight digits of the SHA-256 of "
            "the parent's packed file, of a conversion that of its ANN. One training each: a "
            f"difference of a few points can be chance. Seed {seeds}, which no table of results "
            "has. What was chosen after them, and older choices by hand and without rows, are told "
            "in docs/desk_tier.md.",
        ),
    )
