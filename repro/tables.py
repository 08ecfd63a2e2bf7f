"""Tables of the results, generated from rows and from ``results/paper.csv``, never edited by hand.

Every table belongs to one tier. Ours and the published numbers stand side by side, and whatever
weakens a number (an old recipe, a dirty tree, a parent that has changed) is marked at the number.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from repro.cells import CELLS, PRECISIONS, TIERS, Cell, Precision, Tier
from repro.errors import UserError
from repro.rows import MARKS, Groups, Row, grouped, marks, read_rows, write_atomically
from repro.statistics import Paired, difference_interval, spread

NOT_RUN: Final = "not run"
UNKNOWN: Final = "n/a"
PAPER_COLUMNS: Final = (
    *("method", "dataset", "network", "time_steps", "precision"),
    *("quantity", "value", "unit", "grade", "source"),
)
NAMES: Final[Mapping[Precision, str]] = {"fp32": "FP32", "binary": "binary", "ternary": "ternary"}
GRADES: Final = (
    "Grade of a published number: P the authors' own text, code or logs; S quoted by another "
    "paper; D derived by arithmetic or by counting layers; n/a not found."
)
SCALE: Final[Mapping[Tier, str]] = {
    "paper": "the recipe as published, on the data it names",
    "desk": "same method and code, narrower network, fewer images and epochs",
    "smoke": "seconds on handwritten digits; it proves that the program works, nothing else",
}


class WeightMemory(Protocol):
    """Computed weight memory of one network at one precision: counts, and bytes."""

    @property
    def weights(self) -> int:
        """Weights of all layers."""

    @property
    def quantised_weights(self) -> int:
        """Weights that are levels."""

    @property
    def fp32_bytes(self) -> float:
        """Bytes of all weights at 32 bits."""

    @property
    def weights_only_bytes(self) -> float:
        """Bytes of the weights at this precision."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: One line.
        header: Column names, units included.
        lines: As many cells each as the header has.
        notes: Sentences below the table.

    Raises:
        ValueError: A line whose length is not the header's.
    """

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse ragged lines."""
        for line in self.lines:
            if len(line) != len(self.header):
                raise ValueError(f"line {line} needs {len(self.header)} cells as the header has")

    def to_markdown(self) -> str:
        """Return the table for GitHub, columns padded so that a terminal shows it aligned."""
        grid = [[text.replace("|", "\\|") for text in line] for line in (self.header, *self.lines)]
        widths = [max(3, *map(len, column)) for column in zip(*grid, strict=True)]
        padded = [[t.ljust(w) for t, w in zip(line, widths, strict=True)] for line in grid]
        padded.insert(1, ["-" * width for width in widths])
        text = f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in padded)
        return text + "".join(f"\n{note}\n" for note in self.notes)

    def to_csv(self) -> str:
        """Return header and lines as comma-separated values; the notes stand in the Markdown."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.lines])
        return text.getvalue()


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        cell: Line of the paper's table.
        precision: ``fp32``, ``binary``, ``ternary``, or ``any``.
        quantity: What is measured, for example ``accuracy``.
        value: The digits as published, or ``n/a``.
        unit: Unit of the value.
        grade: P, S, D or n/a.
        source: Where it was found.
    """

    cell: Cell
    precision: str
    quantity: str
    value: str
    unit: str
    grade: str
    source: str


def read_published(path: Path) -> list[Published]:
    """Return the published numbers of a file like ``results/paper.csv``.

    Raises:
        UserError: The file is missing, or a line is not one of a cell of the paper.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: restore it from git") from error
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != PAPER_COLUMNS:
        raise UserError(f"{path}: columns {reader.fieldnames}, expected {list(PAPER_COLUMNS)}")
    cells = {(c.method, c.dataset, c.network, str(c.time_steps)): c for c in CELLS}
    published = []
    for line in reader:
        name = (line["method"], line["dataset"], line["network"], line["time_steps"])
        if name not in cells or line["value"] is None or line["source"] is None:
            raise UserError(f"{path} line {reader.line_num}: no cell {name}; restore it from git")
        rest = {column: line[column] for column in PAPER_COLUMNS[4:]}
        published.append(Published(cell=cells[name], **rest))
    return published


Known = Mapping[tuple[Cell, str, str], Published]


def accuracy_table(
    rows: Iterable[Row],
    published: Iterable[Published],
    tier: Tier,
    current_hashes: Mapping[str, str] | None = None,
) -> Table:
    """Return the nine cells: our accuracy at the epoch picked on validation, and the published.

    Args:
        rows: Rows of any tier; only those of ``tier`` are used.
        published: See `read_published`.
        tier: Scale of our runs.
        current_hashes: Run key -> hash of today's recipe; None leaves staleness unchecked.
    """
    groups, known = grouped(rows, tier), _known(published)
    mark = "" if tier == "paper" else " §"
    header = ["cell", "network", "T"]
    for precision in PRECISIONS:
        header += [f"{NAMES[precision]} ours %{mark}", f"{NAMES[precision]} published %"]
    lines = []
    for cell in CELLS:
        line = [f"{cell.method}/{cell.dataset}", cell.network, _time_steps(cell, groups)]
        for precision in PRECISIONS:
            group = groups.get((cell, precision), [])
            ours = NOT_RUN
            if group:
                mean = spread([100 * row.accuracy_selected for row in group])
                ours = f"{mean}{marks(group, groups, current_hashes)}"
            line += [ours, _published_accuracy(known, cell, precision)]
        lines.append(tuple(line))
    notes = [
        "Ours: accuracy on the test images at the epoch picked on validation images, mean ± "
        "sample standard deviation over n seeds.",
        "Published: the sources pick the best epoch on the test images, or do not say.",
        GRADES,
    ]
    if tier != "paper":
        notes.append(
            f"§ Tier {tier}, not the paper's: {SCALE[tier]}. Not comparable with the published."
        )
    notes += _data_notes(groups) + _mark_notes(lines, current_hashes)
    return Table(f"Accuracy, {tier} tier", tuple(header), tuple(lines), tuple(notes))


def comparison_table(
    rows: Iterable[Row], tier: Tier, current_hashes: Mapping[str, str] | None = None
) -> Table:
    """Return what the choice of the epoch does, the loss against the parent, and the CFS.

    Arguments as in `accuracy_table`.
    """
    groups = grouped(rows, tier)
    header = (
        *("cell", "precision", "n", "last epoch %", "best test epoch %", "picked on validation %"),
        *("minus parent, points", "parent : child only right", "McNemar p per seed", "CFS"),
    )
    lines = []
    for cell in CELLS:
        names = [(cell, precision) for precision in PRECISIONS if (cell, precision) in groups]
        for name in names:
            lines.append(
                _comparison(name, groups[name], marks(groups[name], groups, current_hashes))
            )
        if not names:
            lines.append((str(cell), NOT_RUN, "0", *[""] * (len(header) - 3)))
    notes = [
        f"Tier {tier}: {SCALE[tier]}. Means over n seeds. The best test epoch is optimistic: the "
        "test images picked it.",
        "Minus parent: accuracy of the saved file minus that of the FP32 parent on the same test "
        "images, mean ± sample standard deviation; for a single seed with the 95 % interval of "
        "Newcombe (1998, method 10).",
        "Parent : child only right: test images that only one of the two gets right, summed over "
        "seeds. p: exact two-sided McNemar test of one seed. CFS: constraint failure score, after "
        "the first epoch -> after the last, mean over seeds; 0 when every weight is a level.",
    ]
    return Table(
        f"Epochs, parents and constraint, {tier} tier",
        header,
        tuple(lines),
        (*notes, *_mark_notes(lines, current_hashes)),
    )


def memory_table(
    published: Iterable[Published], memory: Mapping[str, Mapping[str, WeightMemory]]
) -> Table:
    """Return the weight memory of the paper's networks: computed, and below it published.

    Args:
        published: See `read_published`.
        memory: Name of a cell -> precision -> memory, of networks at the paper's width. A cell
            that is left out prints "not computed".
    """
    known = _known(published)
    header = (
        *("cell", "network", "which", "weights", "quantised"),
        *("FP32 MB", "binary MB (of FP32)", "ternary MB (of FP32)"),
    )
    lines, agreeing = [], 0
    for cell in CELLS:
        ours, theirs = _computed_memory(memory.get(str(cell), {})), _published_memory(known, cell)
        agreeing += ours == theirs
        grade = (
            known[cell, "any", "weights"].grade if (cell, "any", "weights") in known else UNKNOWN
        )
        name = (f"{cell.method}/{cell.dataset}", cell.network)
        lines += [(*name, "computed", *ours), (*name, f"published ({grade})", *theirs)]
    notes = (
        f"Computed and published agree to the last printed digit in {agreeing} of {len(CELLS)} "
        "cells.",
        "Weights only; first and last layer stay FP32; biases, normalisation, neuron parameters "
        "and scales are not counted. 1 MB is 10^6 bytes.",
        GRADES,
    )
    return Table("Weight memory of the paper's networks", header, tuple(lines), notes)


def file_table(
    rows: Iterable[Row], tier: Tier, current_hashes: Mapping[str, str] | None = None
) -> Table:
    """Return the measured size of every saved file beside the computed one.

    Arguments as in `accuracy_table`.
    """
    groups = grouped(rows, tier)
    header = (
        *("cell", "precision", "seed", "computed bytes", "file bytes", "deviation %"),
        "file minus run, points",
    )
    lines: list[tuple[str, ...]] = []
    for (cell, precision), group in groups.items():
        for row in group:
            deviation = 100 * (row.file_bytes / row.everything_bytes - 1)
            points = 100 * (row.accuracy_file - row.accuracy_selected)
            sizes = (f"{row.everything_bytes:,.0f}", f"{row.file_bytes:,}", f"{deviation:+.2f}")
            seed = f"{row.seed}{marks([row], groups, current_hashes)}"
            lines.append((str(cell), NAMES[precision], seed, *sizes, _points(points)))
    notes = (
        f"Tier {tier}: {SCALE[tier]}. Computed: weights at their precision plus everything else "
        "the network needs; the file adds its header.",
        "File minus run: accuracy of the saved file, loaded into a fresh network, minus that of "
        "the run at the epoch picked on validation; 0 where nothing was lost on the way.",
        *_mark_notes(lines, current_hashes),
    )
    if not lines:
        lines = [(NOT_RUN, *[""] * (len(header) - 1))]
    return Table(f"Saved files, {tier} tier", header, tuple(lines), notes)


def summary_in_words(rows: Iterable[Row], tier: Tier) -> str:
    """Return two to four sentences about what the runs of a tier show."""
    groups = grouped(rows, tier)
    chosen = [row for group in groups.values() for row in group]
    if not chosen:
        return f"No run of the {tier} tier exists yet. Its table shows the published numbers only."
    cells = len({cell for cell, _ in groups})
    runs = _plural(len(chosen), "run")
    said = [f"{runs} of the {tier} tier ({SCALE[tier]}): {cells} of {len(CELLS)} cells."]
    said += _loss_in_words(groups)
    ends = [row.cfs_last for row in chosen if row.cfs_last is not None]
    if ends:
        said.append(f"The constraint failure score ends at {max(ends):.2g} or less.")
    gaps = [abs(100 * (row.accuracy_file - row.accuracy_selected)) for row in chosen]
    differing = sum(gap > 1e-6 for gap in gaps)
    said.append(
        f"{differing} of {len(gaps)} saved files differ in accuracy from their run, by up to "
        f"{max(gaps):.2f} points."
        if differing
        else "Every saved file, loaded into a fresh network, has the accuracy of its run."
    )
    return " ".join(said)


def generate(
    rows_folder: Path,
    paper_csv: Path,
    out: Path,
    *,
    current_hashes: Mapping[str, str] | None = None,
    memory: Mapping[str, Mapping[str, WeightMemory]] | None = None,
) -> list[Path]:
    """Write all tables and return their paths; the smoke tier goes below ``smoke/``.

    Args:
        rows_folder: Holds one JSON file per run.
        paper_csv: Published numbers.
        out: Folder of the tables.
        current_hashes: Run key -> hash of today's recipe; None leaves staleness unchecked.
        memory: As in `memory_table`; None writes no memory table.

    Raises:
        UserError: A damaged row file or a damaged file of published numbers.
    """
    rows, published = read_rows(rows_folder), read_published(paper_csv)
    paths: list[Path] = []
    for tier in TIERS:
        if tier == "smoke" and not grouped(rows, tier):
            continue
        tables = {
            "accuracy": accuracy_table(rows, published, tier, current_hashes),
            "comparison": comparison_table(rows, tier, current_hashes),
            "files": file_table(rows, tier, current_hashes),
        }
        folder = out / "smoke" if tier == "smoke" else out
        pages = (f"# Results, {tier} tier\n", summary_in_words(rows, tier) + "\n")
        page = "\n".join([*pages, *(table.to_markdown() for table in tables.values())])
        paths.append(write_atomically(folder / f"accuracy_{tier}.md", page))
        for name, table in tables.items():
            paths.append(write_atomically(folder / f"{name}_{tier}.csv", table.to_csv()))
    if memory is not None:
        table = memory_table(published, memory)
        paths.append(write_atomically(out / "memory.md", table.to_markdown().removeprefix("#")))
        paths.append(write_atomically(out / "memory.csv", table.to_csv()))
    return paths


def _known(published: Iterable[Published]) -> Known:
    """Return the published numbers by cell, precision and quantity."""
    return {(item.cell, item.precision, item.quantity): item for item in published}


def _value(known: Known, cell: Cell, precision: str, quantity: str) -> str:
    """Return the published digits, or n/a where the file has no such line."""
    item = known.get((cell, precision, quantity))
    return item.value if item else UNKNOWN


def _published_accuracy(known: Known, cell: Cell, precision: str) -> str:
    """Return the published accuracy with spread and grade, or n/a."""
    value = _value(known, cell, precision, "accuracy")
    if value == UNKNOWN:
        return UNKNOWN
    std = _value(known, cell, precision, "accuracy_std")
    deviation = "" if std == UNKNOWN else f" ± {std}"
    return f"{value}{deviation} ({known[cell, precision, 'accuracy'].grade})"


def _time_steps(cell: Cell, groups: Groups) -> str:
    """Return T of the paper, and ours where the recipe of a run has another one."""
    ours = {
        row.recipe["time_steps"]
        for (other, _), group in groups.items()
        for row in group
        if other == cell and row.recipe.get("time_steps", cell.time_steps) != cell.time_steps
    }
    found = ", ".join(str(steps) for steps in sorted(ours))
    return f"{cell.time_steps} (ours {found})" if ours else str(cell.time_steps)


def _data_notes(groups: Groups) -> list[str]:
    """Return one sentence per cell about the images our runs read."""
    said: dict[str, None] = {}  # a set that keeps its order
    for (cell, _), group in groups.items():
        for row in group:
            counts = f"{row.train_images:,} / {row.val_images:,} / {row.test_images:,}"
            said[f"{cell} read {row.data}: {counts} training / validation / test images."] = None
    return list(said)


def _mark_notes(
    lines: Iterable[Sequence[str]], current_hashes: Mapping[str, str] | None
) -> list[str]:
    """Return what the marks in the lines mean, and whether staleness was looked at."""
    text = "".join(cell for line in lines for cell in line)
    notes = [f"{mark} {meaning}." for mark, meaning in MARKS.items() if mark in text]
    if current_hashes is None:
        notes.append("Whether recipes have changed since was not checked.")
    return notes


def _points(points: float) -> str:
    """Return signed percentage points; what rounds to zero has no sign."""
    return f"{points:+.2f}" if abs(points) >= 0.005 else "0.00"


def _plural(count: int, noun: str) -> str:
    """Return the count and the noun."""
    return f"{count} {noun}" + "s" * (count != 1)


def _comparison(name: tuple[Cell, Precision], group: Sequence[Row], found: str) -> tuple[str, ...]:
    """Return the line of `comparison_table` for one cell and precision."""
    accuracies = (
        spread([100 * getattr(row, f"accuracy_{epoch}") for row in group])
        for epoch in ("last", "best_test", "selected")
    )
    shown = [str(value).split(" (")[0] for value in accuracies]
    pairs = [
        (row.parent_only_right, row.child_only_right)
        for row in group
        if row.parent_only_right is not None and row.child_only_right is not None
    ]
    pooled = f"{sum(b for b, _ in pairs)} : {sum(c for _, c in pairs)}" if pairs else ""
    ps = [f"{row.mcnemar_p:.2g}" for row in group if row.mcnemar_p is not None]
    cfs = [(r.cfs_first, r.cfs_last) for r in group]
    ends = [(first, last) for first, last in cfs if first is not None and last is not None]
    fall = " -> ".join(f"{spread(side).mean:.2g}" for side in zip(*ends, strict=True))
    head = (str(name[0]), NAMES[name[1]] + found, str(len(group)))
    return (*head, *shown, _difference(group), pooled, ", ".join(ps), fall)


def _difference(group: Sequence[Row]) -> str:
    """Return the loss against the parent in points, with its spread or its interval."""
    found = [row for row in group if row.difference_from_parent is not None]
    points = [100 * (row.difference_from_parent or 0.0) for row in found]
    if len(points) != 1:
        whole = spread(points) if points else None
        return f"{_points(whole.mean)} ± {whole.std:.2f}" if whole else ""
    low, high = difference_interval(_pairs(found[0]))
    return f"{_points(points[0])} [{_points(100 * low)}, {_points(100 * high)}]"


def _pairs(row: Row) -> Paired:
    """Return the four counts of a run against its parent."""
    assert row.accuracy_parent is not None
    assert row.parent_only_right is not None
    assert row.child_only_right is not None
    only, other = row.parent_only_right, row.child_only_right
    both = round(row.accuracy_parent * row.test_images) - only
    return Paired(both, only, other, row.test_images - both - only - other)


def _computed_memory(memory: Mapping[str, WeightMemory]) -> tuple[str, ...]:
    """Return weights, quantised weights, FP32, binary and ternary MB as text."""
    if "binary" not in memory or "ternary" not in memory:
        return ("not computed",) + ("",) * 4
    binary = memory["binary"]
    sizes = [
        f"{memory[name].weights_only_bytes / 1e6:.3f} "
        f"({100 * memory[name].weights_only_bytes / memory[name].fp32_bytes:.2f} %)"
        for name in ("binary", "ternary")
    ]
    counts = (f"{binary.weights:,}", f"{binary.quantised_weights:,}")
    return (*counts, f"{binary.fp32_bytes / 1e6:.3f}", *sizes)


def _published_memory(known: Known, cell: Cell) -> tuple[str, ...]:
    """Return the published counterparts of `_computed_memory`."""
    counts = [_value(known, cell, "any", name) for name in ("weights", "quantised_weights")]
    shown = [count if count == UNKNOWN else f"{int(count):,}" for count in counts]
    sizes = [
        f"{_value(known, cell, name, 'memory')} ({_value(known, cell, name, 'memory_ratio')} %)"
        for name in ("binary", "ternary")
    ]
    return (*shown, _value(known, cell, "fp32", "memory"), *sizes)


def _loss_in_words(groups: Groups) -> list[str]:
    """Return one sentence about the loss of accuracy of the quantised cells, or none."""
    losses = []
    for (cell, precision), group in groups.items():
        points = [
            100 * r.difference_from_parent for r in group if r.difference_from_parent is not None
        ]
        if points:
            losses.append((spread(points).mean, f"{NAMES[precision]} {cell}", len(points)))
    if not losses:
        return []
    small = sum(mean > -1 for mean, _, _ in losses)
    worst, name, n = min(losses)
    return [
        f"Against the FP32 parents {small} of {_plural(len(losses), 'quantised mean')} (cell and "
        f"precision, mean over seeds) stay above -1 point; the lowest is {name} with "
        f"{_points(worst)} points (n {n})."
    ]
