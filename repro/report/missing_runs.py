"""Runs that the tables require and that are missing."""

from collections.abc import Iterable, Sequence
from typing import Final

from repro.cells import ALL_CELLS, RunKey, Tier
from repro.recipes.shipped import RECIPES
from repro.results.row import Row

SHOWN: Final = 3  # missing runs that are named


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
