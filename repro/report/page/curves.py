"""Curves over the epochs: of one run, and the constraint failure score of all runs of a tier."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from repro.cells import Cell
from repro.report.page.figure import Figure
from repro.report.page.panel import Axis, Panel, Point, epochs_axis, linear, logarithmic
from repro.report.page.trace import METRICS, Trace
from repro.report.wording import NAMES, plural
from repro.results.row import Row
from repro.table import csv_text

# Title of a panel, its columns with their looks and names, and whether it is logarithmic.
PANELS: Final = (
    ("training loss", (("train_loss", "ink", ""),), False),
    ("accuracy, %", (("val_accuracy", "ink", "val"), ("test_accuracy", "ink dashed", "test")), 0),
    ("Lagrangian, sum over the epoch", (("lagrangian", "ink", ""),), False),
    ("constraint failure score", (("cfs", "ink", ""),), True),
    ("g of the window", (("g", "ink", ""),), False),
)


def curves_figure(row: Row, trace: Trace) -> Figure:
    """Return loss, accuracy, Lagrangian, CFS and g of a run over its epochs.

    A panel whose column the run does not have is left out: an FP32 run has no constraint.
    """
    name, title = f"curves-{row.key}", "Curves over the epochs"
    if not trace.epochs:
        return Figure(name, title, missing=(trace.missing,))
    panels = [
        panel
        for title_, columns, log in PANELS
        if (panel := _panel(title_, columns, bool(log), row, trace.epochs)) is not None
    ]
    caption = (
        f"Epochs from 1; the vertical line is epoch {row.epoch_selected + 1}, picked on "
        "validation. A larger g means a narrower unconstrained window."
    )
    zeros = sum(line.get("cfs") == 0 for line in trace.epochs)
    if zeros:
        caption += f" The score of {plural(zeros, 'epoch')} is 0, below any logarithmic axis."
    known = [column for column in METRICS if any(column in line for line in trace.epochs)]
    data = csv_text(known, ({**line, "epoch": int(line["epoch"]) + 1} for line in trace.epochs))
    return Figure(name, title, caption, tuple(panels), data)


def points_of(epochs: Iterable[Mapping[str, float]], column: str) -> list[Point]:
    """Return epoch, from 1, and value where it can be drawn; accuracies in percent."""
    scale = 100 if column.endswith("accuracy") else 1
    return [
        (line["epoch"] + 1, scale * line[column])
        for line in epochs
        if math.isfinite(line.get(column, math.nan)) and (column != "cfs" or line[column] > 0)
    ]


def _panel(
    title: str,
    columns: Sequence[tuple[str, str, str]],
    log: bool,
    row: Row,
    epochs: Sequence[Mapping[str, float]],
) -> str | None:
    """Return one panel, or None where no column has a value."""
    lines = {look: points_of(epochs, column) for column, look, _ in columns}
    values = [value for points in lines.values() for _, value in points]
    if not values:
        return None
    y = logarithmic(values) if log else linear(values, whole=title.startswith("g "))
    panel = Panel(title, epochs_axis(len(epochs)), y, x_title="epoch")
    panel.rule(row.epoch_selected + 1, f"epoch {row.epoch_selected + 1}, picked on validation")
    for column, look, name in columns:
        if lines[look]:
            panel.line(lines[look], look, f"{column.replace('_', ' ')} of {row.key}")
        if name:
            panel.key(look, name)
    return panel.svg(f"{title} of {row.key} over {plural(len(epochs), 'epoch')}")


def failure_figure(
    name: str, rows: Sequence[Row], traces: Mapping[str, Trace], cells: Sequence[Cell]
) -> Figure:
    """Return the constraint failure score over the epochs: a panel per cell, a line per run.

    Args:
        name: Of the figure.
        rows: Rows of one tier.
        traces: Run key -> its trace.
        cells: In the order of the panels; those without a quantised run are left out.
    """
    chosen = [row for row in rows if row.cfs_last is not None]
    drawn = [row for row in chosen if points_of(traces[str(row.key)].epochs, "cfs")]
    panels = []
    values = [v for row in drawn for _, v in points_of(traces[str(row.key)].epochs, "cfs")]
    for cell in cells:
        if mine := [row for row in drawn if row.key.cell == cell]:
            panels.append(_failures(cell, mine, traces, logarithmic(values)))
    lines = [
        {"run": str(row.key), "epoch": int(line["epoch"]) + 1, "cfs": line.get("cfs")}
        for row in drawn
        for line in traces[str(row.key)].epochs
    ]
    missing = [str(row.key) for row in chosen if row not in drawn]
    said = (
        (f"No run folder here of {plural(len(missing), 'quantised run')}: {', '.join(missing)}.",)
        if missing
        else ()
    )
    return Figure(
        name,
        "Constraint failure score over the epochs",
        "Mean distance of the latent weights from their levels, after each epoch; 0 when every "
        "weight is a level. One line per run, the same axis everywhere.",
        tuple(panels),
        csv_text(("run", "epoch", "cfs"), lines) if lines else "",
        said,
    )


def _failures(cell: Cell, rows: Sequence[Row], traces: Mapping[str, Trace], y: Axis) -> str:
    last = max(len(traces[str(row.key)].epochs) for row in rows)
    panel = Panel(str(cell), epochs_axis(last), y, x_title="epoch")
    for row in rows:
        points = points_of(traces[str(row.key)].epochs, "cfs")
        panel.line(points, row.precision, f"{row.key}: ends at {points[-1][1]:.2g}")
    for precision in dict.fromkeys(row.precision for row in rows):
        panel.key(precision, NAMES[precision])
    return panel.svg(f"constraint failure score of {plural(len(rows), 'run')} of {cell}")
