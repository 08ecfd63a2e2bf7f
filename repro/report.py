"""Tables and figures from the rows and the published numbers.

What goes to the results folder is determined by rows and ``paper.csv`` alone, so a fresh clone
regenerates it without difference. The page that shows curves, too, is made by ``repro.page``.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from repro import memory
from repro.cbp.layers import choose_layers
from repro.cbp.levels import LEVELS, LayerLevels
from repro.cells import CELLS, COLUMNS, QUANTISED, SIMULATED, TIERS, Cell, Tier
from repro.claims import claims_table, control_table
from repro.errors import UserError
from repro.figures import accuracy_against_memory_figure
from repro.groups import grouped
from repro.holes import holes_in_words
from repro.latex import latex
from repro.memory_table import WeightMemory, file_table, memory_table
from repro.methods.build import build_network
from repro.published import Published, read_published
from repro.recipes import RECIPES, recipe_hash
from repro.rows import Row, write_atomically
from repro.runs_csv import runs_csv
from repro.tables import accuracy_table, comparison_table, conversion_table, summary_in_words
from repro.text_table import Table

CLASSES: Final = {
    "cifar10": 10,
    "cifar100": 100,
    "dvs128_gesture": 11,
    "cifar10_dvs": 10,
    "imagenet": 1000,
}
ON_DEMAND: Final[tuple[Tier, ...]] = ("paper_short", "smoke")  # no page before the first row
MemoryByCell = Mapping[str, Mapping[str, WeightMemory]]
Hashes = Mapping[str, str] | None


@dataclass(frozen=True)
class LinearModel:
    """Logistic regression on the pixels: what a network must beat.

    Attributes:
        dataset: Data set that was read, for example ``digits``.
        train_images: Images it was fitted on.
        test_images: Images of ``accuracy_test``.
        C: Inverse strength of the penalty, picked on the validation images.
        accuracy_val: Fraction of the validation images, 0 to 1.
        accuracy_test: Fraction of the test images, 0 to 1.
        data_checksum: Checksum of all images and labels, as in a row.
    """

    dataset: str
    train_images: int
    test_images: int
    C: float
    accuracy_val: float
    accuracy_test: float
    data_checksum: str

    @property
    def simulated(self) -> bool:
        """Whether it read simulated events."""
        return self.dataset in {cell.dataset for cell in SIMULATED}

    def note(self, rows: Iterable[Row]) -> str:
        """Return the line below the accuracy table; ``≠`` marks other images than the rows'."""
        seen = "events by pixel and polarity" if self.simulated else "pixels"
        name = f"linear model (logistic regression on the {seen} of {self.dataset})"
        found = (
            f"{100 * self.accuracy_test:.2f} % of {self.test_images:,} test images, "
            f"{100 * self.accuracy_val:.2f} % on validation, where its penalty was picked "
            f"(C {self.C:g}; {self.train_images:,} training images)."
        )
        mine = [row for row in rows if row.data == self.dataset]
        read: dict[str, set[str]] = {}
        for row in mine:
            read.setdefault(str(row.key.cell), set()).add(row.data_checksum)
        same = [cell for cell, checksums in read.items() if checksums == {self.data_checksum}]
        if same:
            return f"On the same images as {' and '.join(same)} a {name} has {found}"
        why = "their data checksums differ" if mine else "no run of this tier read that data set"
        return f"≠ On other images than the runs' ({why}; do not compare) a {name} has {found}"


def read_linear_model(path: Path) -> LinearModel:
    """Return the linear model of a file ``linear_<dataset>_<tier>.json``; other fields are ignored.

    Raises:
        UserError: The file is damaged, or its name is not that of its data set.
    """
    try:
        fields = json.loads(path.read_text("utf-8"))
        names = {field.name: field.type for field in dataclasses.fields(LinearModel)}
        model = LinearModel(**{name: fields[name] for name in names})
        for name, kind in names.items():
            value = fields[name]
            if not isinstance(value, (int, float) if kind is float else kind):  # type: ignore[arg-type]
                raise ValueError(f"{name} is {value!r}")
        if not path.name.startswith(f"linear_{model.dataset}_"):
            raise ValueError(f"it is about {model.dataset}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no linear model ({error}): restore it from git, or delete it"
        ) from error
    return model


def computed_memory(cell: Cell) -> dict[str, memory.Memory]:
    """Return binary and ternary memory of the paper's network of a cell, no weight allocated.

    The network is that of the cell's recipe of the paper tier; without one nothing is computed.
    """
    if (cell, "paper") not in RECIPES:
        return {}
    with torch.device("meta"):
        network = build_network(cell, RECIPES[cell, "paper"], CLASSES[cell.dataset], "cbp")
    chosen = choose_layers(network)
    return {
        name: memory.count(network, dict.fromkeys(chosen, LayerLevels(LEVELS[name], 1.0).bits))
        for name in QUANTISED
    }


def memory_of_cells() -> dict[str, dict[str, memory.Memory]]:
    """Return `computed_memory` of the nine cells by name."""
    return {str(cell): computed_memory(cell) for cell in CELLS}


def current_hashes(rows: Iterable[Row]) -> dict[str, str]:
    """Return run key -> hash of today's recipe; a run whose recipe is gone is left out."""
    keys = [row.key for row in rows]
    return {
        str(key): recipe_hash(RECIPES[key.cell, key.tier], key.precision)
        for key in keys
        if (key.cell, key.tier) in RECIPES
    }


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


def linear_models(results: Path, tier: Tier) -> list[LinearModel]:
    """Return the linear models of ``<results>/linear_<dataset>_<tier>.json``, sorted by name."""
    return [read_linear_model(path) for path in sorted(results.glob(f"linear_*_{tier}.json"))]


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
