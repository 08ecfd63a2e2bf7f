"""``tables`` and ``report``: what the rows say."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from repro.cells import Tier
from repro.cli.parsing import ROWS, parse
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.results.row import Row


@dataclass(frozen=True)
class TablesArguments:
    """Regenerate tables and figures from the rows and the published numbers.

    Attributes:
        source: Where the rows are: ``rows``, the folder of that argument, or
            ``wandb:<entity>/<project>``, the runs of a W&B project.
        results: Folder of the tables; holds paper.csv.
    """

    source: Annotated[str, tyro.conf.arg(name="from")] = "rows"
    rows: Annotated[Path, ROWS] = Path("results/rows")
    results: Path = Path("results")

    def __post_init__(self) -> None:
        """Refuse a source of another kind."""
        if self.source != "rows" and not self.source.startswith("wandb:"):
            raise UserError(f"from is {self.source!r}: give rows or wandb:<entity>/<project>")


@dataclass(frozen=True)
class ReportArguments(TablesArguments):
    """Write one HTML page of tables, figures and all runs; it needs no network.

    Attributes:
        runs: Folder of run folders, for curves and histograms of the runs that are here.
        out: File to write; by default report.html in that folder.
    """

    runs: Path = Path("runs")
    out: Path | None = None


def command_tables(arguments: Sequence[str]) -> int:
    """Regenerate all tables."""
    write_tables(parse(TablesArguments, arguments), None)
    return 0


def write_tables(chosen: TablesArguments, show: Tier | None) -> None:
    """Write the tables; print those of one tier, or the names of all files."""
    from repro.report.publish import publish, require_published

    require_published(chosen.results)
    publish(read_rows_of(chosen), chosen.results, show)


def read_rows_of(chosen: TablesArguments) -> "list[Row]":
    """Return the rows of the folder or of the W&B project that was named."""
    if chosen.source == "rows":
        from repro.results.rows import read_rows

        return read_rows(chosen.rows)
    from repro.tracking.project_rows import read_wandb_rows

    found = read_wandb_rows(chosen.source.removeprefix("wandb:"))
    for note in found.notes:
        print(note, file=sys.stderr)
    return found.rows


def command_report(arguments: Sequence[str]) -> int:
    """Write the page of the report and say where it is."""
    chosen = parse(ReportArguments, arguments)
    from repro.report.page.document import write_page
    from repro.report.tier_rows import all_tiers, current_hashes
    from repro.results.published import read_published

    published, rows = read_published(chosen.results / "paper.csv"), read_rows_of(chosen)
    tiers = all_tiers(rows, current_hashes(rows))
    out = chosen.out or chosen.runs / "report.html"
    page = write_page(tiers, published, chosen.results, chosen.runs, out)
    print(f"Report: {page}, {page.stat().st_size / 1e6:.1f} MB")
    return 0
