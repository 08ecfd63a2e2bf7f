"""Tables and figures from the rows and the published numbers.

What goes to the results folder is determined by rows and ``paper.csv`` alone, so a fresh clone
regenerates it without difference. The page that shows curves, too, is made by ``repro.page``.
"""

import dataclasses
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from repro.cells import COLUMNS, SIMULATED, TIERS, Tier
from repro.errors import UserError
from repro.files import write_atomically
from repro.report.accuracy import accuracy_table
from repro.report.claims import claims_table
from repro.report.comparison import comparison_table
from repro.report.control import control_table
from repro.report.conversion import conversion_table
from repro.report.figure import accuracy_against_memory_figure
from repro.report.linear_model import LinearModel, linear_models
from repro.report.missing_runs import holes_in_words
from repro.report.runs_csv import runs_csv
from repro.report.saved_files import file_table
from repro.report.summary import summary_in_words
from repro.report.tier_rows import current_hashes, grouped
from repro.report.weight_memory import MemoryByCell, memory_of_cells, memory_table
from repro.results.published import Published, read_published
from repro.results.row import Row
from repro.table import Table, latex

ON_DEMAND: Final[tuple[Tier, ...]] = ("paper_short", "smoke")  # no page before the first row
Hashes = Mapping[str, str] | None


def tier_tables(
    rows: Sequence[Row],
    published: Sequence[Published],
    tier: Tier,
    hashes: Hashes,
    linear: Iterable[LinearModel] = (),
) -> dict[str, Table]:
    """Return the tables of a tier by the first part of their file names.

    Args:
        rows: Rows of any tier; only those of ``tier`` are used.
        published: Published numbers.
        tier: Scale of our runs.
        hashes: Run key -> hash of today's recipe; None leaves staleness unchecked.
        linear: Linear models of this tier's data sets, a line each below the accuracy.
    """
    mine = [row for row in rows if row.tier == tier]
    accuracy = accuracy_table(mine, published, tier, hashes)
    notes = (*accuracy.notes, *(model.note(mine) for model in linear if not model.simulated))
    return {
        "accuracy": dataclasses.replace(accuracy, notes=notes),
        "claims": claims_table(mine, tier, hashes),
        "control": control_table(mine, tier, hashes),
        "conversion": conversion_table(mine, tier, hashes),
        "comparison": comparison_table(mine, tier, hashes),
        "files": file_table(mine, tier, hashes),
    }


def simulated_tables(
    rows: Sequence[Row], tier: Tier, hashes: Hashes, linear: Iterable[LinearModel] = ()
) -> dict[str, Table]:
    """Return the tables of the simulated data sets, none where no run of the tier read one.

    Arguments as in `tier_tables`.
    """
    mine = [row for row in rows if row.tier == tier and row.key.cell.simulated]
    if not mine:
        return {}
    accuracy = accuracy_table(mine, (), tier, hashes, SIMULATED)
    notes = (*accuracy.notes, *(model.note(mine) for model in linear if model.simulated))
    return {
        "simulated_accuracy": dataclasses.replace(accuracy, notes=notes),
        "simulated_control": control_table(mine, tier, hashes, SIMULATED),
        "simulated_comparison": comparison_table(mine, tier, hashes, SIMULATED),
        "simulated_files": file_table(mine, tier, hashes, SIMULATED),
    }


def generate(
    rows: Sequence[Row],
    published: Sequence[Published],
    results: Path,
    *,
    hashes: Hashes = None,
    memory: MemoryByCell | None = None,
) -> list[Path]:
    """Write what rows and published numbers determine; return the paths.

    Tables as Markdown, CSV and LaTeX, all runs as CSV, and accuracy against memory as SVG. The
    smoke tier goes below ``smoke/``, and only if it has rows.

    Args:
        rows: Rows of all tiers.
        published: Published numbers.
        results: Folder to write to; ``linear_*.json`` are read there.
        hashes: As in `tier_tables`.
        memory: As in `memory_table`; None writes no memory table.

    Raises:
        UserError: A damaged file of a linear model.
    """
    paths: list[Path] = []
    for tier in TIERS:
        if tier in ON_DEMAND and not any(row.tier == tier for row in rows):
            continue
        linear = linear_models(results, tier)
        tables = tier_tables(rows, published, tier, hashes, linear)
        folder = results / "smoke" if tier == "smoke" else results
        simulated = simulated_tables(rows, tier, hashes, linear)
        parts = [f"# Results, {tier} tier\n", summary_in_words(rows, tier) + "\n"]
        parts += [table.to_markdown() for table in tables.values()]
        paths += _write_markdown(rows, tier, folder / f"accuracy_{tier}.md", parts)
        if simulated:
            parts = [f"# Results on simulated events, {tier} tier\n"]
            parts += [table.to_markdown() for table in simulated.values()]
            paths += _write_markdown(rows, tier, folder / f"simulated_{tier}.md", parts, True)
        for name, table in (tables | simulated).items():
            paths += _write_table(table, folder, f"{name}_{tier}")
    kept = [row for row in rows if row.tier != "smoke"]
    paths.append(write_atomically(results / "runs.csv", runs_csv(kept, hashes)))
    if memory is not None:
        table = memory_table(published, memory)
        text = table.to_markdown().removeprefix("#")
        paths.append(write_atomically(results / "memory.md", text))
        paths += _write_table(table, results, "memory")
    return paths


def _write_table(table: Table, folder: Path, name: str) -> list[Path]:
    """Write a table as CSV and LaTeX; return the paths."""
    return [
        write_atomically(folder / f"{name}.csv", table.to_csv()),
        write_atomically(folder / f"{name}.tex", latex(table, name)),
    ]


def _write_markdown(
    rows: Iterable[Row], tier: Tier, page: Path, parts: Sequence[str], simulated: bool = False
) -> list[Path]:
    """Write a page of tables with its figure of accuracy against memory; return the paths."""
    figure = memory_figure(rows, tier, page.parent, simulated)
    shown = [f"![Accuracy against weight memory, {tier} tier]({figure.name})\n"] if figure else []
    written = write_atomically(page, "\n".join([*parts, *shown]))
    return [figure, written] if figure else [written]


def memory_figure(
    rows: Iterable[Row], tier: Tier, folder: Path, simulated: bool = False
) -> Path | None:
    """Draw accuracy against memory of a tier; without rows remove an old figure, return None.

    The ANN of a converted cell is no spiking network and is left out. Simulated data sets have a
    figure of their own.
    """
    out = folder / f"accuracy_against_memory_{'simulated_' * simulated}{tier}.svg"
    mine = [
        row
        for row in rows
        if (row.tier, row.key.cell.simulated) == (tier, simulated) and row.precision in COLUMNS
    ]
    if mine:
        return accuracy_against_memory_figure(mine, out)
    out.unlink(missing_ok=True)
    return None


def in_terminal(tables: Iterable[Table], rows: Iterable[Row], tier: Tier) -> str:
    """Return the tables as text for this terminal, only the cells that have a row of the tier.

    A table without such a cell is left out.
    """
    cells = {row.key.cell for row in rows if row.tier == tier}
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


def fill_readme(readme: Path, summary: str, table: Table) -> None:
    """Write the table between the marks ``<!-- table -->`` and ``<!-- /table -->`` of a page."""
    start, end = "<!-- table -->\n", "<!-- /table -->"
    text = readme.read_text("utf-8") if readme.exists() else ""
    if start not in text or end not in text:
        return
    before, rest = text.split(start, 1)
    after = rest.split(end, 1)[1]
    page = f"{before}{start}{summary}\n\n{table.to_markdown()}{end}{after}"
    write_atomically(readme, page)


def write_tables(rows: Sequence[Row], results: Path, show: Tier | None) -> int:
    """Write tables and figures of every tier; print what was asked for.

    Args:
        rows: Rows of all tiers.
        results: Holds ``paper.csv``; the tables go there, the smoke tier's below ``smoke``.
        show: Tier whose tables are printed; None prints the names of the files and, on standard
            error, the commands of runs that the tiers with results lack.

    Returns:
        Exit code 0.

    Raises:
        UserError: No published numbers, or a damaged file.
    """
    require_published(results)
    published = read_published(results / "paper.csv")
    hashes = current_hashes(rows)
    computed = memory_of_cells()
    paths = generate(rows, published, results, hashes=hashes, memory=computed)
    real: tuple[Tier, ...] = ("paper", "paper_short", "desk")
    shown = next((tier for tier in real if grouped(rows, tier)), None)
    if shown is not None:
        table = tier_tables(rows, published, shown, hashes, linear_models(results, shown))
        fill_readme(results.parent / "README.md", summary_in_words(rows, shown), table["accuracy"])
    if show is None:
        print("\n".join(map(str, paths)))
        for said in filter(None, (holes_in_words(rows, tier) for tier in real)):
            print(said, file=sys.stderr)
        return 0
    tables = tier_tables(rows, published, show, hashes, linear_models(results, show))
    tables |= simulated_tables(rows, show, hashes, linear_models(results, show))
    tables["memory"] = memory_table(published, computed)
    print(f"{summary_in_words(rows, show)}\n\n{in_terminal(tables.values(), rows, show)}")
    return 0
