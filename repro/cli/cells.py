"""``cells``: what can be run."""

from collections.abc import Sequence
from dataclasses import dataclass

from repro.cells import ALL_CELLS
from repro.cli.parsing import parse


@dataclass(frozen=True)
class CellsArguments:
    """List the nine cells, the simulated ones, and the tiers that can be run."""


def command_cells(arguments: Sequence[str]) -> int:
    """List the nine cells, the simulated ones, and the tiers that can be run."""
    parse(CellsArguments, arguments)
    from repro.recipes.shipped import RECIPES

    for cell in ALL_CELLS:
        tiers = [tier for c, tier in RECIPES if c == cell]
        print(f"{cell!s:35} T {cell.time_steps:<3} {', '.join(tiers) or 'not yet'}")
    return 0
