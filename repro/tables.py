"""Tables of the results, generated from rows and from ``results/paper.csv``, never edited by hand.

Every table belongs to one tier. Ours and the published numbers stand side by side, and whatever
weakens a number (an old recipe, a dirty tree, a parent that has changed) is marked at the number.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Final

from repro.cells import CELLS, PRECISIONS, Cell, Precision, Tier
from repro.published import GRADES, UNKNOWN, Known, Published, by_name, published_value
from repro.rows import MARKS, Groups, Row, grouped, marks
from repro.statistics import Paired, difference_interval, spread

NOT_RUN: Final = "not run"
CHANCE: Final = 0.05  # a McNemar p below this is more than chance explains
NAMES: Final[Mapping[Precision, str]] = {"fp32": "FP32", "binary": "binary", "ternary": "ternary"}
SCALE: Final[Mapping[Tier, str]] = {
    "paper": "the recipe as published, on the data it names",
    "desk": "same method and code, narrower network, fewer images and epochs",
    "smoke": "seconds on handwritten digits; it proves that the program works, nothing else",
}


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

    def to_terminal(self, width: int) -> str:
        """Return the table for a terminal; turned on its side, in parts, if it is too wide.

        Args:
            width: Columns of the terminal, 1 and up; what does not fit even so sticks out.
        """
        upright = _aligned([self.header, *self.lines])
        parts = [upright] if len(upright[1]) <= width else []
        left = list(self.lines)
        while left and parts != [upright]:
            fitting = next(
                (n for n in range(len(left), 1, -1) if len(self._turned(left[:n])[1]) <= width), 1
            )
            parts.append(self._turned(left[:fitting]))
            left = left[fitting:]
        body = "\n\n".join("\n".join(part) for part in parts)
        notes = [fill(note, width, break_long_words=False) for note in self.notes]
        return "\n".join([self.title, "=" * len(self.title), body, "", *notes, ""])

    def _turned(self, lines: Sequence[tuple[str, ...]]) -> list[str]:
        """Return these lines as columns, the header at their left."""
        return _aligned(list(zip(self.header, *lines, strict=True)))

    def to_csv(self) -> str:
        """Return header and lines as comma-separated values; the notes stand in the Markdown."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.lines])
        return text.getvalue()


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
    groups, known = grouped(rows, tier), by_name(published)
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
    notes += _data_notes(groups) + mark_notes(lines, current_hashes)
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
        (*notes, *mark_notes(lines, current_hashes)),
    )


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


def run_in_words(row: Row) -> str:
    """Return three or four lines about one run, for the terminal at its end.

    Accuracies are percent of the test images, each with the way its epoch was chosen; epochs are
    counted from 1, as in the log.
    """
    said = [
        f"{row.key}: {100 * row.accuracy_selected:.2f} % of {row.test_images:,} test images right "
        f"at the epoch picked on validation ({row.epoch_selected + 1} of {row.epochs_done})",
        f"  last epoch {100 * row.accuracy_last:.2f} %, best test epoch "
        f"{100 * row.accuracy_best_test:.2f} % (epoch {row.epoch_best_test + 1}; optimistic: the "
        "test images picked it)",
    ]
    if row.difference_from_parent is not None:
        assert row.mcnemar_p is not None
        verdict = "more than" if row.mcnemar_p < CHANCE else "no more than"
        said.append(
            f"  {signed_points(100 * row.difference_from_parent)} points against the FP32 parent: "
            f"{verdict} chance explains (McNemar p {row.mcnemar_p:.2g}; images right in one of the "
            f"two only: parent {row.parent_only_right}, this run {row.child_only_right})"
        )
    size = (
        f"file {row.file_bytes:,} bytes, {100 * row.file_bytes / row.fp32_bytes:.1f} % of the "
        f"weights in FP32; {_duration(row.wall_seconds)}"
    )
    if row.cfs_first is not None and row.cfs_last is not None:
        size = f"constraint failure score {row.cfs_first:.2g} -> {row.cfs_last:.2g}; {size}"
    return "\n".join([*said, f"  {size}"])


def _published_accuracy(known: Known, cell: Cell, precision: str) -> str:
    """Return the published accuracy with spread and grade, or n/a."""
    value = published_value(known, cell, precision, "accuracy")
    if value == UNKNOWN:
        return UNKNOWN
    std = published_value(known, cell, precision, "accuracy_std")
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


def mark_notes(
    lines: Iterable[Sequence[str]], current_hashes: Mapping[str, str] | None
) -> list[str]:
    """Return what the marks in the lines mean, and whether staleness was looked at."""
    text = "".join(cell for line in lines for cell in line)
    notes = [f"{mark} {meaning}." for mark, meaning in MARKS.items() if mark in text]
    if current_hashes is None:
        notes.append("Whether recipes have changed since was not checked.")
    return notes


def _aligned(grid: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a grid padded to its columns, with a rule below the first."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    padded = [[t.ljust(w) for t, w in zip(line, widths, strict=True)] for line in grid]
    padded.insert(1, ["-" * width for width in widths])
    return ["  ".join(line).rstrip() for line in padded]


def signed_points(points: float) -> str:
    """Return signed percentage points; what rounds to zero has no sign."""
    return f"{points:+.2f}" if abs(points) >= 0.005 else "0.00"


def _duration(seconds: float) -> str:
    """Return a wall time in the two units that tell it apart.

    >>> _duration(1.54), _duration(75), _duration(7260)
    ('1.5 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{int(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


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
        return f"{signed_points(whole.mean)} ± {whole.std:.2f}" if whole else ""
    low, high = difference_interval(_pairs(found[0]))
    return f"{signed_points(points[0])} [{signed_points(100 * low)}, {signed_points(100 * high)}]"


def _pairs(row: Row) -> Paired:
    """Return the four counts of a run against its parent."""
    assert row.accuracy_parent is not None
    assert row.parent_only_right is not None
    assert row.child_only_right is not None
    only, other = row.parent_only_right, row.child_only_right
    both = round(row.accuracy_parent * row.test_images) - only
    return Paired(both, only, other, row.test_images - both - only - other)


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
        f"{signed_points(worst)} points (n {n})."
    ]
