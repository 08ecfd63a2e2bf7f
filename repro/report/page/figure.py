"""A figure of the report: panels, what they show in words, and their data as CSV."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.report.page.panel import tag

CHART: Final = Path(__file__).with_name("chart.css")
# Blue and vermilion of Okabe and Ito, which colour-blind people tell apart; contrasts are tested.
LIGHT: Final = {
    **{"ink": "#1b1f24", "paper": "#ffffff", "quiet": "#59636e", "line": "#d5dae0"},
    **{"band": "#f5f7f9", "link": "#0b5c99", "warn": "#b35900"},
    **{"binary": "#0072b2", "ternary": "#c2500a"},
    **{"binarytint": "#dcebf5", "ternarytint": "#f9e4d8"},
}
WIDE: Final = (360, 230)  # px that a panel takes in a file


@dataclass(frozen=True)
class Figure:
    """Panels with one caption.

    Attributes:
        name: Of its files, and of its place on the page: letters, digits, ``_`` and ``-``.
        title: One line.
        caption: What is drawn and how; plain text.
        panels: One SVG each; none where there is nothing to draw.
        data: CSV of what is drawn, or empty.
        missing: Sentences about what is not drawn.
        small: Whether many panels stand side by side.
    """

    name: str
    title: str
    caption: str = ""
    panels: tuple[str, ...] = ()
    data: str = ""
    missing: tuple[str, ...] = ()
    small: bool = False


def in_one_file(figure: Figure, columns: int = 2) -> str:
    """Return the panels as one SVG that needs no page: the key on top, then the others in columns.

    Its colours are the light ones, and its bytes depend on the figure alone.

    Args:
        figure: Its first panel is the key of the marks.
        columns: Panels side by side.
    """
    key, *panels = figure.panels
    placed = [key.replace("<svg ", '<svg x="10" y="10" ', 1)]
    for number, panel in enumerate(panels):
        x, y = 10 + number % columns * WIDE[0], 70 + number // columns * WIDE[1]
        placed.append(panel.replace("<svg ", f'<svg x="{x}" y="{y}" ', 1))
    height = 70 + -(-len(panels) // columns) * WIDE[1]
    return _file("\n".join(placed), columns * WIDE[0], height)


def alone(figure: Figure) -> str:
    """Return a figure of one panel as SVG that needs no page."""
    (panel,) = figure.panels
    width, height = (int(re.findall(rf' {name}="(\d+)"', panel)[0]) for name in ("width", "height"))
    return _file(panel.replace("<svg ", '<svg x="10" y="10" ', 1), width + 20, height + 20)


def _file(content: str, width: int, height: int) -> str:
    """Return drawings on paper as one SVG, in the light colours."""
    colours = "; ".join(f"--{name}: {colour}" for name, colour in LIGHT.items())
    style = tag("style", f":root {{ {colours} }}\n{CHART.read_text('utf-8')}")
    paper = tag("rect", width="100%", height="100%", fill=LIGHT["paper"])
    size = {"width": width, "height": height}
    whole = "\n".join([style, paper, content])
    return tag("svg", whole, xmlns="http://www.w3.org/2000/svg", **size) + "\n"
