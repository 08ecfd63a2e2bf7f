"""Runs that the tables require and that are missing."""

from collections.abc import Iterable, Sequence

from repro.cells import ALL_CELLS, RunKey, Tier
from repro.recipes.shipped import RECIPES
from repro.results.row import Row


def missing_runs(rows: Iterable[Row], tier: Tier) -> list[RunKey]:
    """Return the runs of a tier without a row, for the seeds that some row of the tier has.

    Args:
        rows: Rows of any tier.
        tier: The tier; cells without a recipe for it are left out.

    Returns:
        Keys in the order of the tables, parents before children; none if the tier has no row.
    """
    mine = [row for row in rows if row.tier == tier]
    seeds, there = sorted({row.seed for row in mine}), {row.key for row in mine}
    wanted = [
        RunKey(cell, precision, seed, tier)
        for cell in ALL_CELLS
        if (cell, tier) in RECIPES
        for seed in seeds
        for precision in cell.precisions
    ]
    return [key for key in wanted if key not in there]


def missing_in_words(rows: Sequence[Row], tier: Tier) -> str:
    """Return a line and a command per missing run, or nothing."""
    missing = missing_runs(rows, tier)
    if not missing:
        return ""
    head = f"{len(missing)} of the {tier} tier's runs are missing; these commands make them:"
    return "\n".join([head, *(f"  {key.command()}" for key in missing)])
