"""Accuracy against weight memory: the points that figures show, ours and what is published."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from repro.cells import SPIKING, Cell, Precision
from repro.report.tier_rows import TierRows
from repro.results.published import UNKNOWN, PublishedNumbers, published_value
from repro.results.statistics import spread

BYTES_PER_MB: Final = 1e6


@dataclass(frozen=True)
class Point:
    """Accuracy and weight memory of a cell at one precision.

    Attributes:
        cell: The cell.
        precision: The precision.
        weight_bytes: Weights only, mean over seeds.
        accuracy: In percent, mean over seeds, at the epoch picked on validation.
        std: Sample standard deviation over seeds, points; None for one seed or unknown.
        n: Seeds; None of a published number.
        marks: What weakens ours, see `TierRows.marks`.
        grade: Of a published number; empty of ours.
    """

    cell: Cell
    precision: Precision
    weight_bytes: float
    accuracy: float
    std: float | None
    n: int | None = None
    marks: str = ""
    grade: str = ""

    @property
    def megabytes(self) -> float:
        """Weight memory, MB of 10^6 bytes."""
        return self.weight_bytes / BYTES_PER_MB


def our_points(tier: TierRows) -> list[Point]:
    """Return a point per cell and precision that has run; an ANN is not a spiking network."""
    points = []
    for (cell, precision), group in tier.groups.items():
        if precision in SPIKING:
            accuracy = spread([100 * row.accuracy_selected for row in group])
            weight_bytes = spread([row.weights_only_bytes for row in group]).mean
            marks = tier.marks(group).strip()
            found = (accuracy.mean, accuracy.std, accuracy.n, marks)
            points.append(Point(cell, precision, weight_bytes, *found))
    return points


def published_points(published: PublishedNumbers, cells: Iterable[Cell]) -> list[Point]:
    """Return a point per cell and precision whose accuracy and memory are published."""
    points = []
    for cell in cells:
        for precision in SPIKING:
            accuracy, megabytes, std = (
                published_value(published, cell, precision, quantity)
                for quantity in ("accuracy", "memory", "accuracy_std")
            )
            if UNKNOWN not in (accuracy, megabytes):
                points.append(
                    Point(
                        cell,
                        precision,
                        weight_bytes=float(megabytes) * BYTES_PER_MB,
                        accuracy=float(accuracy),
                        std=None if std == UNKNOWN else float(std),
                        grade=published[cell, precision, "accuracy"].grade,
                    )
                )
    return points
