"""Table of the state of the art: the rivals of ``results/rivals.csv``, and our rows beside them."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from repro.cells import QUANTISED, Precision
from repro.errors import UserError
from repro.report.tier_rows import TierRows, meanings
from repro.report.wording import mean_percent
from repro.results.published import GRADES, UNKNOWN
from repro.results.statistics import spread
from repro.table import Table

DATA: Final = ("cifar10", "cifar100", "cifar10_dvs", "imagenet")
COLUMNS: Final = (
    *("weights", "method", *DATA, "network", "time_steps"),
    *("epoch", "grade", "source"),
)
WEIGHTS: Final[dict[Precision, str]] = {"binary": "1 bit", "ternary": "ternary"}


def state_of_the_art_table(tiers: Sequence[TierRows], rivals: Path) -> Table:
    """Return the rivals' published accuracies, and below them the best of our rows by tier.

    Args:
        tiers: Our rows; those of the smoke tier and of other cells than the paper's are left out.
        rivals: A file like ``results/rivals.csv``.

    Raises:
        UserError: It is missing or has other columns.
    """
    try:
        first, *lines = csv.reader(io.StringIO(rivals.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{rivals}: {error}; restore it from git") from error
    if tuple(first) != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
        raise UserError(
            f"{rivals} has other columns than {', '.join(COLUMNS)}: restore it from git"
        )
    ours = [
        found
        for tier in tiers
        if tier.tier != "smoke" and not tier.prefix
        for precision in QUANTISED
        if (found := _ours(tier, precision))
    ]
    header = (
        *("weights", "method", "CIFAR-10 %", "CIFAR-100 %", "CIFAR10-DVS %", "ImageNet %"),
        *("network", "T", "epoch picked on", "grade", "source"),
    )
    notes = (
        "First and last layer in FP32 unless said. An epoch picked on test images is optimistic; "
        f"{UNKNOWN} where the code does not show it. Ours are means of the epoch picked on "
        "validation images, of the cell of each data set that is best.",
        f"{GRADES} W quoted in notes.",
        *meanings(cell for line in ours for cell in line),
    )
    return Table("State of the art", header, (*map(tuple, lines), *ours), notes)


def _ours(tier: TierRows, precision: Precision) -> tuple[str, ...] | None:
    """Return a line of our best cells at a precision; None where none has run."""
    best, cells = [], []
    for dataset in DATA:
        groups = [
            group
            for (cell, each), group in tier.groups.items()
            if (cell.dataset, each) == (dataset, precision)
        ]
        accuracies = [[row.accuracy_selected for row in group] for group in groups]
        if accuracies:
            chosen = max(range(len(groups)), key=lambda n: spread(accuracies[n]).mean)
            best.append(mean_percent(accuracies[chosen]) + tier.marks(groups[chosen]))
            cells.append(groups[chosen][0].key.cell)
        else:
            best.append("not run")
    if not cells:
        return None
    networks = ", ".join(dict.fromkeys(cell.network for cell in cells))
    steps = " / ".join(tier.time_steps(cell) for cell in cells)
    name = f"this suite, {tier.tier} tier"
    return (WEIGHTS[precision], name, *best, networks, steps, "validation", "", "results/rows")
