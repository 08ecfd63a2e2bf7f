"""``reproduce``: every cell of a tier, from data to tables."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import DataError
from repro.cells import ALL_CELLS, RunKey, Tier
from repro.cli.parsing import parse
from repro.cli.tables import TablesArguments, command_report, write_tables


@dataclass(frozen=True)
class ReproduceArguments:
    """Run every cell that exists at a tier, parents before children, then write the tables.

    A cell whose data are missing is left out and named at the end; the exit code is then 1.

    Attributes:
        tier: paper as published, paper_short with its schedule shortened, desk in minutes on two
            cores, smoke in seconds.
        seeds: Seeds of every cell.
        runs: Folder of run folders.
        rows: Folder of rows.
        results: Folder of the tables.
        data_dir: Data sets; by default the variable CBP_DATA, else data.
    """

    tier: Tier = "smoke"
    seeds: tuple[int, ...] = (0,)
    runs: Path = Path("runs")
    rows: Path = Path("results/rows")
    results: Path = Path("results")
    data_dir: Path | None = None


def command_reproduce(arguments: Sequence[str]) -> int:
    """Run every cell of a tier, then the tables."""
    chosen = parse(ReproduceArguments, arguments)
    from repro.recipes.shipped import RECIPES
    from repro.recipes.spec import RunSpec
    from repro.report.publish import require_published
    from repro.report.run_summary import run_in_words
    from repro.run.lifecycle import run
    from repro.run.places import Places

    require_published(chosen.results)
    places = Places(chosen.runs, chosen.rows, chosen.data_dir)
    ready = [cell for cell in ALL_CELLS if (cell, chosen.tier) in RECIPES]
    keys = [RunKey(c, p, s, chosen.tier) for c in ready for s in chosen.seeds for p in c.precisions]
    without_data: dict[str, str] = {}  # cell -> what is missing
    for number, key in enumerate(keys, 1):
        print(f"[{number}/{len(keys)}] {key}", flush=True)
        if str(key.cell) in without_data:
            continue
        try:
            print(run_in_words(run(RunSpec.shipped(key), places)), flush=True)
        except DataError as error:  # the other cells may have theirs
            without_data[str(key.cell)] = str(error)
            print(f"not run: {error}", file=sys.stderr)
    write_tables(TablesArguments(rows=chosen.rows, results=chosen.results), chosen.tier)
    command_report([f"--{name}={getattr(chosen, name)}" for name in ("rows", "results", "runs")])
    for cell, missing in without_data.items():
        print(f"cbp-qsnn: {cell} was not run: {missing}", file=sys.stderr)
    return 1 if without_data else 0
