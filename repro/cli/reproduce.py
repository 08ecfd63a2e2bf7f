"""``reproduce``: every cell of a tier, from data to tables."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from repro.cells import ALL_CELLS, RunKey, Tier
from repro.cli.parsing import DATA, ROWS, RUNS, TIER, parse
from repro.cli.tables import TablesArguments, command_report, write_tables
from repro.errors import UserError


@dataclass(frozen=True)
class ReproduceArguments:
    """Run every cell that exists at a tier, parents before children, then write the tables.

    A cell whose data are missing is left out and named at the end; the exit code is then 1.

    Attributes:
        seeds: Seeds of every cell.
        results: Folder of the tables.
        jobs: Runs at a time; 0 for one a core, and a single one on a GPU.
    """

    tier: Annotated[Tier, TIER] = "smoke"
    seeds: tuple[int, ...] = (0,)
    runs: Annotated[Path, RUNS] = Path("runs")
    rows: Annotated[Path, ROWS] = Path("results/rows")
    results: Path = Path("results")
    data_dir: Annotated[Path | None, DATA] = None
    jobs: int = 0

    def __post_init__(self) -> None:
        """Refuse a number of processes below 0."""
        if self.jobs < 0:
            raise UserError(f"jobs is {self.jobs}: give 1 or more, or 0 for one a core")


def command_reproduce(arguments: Sequence[str]) -> int:
    """Run every cell of a tier, then the tables."""
    chosen = parse(ReproduceArguments, arguments)
    import torch

    from repro.recipes.shipped import RECIPES
    from repro.report.publish import require_published
    from repro.report.run_summary import run_in_words
    from repro.run.chains import Made, make_chains
    from repro.run.places import Places

    require_published(chosen.results)
    ready = [cell for cell in ALL_CELLS if (cell, chosen.tier) in RECIPES]
    # Cells of one method start apart: on a new machine the second finds its kernels compiled.
    methods = [cell.method for cell in ready]
    of_method = {cell: methods[:place].count(cell.method) for place, cell in enumerate(ready)}
    ready.sort(key=of_method.__getitem__)
    chains = [
        [RunKey(cell, precision, seed, chosen.tier) for precision in cell.precisions]
        for cell in ready
        for seed in chosen.seeds
    ]
    count, ended = sum(map(len, chains)), list[Made]()

    def say(made: Made) -> None:
        ended.append(made)
        found = f"not run: {made.missing}" if made.row is None else run_in_words(made.row)
        print(f"[{len(ended)}/{count}] {made.key}\n{found}", flush=True)

    places = Places(chosen.runs, chosen.rows, chosen.data_dir)
    one_a_core = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    make_chains(chains, places, chosen.jobs or one_a_core, say)
    write_tables(TablesArguments(rows=chosen.rows, results=chosen.results), chosen.tier)
    command_report([f"--{name}={getattr(chosen, name)}" for name in ("rows", "results", "runs")])
    without_data = {str(made.key.cell): made.missing for made in ended if made.row is None}
    for cell, missing in without_data.items():
        print(f"cbp-qsnn: {cell} was not run: {missing}", file=sys.stderr)
    return 1 if without_data else 0
