"""What part of a gain longer training explains, and what part is CBP's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from repro.cells import CELLS, QUANTISED, Cell, Precision, Tier
from repro.report.tier_rows import (
    Groups,
    Hashes,
    _of,
    comparable,
    difference,
    grouped,
    joint_marks,
    mark_notes,
)
from repro.report.wording import NAMES, NOT_RUN, SCALE, moved, scope, with_interval
from repro.results.row import Row
from repro.results.statistics import Difference
from repro.table import Table

CONTROL: Final = (
    "The FP32 control trains the FP32 parent on with FP32 weights: same epochs, learning rate, "
    "loss, clip and rule of the learning-rate drop as CBP."
)


@dataclass(frozen=True)
class Parts:
    """How a quantised network differs from its parent, and which part its control has too.

    Attributes:
        cell: Its cell.
        precision: ``binary`` or ``ternary``.
        whole: Quantised minus parent.
        training: Control minus parent, what longer training does; None without a control.
        cbp: Quantised minus control, what CBP does; None without a control.
        seeds: The seeds of all three.
        rows: Rows of this cell and precision, also of seeds that could not be compared.
        drops_differ: Whether the learning rate fell at another epoch than in the control.
    """

    cell: Cell
    precision: Precision
    whole: Difference
    training: Difference | None
    cbp: Difference | None
    seeds: tuple[int, ...]
    rows: int
    drops_differ: bool

    @property
    def mark(self) -> str:
        """Return a blank and the mark of quantised minus control, or nothing, see `MARKS`."""
        return " △" * self.drops_differ

    @property
    def n(self) -> str:
        """Return the number of seeds that were compared, and of how many where some are missing."""
        return _of(len(self.seeds), self.rows)

    def in_words(self) -> str:
        """Return one sentence."""
        name = NAMES[self.precision]
        whole = moved(
            self.whole, "is {} above its parent", "is {} below its parent", "equals its parent"
        )
        said = f"{self.cell}: {name} {whole}"
        if self.training is None or self.cbp is None:
            return (
                f"{said} (n {self.n}); no FP32 control of the same seeds has run, so "
                "which part of that longer training explains is unknown."
            )
        training = moved(self.training, "gains {}", "loses {}", "neither gains nor loses")
        cbp = moved(self.cbp, "adds {}", "costs {}", "changes nothing")
        return (
            f"{said}; the control, trained as long with FP32 weights, {training}; CBP "
            f"itself {cbp}{self.mark} (n {self.n})."
        )


def all_parts(groups: Groups) -> list[Parts]:
    """Return every quantised network that has a parent; the seeds are those of the control, too."""
    found = []
    for (cell, precision), group in groups.items():
        if precision not in QUANTISED:
            continue
        rows = len(group)
        if threes := comparable(groups, cell, "fp32", "fp32_control", precision):
            parents, controls, quantised = zip(*threes, strict=True)
            training = difference(parents, controls)
            cbp, whole = difference(controls, quantised), difference(parents, quantised)
            differ = any(one.epoch_lr_drop != other.epoch_lr_drop for _, one, other in threes)
            parts = (whole, training, cbp, tuple(row.seed for row in parents))
            found.append(Parts(cell, precision, *parts, rows, drops_differ=differ))
        elif twos := comparable(groups, cell, "fp32", precision):
            parents, quantised = zip(*twos, strict=True)
            whole, seeds = difference(parents, quantised), tuple(row.seed for row in parents)
            found.append(Parts(cell, precision, whole, None, None, seeds, rows, drops_differ=False))
    return found


def control_table(
    rows: Iterable[Row],
    tier: Tier,
    current_hashes: Hashes = None,
    cells: Sequence[Cell] = CELLS,
) -> Table:
    """Return quantised minus parent as the sum of what longer training and what CBP does.

    Arguments as in `repro.report.accuracy.accuracy_table`.
    """
    groups = grouped(rows, tier, cells)
    header = (
        *("cell", "precision", "n", "quantised minus parent"),
        *("= control minus parent: longer training", "+ quantised minus control: CBP"),
    )
    lines: list[tuple[str, ...]] = []
    for parts in all_parts(groups):
        name = (parts.cell, parts.precision)
        above = (groups.get((parts.cell, each), []) for each in ("fp32", "fp32_control"))
        found = joint_marks([groups[name], *above], groups, current_hashes)
        training, cbp = (
            with_interval(part) if part else "control not run"
            for part in (parts.training, parts.cbp)
        )
        head = (str(parts.cell), NAMES[parts.precision] + found, parts.n)
        lines.append((*head, with_interval(parts.whole), training, cbp + parts.mark))
    notes = (
        f"Tier {tier}: {SCALE[tier]}. Percentage points with 95 % intervals, on the same test "
        "images and seeds, so that the two parts add up.",
        f"{CONTROL} What it gains, CBP cannot claim.",
        *mark_notes(lines, current_hashes),
    )
    if not lines:
        lines.append((NOT_RUN, *[""] * (len(header) - 1)))
    title = f"What longer training does and what CBP does, {scope(tier, cells)}"
    return Table(title, header, tuple(lines), notes)


def control_in_words(groups: Groups) -> list[str]:
    """Return one sentence about what is left to CBP once longer training is taken out, or none."""
    parts = all_parts(groups)
    found = sorted(
        (part.cbp.mean, f"{with_interval(part.cbp)} points ({_named(part)})")
        for part in parts
        if part.cbp
    )
    if not parts:
        return []
    if not found:
        return [
            "No FP32 control has run with them, so which part of these differences longer training "
            "explains is unknown."
        ]
    said = "by " + " to ".join(dict.fromkeys(words for _, words in (found[0], found[-1])))
    missing = len(parts) - len(found)
    rest = f"; without a control: {missing} of {len(parts)}" if missing else ""
    if differ := sum(part.drops_differ for part in parts):
        rest += f"; in {differ} of them the learning rate fell at another epoch than in the control"
    return [
        "Against FP32 controls, which trained on for as long, CBP itself moves the accuracy "
        f"{said}{rest}."
    ]


def _named(parts: Parts) -> str:
    """Return precision, cell and number of seeds."""
    return f"{NAMES[parts.precision]} {parts.cell}, n {parts.n}"
