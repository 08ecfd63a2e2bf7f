"""Accuracy against weight memory as an SVG for ``results/``, the same byte for byte each time.

The page draws the same points in panels of its own, `repro.report.page.memory_panels`: matplotlib
writes colours into the drawing, and the page's follow the reader's choice of light or dark.
"""

import io
from collections.abc import Iterable, Sequence
from itertools import cycle, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from repro.cells import Tier
from repro.files import write_atomically
from repro.report.accuracy_memory import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#1b1f24"  # text and axes
PAPER: Final = "#fefefe"
# Okabe and Ito's colours, readable for colour-blind people; yellow and black are left out, they
# vanish on a light and on a dark page. Nine cells need a second line style.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
STYLES: Final = tuple((colour, dashes) for dashes in ("-", "-.", ":") for colour in COLOURS)
MARKERS: Final = {"fp32": "o", "fp32_control": "o", "binary": "s", "ternary": "^"}
WIDTH: Final = 5.2  # inches: text stays legible when a phone scales the page


def draw_memory_figure(points: Sequence[Point], tier: Tier, out: Path) -> Path:
    """Draw accuracy against memory as an SVG, a line per cell, and return its path.

    Bars are the sample standard deviation. The FP32 control is hollow, off the line.

    Args:
        points: Points of one tier, see `our_points`, at least one; those of a cell stand together.
        tier: Named in the title.
        out: Path of the SVG, replaced if it exists.
    """
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter

    cells = [(str(cell), list(group)) for cell, group in groupby(points, lambda p: p.cell)]
    with style.context("default"):  # as matplotlib draws without a matplotlibrc
        height = 3.6 + 0.25 * len(cells)
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=PAPER)
        axes = figure.subplots()
        axes.set_title(f"{tier} tier: ● FP32, ○ FP32 control, ■ binary, ▲ ternary", loc="left")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        handles = []
        for (name, group), (colour, dashes) in zip(cells, cycle(STYLES), strict=False):
            _add_cell(axes, group, colour, dashes)
            handles.append(Line2D([], [], color=colour, ls=dashes, label=name))
        axes.set_xlabel("weight memory, MB (weights only)")
        axes.set_ylabel("test accuracy, %")
        figure.legend(handles=handles, loc="outside lower left", frameon=False)
        return _save(figure, out)


def _add_cell(axes: "Axes", points: Iterable[Point], colour: str, dashes: str) -> None:
    """Draw the markers of one cell; a line joins them all but the control, which is hollow."""
    joined = []
    for point in points:
        control = point.precision == "fp32_control"
        axes.errorbar(
            point.megabytes,
            point.accuracy,
            yerr=point.std or 0.0,
            color=colour,
            marker=MARKERS[point.precision],
            markerfacecolor="none" if control else colour,
            markersize=9 if control else 6,  # a ring where the two coincide
            capsize=2,
            zorder=3,
        )
        if not control:
            joined.append((point.megabytes, point.accuracy))
    if joined:
        axes.plot(*zip(*sorted(joined), strict=True), color=colour, ls=dashes, alpha=0.6)


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
