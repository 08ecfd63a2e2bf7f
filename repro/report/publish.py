"""Tables and figures from the rows and the published numbers.

What goes to the results folder is determined by rows, ``paper.csv`` and ``rivals.csv`` alone, so a
fresh clone regenerates it without difference. The page that shows curves, too, is made by
`repro.report.page.document`.
"""

import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from repro.cells import Tier
from repro.errors import UserError
from repro.files import write_atomically
from repro.report.accuracy import accuracy_table, front_table
from repro.report.accuracy_memory import our_points
from repro.report.claims import claims_table
from repro.report.comparison import comparison_table
from repro.report.control import control_table
from repro.report.conversion import conversion_table
from repro.report.headline import STUDY, headline_figure, headline_table
from repro.report.linear_model import LinearModel, linear_models
from repro.report.missing_runs import missing_in_words
from repro.report.page.figure import alone, in_one_file
from repro.report.page.memory_panels import memory_figure
from repro.report.runs_csv import runs_csv
from repro.report.saved_files import file_table
from repro.report.search import SEARCH, search_table
from repro.report.state_of_the_art import state_of_the_art_table
from repro.report.summary import summary
from repro.report.tier_rows import TierRows, all_tiers, current_hashes
from repro.report.weight_memory import memory_of_cells, memory_table
from repro.results.published import PublishedNumbers, read_published
from repro.results.row import Row
from repro.results.rows import read_ablation
from repro.table import Table, latex

ON_DEMAND: Final[tuple[Tier, ...]] = ("paper_short", "smoke")  # no page before the first row
TABLES: Final[Mapping[str, Callable[[TierRows], Table]]] = {
    "claims": claims_table,
    "control": control_table,
    "conversion": conversion_table,
    "comparison": comparison_table,
    "files": file_table,
}
OF_THE_PAPER: Final = ("claims", "conversion")  # the other groups have no such table
HEADINGS: Final = {"": "", "simulated_": " on simulated events", "beyond_": " beyond the paper"}
REAL_EVENTS: Final = " on real event recordings,"


def tier_tables(
    tier: TierRows, published: PublishedNumbers, linear: Iterable[LinearModel] = ()
) -> dict[str, Table]:
    """Return the tables of a tier by the first part of their file names.

    Args:
        tier: Our rows.
        published: Published numbers.
        linear: Linear models of this tier's data sets, a line each below the accuracy.
    """
    accuracy = accuracy_table(tier, published)
    below = [model.note(tier.rows) for model in linear if model.prefix == tier.prefix]
    tables = {"accuracy": dataclasses.replace(accuracy, notes=(*accuracy.notes, *below))}
    for name, table_of in TABLES.items():
        if not (tier.prefix and name in OF_THE_PAPER):
            tables[name] = table_of(tier)
    return {f"{tier.prefix}{name}": table for name, table in tables.items()}


def write_results(
    tiers: Sequence[TierRows],
    published: PublishedNumbers,
    results: Path,
    memory: Table,
    study: Mapping[str, TierRows],
) -> list[Path]:
    """Write what rows and published numbers determine; return the paths.

    Tables as Markdown, CSV and LaTeX, all runs as CSV, and accuracy against memory as SVG. The
    smoke tier goes below ``smoke/``, and only if it has rows.
    """
    paths: list[Path] = []
    ran = {row.tier for tier in tiers for row in tier.rows}
    for tier in tiers:
        shown = tier.tier in ran or tier.tier not in ON_DEMAND
        if tier.rows or (shown and not tier.prefix):
            tables = tier_tables(tier, published, linear_models(results, tier.tier))
            folder = results / "smoke" if tier.tier == "smoke" else results
            paths += _write_page(tier, published, tables, folder)
            for name, table in tables.items():
                paths += _write_table(table, folder, f"{name}_{tier.tier}")
    kept = [row for tier in tiers if tier.tier != "smoke" for row in tier.rows]
    paths.append(write_atomically(results / "runs.csv", runs_csv(kept, tiers[0].hashes)))
    pages = {"memory": memory}
    if (rivals := results / "rivals.csv").exists():
        pages["state_of_the_art"] = state_of_the_art_table(tiers, rivals)
    if tried := read_ablation(results / SEARCH):
        pages[SEARCH] = search_table(tried)
    if study:
        pages[STUDY] = headline_table(study)
        drawn = headline_figure(study)
        paths.append(write_atomically(results / f"{STUDY}.svg", alone(drawn)))
    for name, table in pages.items():
        page = results / f"{name}.md"
        text = table.to_markdown().removeprefix("#")
        if name == STUDY:
            text += f"\n![{table.title}]({STUDY}.svg)\n"
        paths.append(write_atomically(page, text))
        paths += _write_table(table, results, name)
    return paths


def _write_table(table: Table, folder: Path, name: str) -> list[Path]:
    """Write a table as CSV and LaTeX; return the paths."""
    return [
        write_atomically(folder / f"{name}.csv", table.to_csv()),
        write_atomically(folder / f"{name}.tex", latex(table, name)),
    ]


def _write_page(
    tier: TierRows, published: PublishedNumbers, tables: Mapping[str, Table], folder: Path
) -> list[Path]:
    """Write the tables on one page, with the figure of accuracy against memory; return the paths.

    Without a point of ours an old figure is removed.
    """
    name, prefix = tier.tier, tier.prefix
    heading = REAL_EVENTS if tier.real_events else ""
    parts = [f"# Results{heading}{HEADINGS[prefix]}, {name} tier\n"]
    if not prefix:
        parts.append(" ".join(summary(tier)) + "\n")
    parts += [table.to_markdown() for table in tables.values()]
    figure = folder / f"accuracy_against_memory_{prefix}{name}.svg"
    paths = []
    if our_points(tier):
        drawn = memory_figure(tier, published)
        paths.append(write_atomically(figure, in_one_file(drawn)))
        parts.append(f"![Accuracy against weight memory, {name} tier]({figure.name})\n")
        parts.append(f"{drawn.caption}\n")
    else:
        figure.unlink(missing_ok=True)
    page = folder / f"{prefix or 'accuracy_'}{name}.md"
    return [*paths, write_atomically(page, "\n".join(parts))]


def in_terminal(tables: Iterable[Table], rows: Iterable[Row]) -> str:
    """Return the tables as text for this terminal, only the cells that have a row.

    A table without such a cell is left out.
    """
    cells = {row.key.cell for row in rows}
    names = {name for cell in cells for name in (str(cell), f"{cell.method}/{cell.dataset}")}
    width = shutil.get_terminal_size().columns
    parts, said = [], set[str]()  # a note below several tables is said once
    for table in tables:
        lines = tuple(line for line in table.lines if line[0] in names)
        if not lines:
            continue
        notes = tuple(note for note in table.notes if note not in said)
        said.update(notes)
        parts.append(dataclasses.replace(table, lines=lines, notes=notes).to_terminal(width))
    return "\n".join(parts)


def require_published(results: Path) -> None:
    """Refuse a folder without the published numbers, before anything is trained for its tables.

    Raises:
        UserError: ``paper.csv`` is not there.
    """
    if not (results / "paper.csv").exists():
        raise UserError(
            f"{results / 'paper.csv'} is missing: run in the project's folder, or give --results"
        )


def require_rows(rows: Iterable[Row], results: Path) -> None:
    """Refuse to empty tables that have rows.

    Raises:
        UserError: There are no rows but those of the smoke tier, and the tables have some.
    """
    runs = results / "runs.csv"
    kept = [row for row in rows if row.tier != "smoke"]
    if not kept and runs.is_file() and len(runs.read_bytes().splitlines()) > 1:
        raise UserError(f"no rows, and {runs} has some: give others by --rows, or delete it")


def fill_readme(readme: Path, table: Table) -> None:
    """Write the table between the marks ``<!-- table -->`` and ``<!-- /table -->`` of a page."""
    start, end = "<!-- table -->\n", "<!-- /table -->"
    text = readme.read_text("utf-8") if readme.exists() else ""
    if start not in text or end not in text:
        return
    before, rest = text.split(start, 1)
    after = rest.split(end, 1)[1]
    lines = table.to_markdown().split("\n", 2)[2]  # the page has a heading of its own
    write_atomically(readme, f"{before}{start}{lines}{end}{after}")


def publish(
    rows: Sequence[Row],
    results: Path,
    show: Tier | None,
    study: Mapping[str, TierRows] = MappingProxyType({}),
) -> None:
    """Write tables and figures of every tier; print what was asked for.

    Args:
        rows: Rows of all tiers.
        results: Holds ``paper.csv``; the tables go there, the smoke tier's below ``smoke``.
        show: Tier whose tables are printed; None prints the names of the files and, on standard
            error, the commands of runs that the tiers with results lack.
        study: Rows of the headline as a curve (`repro.report.headline.read_headline`).
    """
    published = read_published(results / "paper.csv")
    tiers = all_tiers(rows, current_hashes(rows))
    memory = memory_table(published, memory_of_cells())
    paths = write_results(tiers, published, results, memory, study)
    real = [tier for tier in tiers if not tier.prefix and tier.tier != "smoke"]
    if first := next((tier for tier in real if tier.rows), None):
        fill_readme(results.parent / "README.md", front_table(first))
    if show is None:
        print("\n".join(map(str, paths)))
        for said in filter(None, (missing_in_words(rows, tier.tier) for tier in real)):
            print(said, file=sys.stderr)
        return
    shown = [tier for tier in tiers if tier.tier == show]
    linear = linear_models(results, show)
    tables = [t for tier in shown for t in tier_tables(tier, published, linear).values()]
    mine = [row for tier in shown for row in tier.rows]
    print(f"{' '.join(summary(shown[0]))}\n\n{in_terminal([*tables, memory], mine)}")
