"""Trials that chose a recipe: of seeds that no table has, judged on validation images alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from repro.recipes.shipped import RECIPES
from repro.recipes.spec import RunSpec
from repro.report.run_difference import shown
from repro.results.row import Row, flat
from repro.results.rows import read_rows
from repro.table import Table

SEARCH: Final = "search"  # name of the ablation in the sweep files of sweeps/search


def read_search(results: Path) -> list[Row]:
    """Return the rows of ``<results>/search``, which has a folder for each recipe."""
    folders = sorted(path for path in (results / SEARCH).glob("*") if path.is_dir())
    return [row for folder in folders for row in read_rows(folder)]


def departures(row: Row) -> dict[str, Any]:
    """Return the fields in which a trial differs from the recipe that ships, with their values."""
    key = row.key
    if (key.cell, key.tier) not in RECIPES:
        return {}
    ships = dict(flat(RunSpec.shipped(key).values, ""))
    tried = dict(flat(row.recipe, ""))
    names = dict.fromkeys([*tried, *ships])
    return {
        name.lstrip("."): tried.get(name, "default")
        for name in names
        if tried.get(name) != ships.get(name)
    }


def search_table(rows: Sequence[Row]) -> Table:
    """Return a line for each trial, best validation accuracy first."""
    ordered = sorted(rows, key=lambda r: (str(r.key.cell), r.precision, -r.accuracy_val_selected))
    lines = tuple(
        (
            str(row.key.cell),
            row.precision,
            ", ".join(f"{name} {shown(value)}" for name, value in departures(row).items()),
            f"{row.train_images:,}",
            f"{row.epochs_done}",
            f"{100 * row.accuracy_val_selected:.2f}",
            "" if row.cfs_last is None else f"{row.cfs_last:.2g}",
        )
        for row in ordered
    )
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    return Table(
        "Trials that chose the recipes of the desk tier",
        (
            *("cell", "run", "where it differs from the recipe that ships now"),
            *("training images", "epochs", "validation %", "CFS"),
        ),
        lines,
        (
            f"Validation accuracy decided, test accuracy never did. Seed {seeds}, which no other "
            "table has. Older choices, by hand and without rows, are told in docs/desk_tier.md.",
        ),
    )
