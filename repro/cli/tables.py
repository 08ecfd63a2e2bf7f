"""``tables``, ``report`` and ``wandb-report``: what the rows say; ``diff``: between two runs."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from repro.cells import Tier
from repro.cli.parsing import ROWS, parse
from repro.errors import UserError, visible

if TYPE_CHECKING:
    from repro.report.tier_rows import TierRows
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


@dataclass(frozen=True)
class DiffArguments:
    """Say what differs between two runs: recipe, code, versions, data, figures, answers.

    Attributes:
        first: Name of a run, or the file of its row.
        second: The other one.
        source: Where rows are that are given by name: ``rows``, the folder of that argument, or
            ``wandb:<entity>/<project>``.
    """

    first: Annotated[str, tyro.conf.Positional]
    second: Annotated[str, tyro.conf.Positional]
    source: Annotated[str, tyro.conf.arg(name="from")] = "rows"
    rows: Annotated[Path, ROWS] = Path("results/rows")

    def __post_init__(self) -> None:
        """Refuse a source of another kind."""
        TablesArguments(self.source)


@dataclass(frozen=True)
class WandbReportArguments:
    """Save a report in a W&B project: its tables, curves of CBP, its ablations.

    Attributes:
        project: <entity>/<project>.
        results: Folder that holds paper.csv.
    """

    project: Annotated[str, tyro.conf.Positional]
    results: Path = Path("results")


def command_wandb_report(arguments: Sequence[str]) -> int:
    """Save a report in a W&B project and say where it is."""
    chosen = parse(WandbReportArguments, arguments)
    from repro.report.publish import tier_tables
    from repro.report.tier_rows import all_tiers, current_hashes
    from repro.results.published import read_published
    from repro.tracking.wandb_report import save_report

    published = read_published(chosen.results / "paper.csv")
    rows = read_rows_of(TablesArguments(f"wandb:{chosen.project}"))
    if not rows:
        raise UserError(f"W&B project {chosen.project}: no run of the tables is finished")
    tiers = [tier for tier in all_tiers(rows, current_hashes(rows)) if tier.rows]
    tables = [table for tier in tiers for table in tier_tables(tier, published).values()]
    address = save_report(chosen.project, [table.to_markdown() for table in tables])
    print(f"Report of {chosen.project}, {len(tables)} tables: {address}")
    return 0


def command_diff(arguments: Sequence[str]) -> int:
    """Say what differs between two runs."""
    chosen = parse(DiffArguments, arguments)
    from repro.report.run_difference import differences_in_words

    print(differences_in_words(*find_rows(chosen, chosen.first, chosen.second)))
    return 0


def find_rows(chosen: DiffArguments, *names: str) -> "list[Row]":
    """Return the rows of these names or files."""
    from repro.results.rows import read_row

    by_name = {}
    if chosen.source != "rows":
        by_name = {str(row.key): row for row in read_rows_of(TablesArguments(chosen.source))}
    found = []
    for name in names:
        file = Path(name) if name.endswith(".json") else chosen.rows / f"{name}.json"
        if name not in by_name and not file.is_file():
            where = chosen.rows if chosen.source == "rows" else chosen.source
            raise UserError(
                f"{name}: no such run in {where}: give its name, or the file of its row"
            )
        found.append(by_name[name] if name in by_name else read_row(file))
    return found


def command_tables(arguments: Sequence[str]) -> int:
    """Regenerate all tables."""
    write_tables(parse(TablesArguments, arguments), None)
    return 0


def write_tables(chosen: TablesArguments, show: Tier | None) -> None:
    """Write the tables; print those of one tier, or the names of all files."""
    from repro.report.publish import publish, require_published, require_rows

    require_published(chosen.results)
    rows = read_rows_of(chosen)
    require_rows(rows, chosen.results)
    publish(rows, chosen.results, show, _study(chosen))


def _study(chosen: TablesArguments) -> "dict[str, TierRows]":
    """Return the rows of the headline as a curve; none where the source is a W&B project."""
    from repro.report.headline import read_headline

    return read_headline(chosen.rows) if chosen.source == "rows" else {}


def read_rows_of(chosen: TablesArguments) -> "list[Row]":
    """Return the rows of the folder or of the W&B project that was named."""
    if chosen.source == "rows":
        from repro.results.rows import read_rows

        return read_rows(chosen.rows)
    from repro.tracking.project_rows import read_wandb_rows

    found = read_wandb_rows(chosen.source.removeprefix("wandb:"))
    for note in found.notes:
        print(visible(note), file=sys.stderr)
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
    page = write_page(tiers, published, chosen.results, chosen.runs, out, _study(chosen))
    print(f"Report: {page}, {page.stat().st_size / 1e6:.1f} MB")
    return 0
