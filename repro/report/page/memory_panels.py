"""Accuracy against weight memory on the page: a panel per cell, ours and what is published."""

from collections.abc import Iterable
from typing import Final

from repro.cells import SPIKING, Cell, Precision
from repro.report.accuracy_memory import Point, our_points, published_points
from repro.report.page.figure import Figure
from repro.report.page.panel import Axis, Panel, Shape, drawing, linear, logarithmic, mark, tag
from repro.report.tier_rows import TierRows
from repro.report.wording import NAMES, NOT_RUN
from repro.results.published import PublishedNumbers
from repro.table import csv_text

SHAPES: Final[dict[str, Shape]] = {
    "fp32": "circle",
    "fp32_control": "circle",
    "binary": "square",
    "ternary": "triangle",
}
HEADER: Final = (
    *("source", "method", "dataset", "network", "precision", "tier", "n", "weights_only_bytes"),
    *("accuracy_percent", "accuracy_std_points", "grade", "marks"),
)


def memory_figure(tier: TierRows, published: PublishedNumbers) -> Figure:
    """Return accuracy against weight memory of all cells; what has not run is said in its panel."""
    cells, ours = tier.cells, our_points(tier)
    theirs = published_points(published, cells)
    name = f"memory-{tier.prefix.replace('_', '-')}{tier.tier}"
    if not ours and not theirs:
        return Figure(name, "Accuracy against weight memory")
    x = logarithmic(point.megabytes for point in (*ours, *theirs))
    about = ""
    if not tier.prefix:
        about = " Published points belong to the paper's networks and recipes."
        if tier.tier != "paper":
            about += f" Ours are of the {tier.tier} tier: not comparable with them."
    panels = [_panel(cell, x, ours, theirs) for cell in cells]
    return Figure(
        name,
        f"Accuracy against weight memory, {tier.scope}",
        "Test accuracy in percent at the epoch picked on validation, mean over seeds, bars are ± "
        "one sample standard deviation; weights only, in MB of 10^6 bytes. The same horizontal "
        f"axis everywhere, a vertical one for each cell, from 0.{about}",
        (_key(published=not tier.prefix), *panels),
        csv_text(HEADER, (_line(point, tier) for point in (*ours, *theirs))),
    )


def _line(point: Point, tier: TierRows) -> dict[str, object]:
    """Return the line of a point in the data of the figure."""
    cell, ours = point.cell, not point.grade
    values = (
        *("this project" if ours else "published", cell.method, cell.dataset, cell.network),
        *(point.precision, tier.tier if ours else None, point.n, point.weight_bytes),
        *(point.accuracy, point.std, point.grade, point.marks),
    )
    return dict(zip(HEADER, values, strict=True))


def _panel(cell: Cell, x: Axis, ours: Iterable[Point], theirs: Iterable[Point]) -> str:
    """Return the panel of one cell."""
    ours, theirs = ([p for p in points if p.cell == cell] for points in (ours, theirs))
    y = linear([*(point.accuracy for point in (*ours, *theirs)), 1.0], from_zero=True)
    panel = Panel(str(cell), x, y, x_title="MB")
    joined = [(p.megabytes, p.accuracy) for p in ours if p.precision != "fp32_control"]
    if len(joined) > 1:
        panel.line(sorted(joined), "join")
    for point in theirs:
        at = (point.megabytes, point.accuracy)
        panel.dot(at, f"{point.precision} hollow", _words(point), "diamond")
    for point in ours:
        at = (point.megabytes, point.accuracy)
        if point.std is not None:
            panel.error(at[0], at[1] - point.std, at[1] + point.std, point.precision)
        panel.dot(at, look_of(point.precision), _words(point), SHAPES[point.precision])
    said = [_words(point) for point in (*ours, *theirs)]
    if not ours:
        middle = {"x": (panel.left + panel.width) / 2, "text_anchor": "middle"}
        panel.draw(tag("text", f"ours: {NOT_RUN}", class_="quiet", y=panel.height / 2, **middle))
        said.insert(0, f"ours {NOT_RUN}")
    return panel.svg(f"{cell}: {'; '.join(said)}")


def look_of(precision: str) -> str:
    """Return the classes of our marks."""
    return "fp32 hollow" if precision == "fp32_control" else f"{precision} filled"


def _words(point: Point) -> str:
    """Return a point in words."""
    std = "" if point.std is None else f" ± {point.std:.2f}"
    source = f"published, grade {point.grade}" if point.grade else f"n {point.n}"
    where = f"{point.accuracy:.2f}{std} % at {point.megabytes:.3f} MB ({source})"
    return f"{NAMES[point.precision]} {where} {point.marks}".rstrip()


def _key(*, published: bool) -> str:
    """Return the panel that names the marks."""
    entries: list[tuple[Shape, str, str]] = [
        (SHAPES[name], look_of(name), NAMES[name]) for name in SPIKING
    ]
    if published:
        shown: tuple[Precision, ...] = ("fp32", "binary")
        entries += [("diamond", f"{n} hollow", f"{NAMES[n]}, published") for n in shown]
    parts = []
    for index, (shape, look, words) in enumerate(entries):
        x, y = 8 + 128 * (index % 3), 12 + 22 * (index // 3)
        parts.append(mark((x, y), shape, look))
        parts.append(tag("text", words, x=x + 12, y=y + 4))
    return drawing(384, 46, "".join(parts), "key of the marks", "key")
