"""Runs that the tables require and that are missing."""

from collections.abc import Iterable, Sequence
from typing import Final

from repro.cells import CELLS_BY_PREFIX, RunKey, Tier
from repro.recipes.shipped import RECIPES
from repro.results.row import Row

SHOWN: Final = 3  # missing runs that are named


def missing_runs(rows: Iterable[Row], tier: Tier) -> list[RunKey]:
    """Return the runs of a tier without a row, for the seeds that some row of its tables has.

    Cells without a recipe for the tier are left out. Tables without a row have the seeds of all.

    Returns:
        Keys in the order of the tables, parents before children; none if the tier has no row.
    """
    mine = [row for row in rows if row.tier == tier]
    there = {row.key for row in mine}
    wanted = [
        RunKey(cell, precision, seed, tier)
        for cells in CELLS_BY_PREFIX.values()
        for cell in cells
        if (cell, tier) in RECIPES
        for seed in sorted(
            {key.seed for key in there if key.cell in cells} or {k.seed for k in there}
        )
        for precision in cell.precisions
    ]
    return [key for key in wanted if key not in there]


def missing_in_words(rows: Sequence[Row], tier: Tier) -> str:
    """Return how many runs are missing, the first `SHOWN`, and the command that makes them all."""
    missing = missing_runs(rows, tier)
    if not missing:
        return ""
    cells = " ".join(dict.fromkeys(str(key.cell) for key in missing))
    seeds = " ".join(map(str, sorted({key.seed for key in missing})))
    rest = f"  and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return "\n".join(
        [
            f"{len(missing)} runs of the {tier} tier are missing:",
            *(f"  {key.command()}" for key in missing[:SHOWN]),
            *[rest] * bool(rest),
            f"all of them: python -m repro campaign --tier {tier} --seeds {seeds} --cells {cells}",
        ]
    )
