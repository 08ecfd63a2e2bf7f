"""Figures as SVG and the report page, both self-contained and the same byte for byte each time."""

import html
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from repro.cells import CELLS, SIMULATED, Precision
from repro.errors import UserError
from repro.groups import grouped
from repro.rows import Row, write_atomically
from repro.statistics import spread
from repro.text_table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#1b1f24"  # text and axes; the report page turns it into the reader's text colour
PAPER: Final = "#fefefe"  # background; the report page makes it transparent
# Okabe and Ito's colours, readable for colour-blind people; yellow and black are left out, they
# vanish on a light and on a dark page. Nine cells need a second line style.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS: Final = {"fp32": "o", "fp32_control": "o", "binary": "s", "ternary": "^"}
WIDTH: Final = 5.2  # inches: text stays legible when a phone scales the page
PANELS: Final = {
    "accuracy, %": ("val_accuracy", "test_accuracy"),
    "Lagrangian": ("lagrangian",),
    "constraint failure score": ("cfs",),
    "g (a larger g means a smaller window)": ("g",),
}
LOGARITHMIC: Final = "constraint failure score"
STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --line: #d0d7de;
  --quiet: #57606a; --band: #f6f8fa }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d;
  --quiet: #9198a1; --band: #161b22 } }
body { margin: 0 auto; max-width: 80rem; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
p { max-width: 44rem } .note { color: var(--quiet); font-size: .85rem; margin: .4rem 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { border: 1px solid var(--line); padding: .3rem .5rem; text-align: left }
td { white-space: nowrap } th { background: var(--band); vertical-align: bottom }
tbody th { font-weight: normal; white-space: nowrap }
figure { margin: 1rem 0 } svg { width: 100%; max-width: 40rem; height: auto; color: var(--ink) }
figcaption { color: var(--quiet); font-size: .85rem }
@media print { :root { --ink: #000; --paper: #fff; --line: #999; --quiet: #333; --band: #eee }
  body { max-width: none; padding: 0; font-size: 9pt } .scroll { overflow: visible }
  table { font-size: 7pt } th, td { padding: 1px 3px } td, tbody th { white-space: normal }
  figure, tr { break-inside: avoid } h2 { break-after: avoid } svg { max-width: 13cm } }
"""


@contextmanager
def _default_style() -> Iterator[None]:
    """Draw as matplotlib does without a matplotlibrc, so that a figure is the same everywhere."""
    from matplotlib import style

    with style.context("default"):
        yield


@_default_style()
def curves_figure(metrics: Mapping[str, Sequence[Mapping[str, float]]], out: Path) -> Path:
    """Draw accuracy, Lagrangian, CFS and g over the epochs as an SVG, one colour per run.

    Args:
        metrics: Run key -> one mapping per epoch with ``epoch`` (from 0, drawn from 1 as in the
            log) and any of ``val_accuracy`` and ``test_accuracy`` (fractions), ``lagrangian``,
            ``cfs``, ``g``; others are ignored. A panel without values is left out, as are NaN and
            infinite ones, and 0 in the logarithmic panel of the CFS.
        out: Path of the SVG, replaced if it exists.

    Returns:
        ``out``.

    Raises:
        UserError: None of the runs has a value to draw.
    """
    drawn = {
        title: names
        for title, names in PANELS.items()
        if any(_points(epochs, name) for epochs in metrics.values() for name in names)
    }
    if not drawn:
        raise UserError(f"{out}: no curves in {len(metrics)} runs; train at least one epoch first")
    from matplotlib.ticker import MaxNLocator

    figure = _new_figure(1.9 * len(drawn) + 0.25 * len(metrics) + 0.6)
    panels = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, names) in zip(panels, drawn.items(), strict=True):
        both = " (solid: validation, dashed: test)" if len(names) > 1 else ""
        axes.set_title(title + both, loc="left")
        axes.set_yscale("log" if title == LOGARITHMIC else "linear")
        for (colour, style, _), epochs in zip(_styles(metrics), metrics.values(), strict=True):
            for name in names:
                points = _points(epochs, name)
                line = "--" if name == "test_accuracy" else style
                mark = "." if len(points) == 1 else ""
                if points:
                    axes.plot(*zip(*points, strict=True), color=colour, ls=line, marker=mark)
    panels[-1].set_xlabel("epoch")
    last = max(line["epoch"] for epochs in metrics.values() for line in epochs) + 1
    panels[-1].set_xlim(0.5, last + 0.5)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _add_legend(figure, _styles(metrics))
    return _save(figure, out)


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


def report_page(
    tables: Sequence[Table],
    figures: Sequence[Path],
    summary: str,
    out: Path,
    title: str = "CBP-QSNN reproduction",
) -> Path:
    """Write one HTML page that needs nothing else: summary, tables, and figures as inline SVG.

    Args:
        tables: In the order of the page.
        figures: SVG files; the file name becomes the caption.
        summary: Plain text below the title.
        out: Path of the page, replaced if it exists.
        title: Plain text.

    Returns:
        ``out``.

    Raises:
        UserError: A figure is missing or no SVG.
    """
    parts = [_inline(path, f"f{index}-") for index, path in enumerate(figures)]
    heading = ["<h2>Figures</h2>"] if parts else []
    body = "\n".join([*map(_table_html, tables), *heading, *parts])
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(summary)}</p>
{body}
</body>
</html>
"""
    return write_atomically(out, page)


def _points(epochs: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """Return epoch, from 1, and value of one column where it can be drawn; accuracy in percent."""
    scale = 100 if name.endswith("accuracy") else 1
    return [
        (line["epoch"] + 1, scale * line[name])
        for line in epochs
        if math.isfinite(line.get(name, math.nan)) and (name != "cfs" or line[name] > 0)
    ]


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


def _inline(path: Path, prefix: str) -> str:
    """Return an SVG file as part of a page: its ids unique, its ink the page's text colour."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: draw the figure again") from error
    found = re.search(r"<svg\b.*</svg>", text, flags=re.DOTALL)
    if found is None:
        raise UserError(f"{path} is no SVG: draw the figure again")
    svg = re.sub(r"<metadata>.*?</metadata>", "", found[0], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", svg)
    svg = svg.replace(INK, "currentColor").replace(PAPER, "none")
    name = html.escape(path.stem.replace("_", " "))
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)
    return f"<figure>\n{svg}\n<figcaption>{name}</figcaption>\n</figure>"


def _table_html(table: Table) -> str:
    """Return a table as HTML: it scrolls sideways on its own on a narrow screen."""
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in table.header)
    lines = "\n".join(
        f'<tr><th scope="row">{html.escape(first)}</th>'
        + "".join(f"<td>{html.escape(text)}</td>" for text in rest)
        + "</tr>"
        for first, *rest in table.lines
    )
    title = html.escape(table.title)
    notes = "\n".join(f'<p class="note">{html.escape(note)}</p>' for note in table.notes)
    return (
        f'<h2>{title}</h2>\n<div class="scroll" role="region" tabindex="0" aria-label="{title}">'
        f"<table>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table></div>\n{notes}"
    )
