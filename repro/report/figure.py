"""The figure of ``results/`` as SVG, the same byte for byte each time."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from repro.cells import CELLS, SIMULATED, Precision
from repro.errors import UserError
from repro.files import write_atomically
from repro.report.tier_rows import grouped
from repro.results.row import Row
from repro.results.statistics import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#1b1f24"  # text and axes
PAPER: Final = "#fefefe"
# Okabe and Ito's colours, readable for colour-blind people; yellow and black are left out, they
# vanish on a light and on a dark page. Nine cells need a second line style.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS: Final = {"fp32": "o", "fp32_control": "o", "binary": "s", "ternary": "^"}
WIDTH: Final = 5.2  # inches: text stays legible when a phone scales the page


@contextmanager
def _default_style() -> Iterator[None]:
    """Draw as matplotlib does without a matplotlibrc, so that a figure is the same everywhere."""
    from matplotlib import style

    with style.context("default"):
        yield


@_default_style()
def accuracy_against_memory_figure(rows: Iterable[Row], out: Path) -> Path:
    """Draw accuracy against weight memory as an SVG: a line per cell, a marker per precision.

    Accuracy is that at the epoch picked on validation, mean over seeds with the sample standard
    deviation as a bar; memory is ``weights_only_bytes``. The FP32 control is hollow, off the line.

    Args:
        rows: Rows of one tier, none of an ANN.
        out: Path of the SVG, replaced if it exists.

    Returns:
        ``out``.

    Raises:
        UserError: No rows.
        ValueError: Rows of several tiers, or of simulated and real data, which may not share an
            axis.
    """
    rows = list(rows)
    tiers = sorted({row.tier for row in rows})
    if not rows:
        raise UserError(f"{out}: no rows to draw; make one with python -m repro run")
    if len(tiers) > 1:
        raise ValueError(f"tiers {', '.join(tiers)} in one figure: draw one figure per tier")
    if len({row.key.cell.simulated for row in rows}) > 1:
        raise ValueError("simulated and real data in one figure: draw one figure each")
    from matplotlib.ticker import LogLocator, NullFormatter

    groups = grouped(rows, rows[0].tier, SIMULATED if rows[0].key.cell.simulated else CELLS)
    cells = list(dict.fromkeys(str(cell) for cell, _ in groups))
    styles = _styles(cells)
    figure = _new_figure(3.6 + 0.25 * len(cells))
    axes = figure.subplots()
    axes.set_title(f"{rows[0].tier} tier: ● FP32, ○ FP32 control, ■ binary, ▲ ternary", loc="left")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    for (colour, style, _), name in zip(styles, cells, strict=True):
        mine = {precision: each for (cell, precision), each in groups.items() if str(cell) == name}
        _add_cell(axes, mine, colour, style)
    axes.set_xlabel("weight memory, MB (weights only)")
    axes.set_ylabel("test accuracy, %")
    _add_legend(figure, styles)
    return _save(figure, out)


def _add_cell(
    axes: "Axes", groups: Mapping[Precision, Sequence[Row]], colour: str, style: str
) -> None:
    """Draw the markers of one cell; a line joins them all but the control, which is hollow."""
    points = []
    for precision, group in groups.items():
        accuracy = spread([100 * row.accuracy_selected for row in group])
        megabytes = spread([row.weights_only_bytes / 1e6 for row in group]).mean
        axes.errorbar(
            megabytes,
            accuracy.mean,
            yerr=accuracy.std or 0.0,
            color=colour,
            marker=MARKERS[precision],
            markerfacecolor="none" if precision == "fp32_control" else colour,
            markersize=9 if precision == "fp32_control" else 6,  # a ring where the two coincide
            capsize=2,
            zorder=3,
        )
        if precision != "fp32_control":
            points.append((megabytes, accuracy.mean))
    if points:
        axes.plot(*zip(*sorted(points), strict=True), color=colour, ls=style, alpha=0.6)


def _styles(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return colour, line style and name of each; colours repeat with another line style."""
    count = len(COLOURS)
    return [
        (COLOURS[index % count], ("-", "-.", ":")[index // count % 3], name)
        for index, name in enumerate(names)
    ]


def _new_figure(height: float) -> "Figure":
    """Return an empty figure, ``height`` inches high, without pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained", facecolor=PAPER)


def _add_legend(figure: "Figure", styles: Sequence[tuple[str, str, str]]) -> None:
    """Put the names below the panels, one a line."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, ls=style, label=name) for colour, style, name in styles]
    figure.legend(handles=handles, loc="outside lower left", frameon=False)


def _save(figure: "Figure", out: Path) -> Path:
    """Write the figure as an SVG whose bytes depend on its content only, and return the path."""
    import matplotlib
    from matplotlib.text import Text

    for axes in figure.axes:
        axes.set_facecolor(PAPER)
        axes.grid(visible=True, which="major", alpha=0.25)
        axes.tick_params(which="both", colors=INK)
        axes.spines[:].set_color(INK)
    for text in figure.findobj(Text):
        text.set(color=INK)
    svg = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "cbp-qsnn", "svg.fonttype": "none"}):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return write_atomically(out, svg.getvalue())
