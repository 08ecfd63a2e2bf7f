"""Accuracy against weight memory: a panel per cell, ours and what is published."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from repro.cells import COLUMNS, Cell, Precision, Tier
from repro.report.page.figure import Figure
from repro.report.page.panel import Axis, Panel, Shape, drawing, linear, logarithmic, mark, tag
from repro.report.tier_rows import Groups, grouped, marks
from repro.report.wording import NAMES, NOT_RUN, scope
from repro.results.published import UNKNOWN, Published, by_name, published_value
from repro.results.row import Row
from repro.results.statistics import spread
from repro.table import csv_text

SHAPES: Final[Mapping[str, Shape]] = {
    "fp32": "circle",
    "fp32_control": "circle",
    "binary": "square",
    "ternary": "triangle",
}
DATA: Final = (
    *("source", "method", "dataset", "network", "precision", "tier", "n", "weights_only_bytes"),
    *("accuracy_percent", "accuracy_std_points", "grade", "marks"),
)
BYTES_PER_MB: Final = 1e6
Line = dict[str, object]


def memory_figure(
    rows: Iterable[Row],
    published: Iterable[Published],
    tier: Tier,
    cells: Sequence[Cell],
    hashes: Mapping[str, str] | None = None,
) -> Figure:
    """Return accuracy against weight memory of all cells; what has not run is said in its panel.

    Args:
        rows: Rows of any tier; only those of ``tier`` are drawn.
        published: Published numbers, drawn hollow; they belong to the paper's networks.
        tier: Scale of our runs.
        cells: A panel each.
        hashes: Run key -> hash of today's recipe; None leaves staleness unchecked.
    """
    groups = grouped(rows, tier, cells)
    ours = {cell: _ours(cell, tier, groups, hashes) for cell in cells}
    theirs = {cell: _theirs(cell, published) for cell in cells}
    everything = [line for lines in (*ours.values(), *theirs.values()) for line in lines]
    if not everything:
        return Figure(f"memory-{tier}", "Accuracy against weight memory", "", (), "")
    x = logarithmic(_megabytes(line) for line in everything)
    panels = [_panel(cell, x, ours[cell], theirs[cell]) for cell in cells]
    simulated = any(cell.simulated for cell in cells)
    about = "" if simulated else " Published points belong to the paper's networks and recipes."
    if tier != "paper" and not simulated:
        about += f" Ours are of the {tier} tier: not comparable with them."
    return Figure(
        f"memory-{'simulated-' * simulated}{tier}",
        f"Accuracy against weight memory, {scope(tier, cells)}",
        "Test accuracy in percent at the epoch picked on validation, mean over seeds, bars are ± "
        "one sample standard deviation; weights only, in MB of 10^6 bytes. The same horizontal "
        f"axis everywhere, a vertical one for each cell, from 0.{about}",
        (_key(published=not simulated), *panels),
        csv_text(DATA, everything),
    )


def _ours(cell: Cell, tier: Tier, groups: Groups, hashes: Mapping[str, str] | None) -> list[Line]:
    """Return a line per precision that has run."""
    lines = []
    for precision in COLUMNS:
        group = groups.get((cell, precision), [])
        if not group:
            continue
        found = spread([100 * row.accuracy_selected for row in group])
        lines.append(
            _line("this project", cell, precision)
            | {
                "tier": tier,
                "n": found.n,
                "weights_only_bytes": spread([row.weights_only_bytes for row in group]).mean,
                "accuracy_percent": found.mean,
                "accuracy_std_points": found.std,
                "marks": marks(group, groups, hashes).strip(),
            }
        )
    return lines


def _theirs(cell: Cell, published: Iterable[Published]) -> list[Line]:
    """Return a line per precision whose accuracy and memory are published."""
    known, lines = by_name(published), []
    for precision in COLUMNS:
        accuracy = published_value(known, cell, precision, "accuracy")
        megabytes = published_value(known, cell, precision, "memory")
        if UNKNOWN in (accuracy, megabytes):
            continue
        std = published_value(known, cell, precision, "accuracy_std")
        lines.append(
            _line("published", cell, precision)
            | {
                "weights_only_bytes": float(megabytes) * BYTES_PER_MB,
                "accuracy_percent": float(accuracy),
                "accuracy_std_points": None if std == UNKNOWN else float(std),
                "grade": known[cell, precision, "accuracy"].grade,
            }
        )
    return lines


def _line(source: str, cell: Cell, precision: Precision) -> Line:
    """Return the first fields of a line."""
    name = {"method": cell.method, "dataset": cell.dataset, "network": cell.network}
    return dict.fromkeys(DATA) | {"source": source, **name, "precision": precision}


def _megabytes(line: Line) -> float:
    assert isinstance(line["weights_only_bytes"], float)
    return line["weights_only_bytes"] / BYTES_PER_MB


def _accuracy(line: Line) -> float:
    assert isinstance(line["accuracy_percent"], float)
    return line["accuracy_percent"]


def _panel(cell: Cell, x: Axis, ours: Sequence[Line], theirs: Sequence[Line]) -> str:
    """Return the panel of one cell."""
    values = [_accuracy(line) for line in (*ours, *theirs)]
    panel = Panel(str(cell), x, linear([*values, 1.0], from_zero=True), x_title="MB")
    joined = [(_megabytes(n), _accuracy(n)) for n in ours if n["precision"] != "fp32_control"]
    if len(joined) > 1:
        panel.line(sorted(joined), "join")
    for line in theirs:
        precision, words = str(line["precision"]), _words(line)
        panel.dot((_megabytes(line), _accuracy(line)), f"{precision} hollow", words, "diamond")
    for line in ours:
        precision, at = str(line["precision"]), (_megabytes(line), _accuracy(line))
        if (std := line["accuracy_std_points"]) is not None:
            assert isinstance(std, float)
            panel.error(at[0], at[1] - std, at[1] + std, precision)
        panel.dot(at, _look(precision), _words(line), SHAPES[precision])
    said = [_words(line) for line in (*ours, *theirs)]
    if not ours:
        middle = {"x": (panel.left + panel.width) / 2, "text_anchor": "middle"}
        panel.draw(tag("text", f"ours: {NOT_RUN}", class_="quiet", y=panel.height / 2, **middle))
        said.insert(0, f"ours {NOT_RUN}")
    return panel.svg(f"{cell}: {'; '.join(said)}")


def _look(precision: str) -> str:
    """Return the classes of our marks."""
    return "fp32 hollow" if precision == "fp32_control" else f"{precision} filled"


def _words(line: Line) -> str:
    """Return a point in words."""
    name = NAMES[line["precision"]]  # type: ignore[index]
    std = "" if line["accuracy_std_points"] is None else f" ± {line['accuracy_std_points']:.2f}"
    source = f"published, grade {line['grade']}" if line["grade"] else f"n {line['n']}"
    marked = f" {line['marks']}" if line["marks"] else ""
    return f"{name} {_accuracy(line):.2f}{std} % at {_megabytes(line):.3f} MB ({source}){marked}"


def _key(*, published: bool) -> str:
    """Return the panel that names the marks."""
    entries: list[tuple[Shape, str, str]] = [
        (SHAPES[name], _look(name), NAMES[name]) for name in COLUMNS
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
