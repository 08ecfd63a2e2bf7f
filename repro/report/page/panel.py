"""Panels of charts as SVG: axes, lines, bars of error, marks, with classes in place of colours.

The page's style sheet gives the classes their colours, a light and a dark set; a downloaded file
carries the light one. Equal data make equal bytes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final, Literal

Point = tuple[float, float]
Shape = Literal["circle", "square", "triangle", "diamond"]

LEFT: Final = 46  # px between the edge of a panel and its axes
RIGHT: Final = 14
TOP: Final = 30
BOTTOM: Final = 36
LETTER: Final = 5.6  # px, mean width of a letter of the smallest text
SUBDIVISIONS: Final = (1, 2, 5)
MOST_TICKS: Final = 5


def tag(name: str, content: str = "", **attributes: object) -> str:
    """Return an SVG element; attribute values are escaped, content is taken as it is.

    A trailing ``_`` of a name is dropped and others become ``-``: ``class_``, ``text_anchor``.

    >>> tag("g", tag("title", escape("a < b")), class_="line")
    '<g class="line"><title>a &lt; b</title></g>'
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    words = "".join(f' {key}="{escape(str(value))}"' for key, value in given.items())
    return f"<{name}{words}>{content}</{name}>" if content else f"<{name}{words}/>"


def number(value: float) -> str:
    """Return a coordinate with one decimal at most.

    >>> number(3.04), number(-0.01), number(2.26)
    ('3', '0', '2.3')
    """
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def label(value: float) -> str:
    """Return a number as an axis prints it.

    >>> label(0.001), label(2500.0), label(3e6)
    ('0.001', '2,500', '3e6')
    """
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:,.6g}" if abs(value) >= 1000 else f"{value:.6g}"


@dataclass(frozen=True)
class Axis:
    """A range of values, and where they lie on a panel.

    Attributes:
        low: Least value.
        high: Greatest value, above ``low``.
        ticks: Values that are labelled.
        logarithmic: Whether distances are ratios; both ends are then above 0.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies, 0 at ``low`` and 1 at ``high``."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(values: Iterable[float], *, from_zero: bool = False, whole: bool = False) -> Axis:
    """Return an axis whose ends are ticks, around values.

    Args:
        values: At least one, finite.
        from_zero: Whether 0 belongs to it.
        whole: Whether ticks are whole numbers.

    >>> linear([0.3, 9.1]).ticks
    (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
    """
    found = [*values, *([0.0] if from_zero else [])]
    low, high = min(found), max(found)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = (low - 0.5 * abs(low) or -1.0), (high + 0.5 * abs(high) or 1.0)
        low = 0.0 if from_zero and low < 0 <= min(found) else low
    step = _step((high - low) / MOST_TICKS)
    step = max(1.0, step) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def logarithmic(values: Iterable[float]) -> Axis:
    """Return a logarithmic axis around values above 0; ticks 1, 2, 5 or powers of ten.

    >>> logarithmic([0.02, 300]).ticks
    (0.1, 1.0, 10.0, 100.0)
    """
    found = list(values)
    low, high = min(found) / 1.3, max(found) * 1.3
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    dense = [factor * 10.0**power for power in decades for factor in SUBDIVISIONS]
    inside = [float(f"{tick:.6g}") for tick in dense if low <= tick <= high]
    if len(inside) > MOST_TICKS:
        powers = [10.0**power for power in decades if low <= 10.0**power <= high]
        inside = powers[:: math.ceil(len(powers) / MOST_TICKS)]
    return Axis(low, high, tuple(float(f"{tick:.6g}") for tick in inside), logarithmic=True)


def epochs_axis(last: int) -> Axis:
    """Return the axis of epochs from 1; labelled are at most six, the last one among them.

    >>> epochs_axis(3).ticks, epochs_axis(100).ticks
    ((1.0, 2.0, 3.0), (20.0, 40.0, 60.0, 80.0, 100.0))
    """
    step = int(max(1.0, _step(last / MOST_TICKS)))
    ticks = tuple(float(tick) for tick in range(step, last + 1, step))
    return Axis(0.5, last + 0.5, ticks)


def _step(least: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    factors = (*SUBDIVISIONS, 10)
    return next(power * f for f in factors if power * f >= least * (1 - 1e-9))


@dataclass
class Panel:
    """One pair of axes; marks are added to it, then it is turned into SVG.

    Attributes:
        title: Above the axes.
        x: Horizontal axis.
        y: Vertical axis.
        width: Px, with all margins.
        height: Px, with all margins.
        x_title: Below the axis.
        left: Px between the left edge and the axes.
    """

    title: str
    x: Axis
    y: Axis
    width: int = 340
    height: int = 220
    x_title: str = ""
    left: int = LEFT
    _marks: list[str] = field(default_factory=list)
    _keys: list[tuple[str, str]] = field(default_factory=list)

    def at(self, point: Point) -> Point:
        """Return where a pair of values lies, px from the upper left corner."""
        across = self.width - self.left - RIGHT
        down = self.height - TOP - BOTTOM
        x, y = self.x.at(point[0]), self.y.at(point[1])
        return self.left + across * x, self.height - BOTTOM - down * y

    def line(self, points: Sequence[Point], look: str, words: str = "") -> None:
        """Draw a line through the points, or a dot for a single one.

        Args:
            points: Pairs of values.
            look: Classes.
            words: What it shows, as a tooltip.
        """
        title = tag("title", escape(words)) if words else ""
        if len(points) == 1:
            self.dot(points[0], f"dot {look}", words)
            return
        path = "".join(
            f"{'L' if index else 'M'}{number(x)} {number(y)}"
            for index, (x, y) in enumerate(map(self.at, points))
        )
        self._marks.append(tag("path", title, class_=f"line {look}", d=path))

    def dot(self, point: Point, look: str, words: str = "", shape: Shape = "circle") -> None:
        """Draw a mark at a point."""
        title = tag("title", escape(words)) if words else ""
        self._marks.append(mark(self.at(point), shape, look, title))

    def error(self, x: float, low: float, high: float, look: str) -> None:
        """Draw a vertical bar from a low to a high value, kept inside the axes."""
        ends = [min(max(value, self.y.low), self.y.high) for value in (low, high)]
        (left, lower), (_, upper) = (self.at((x, value)) for value in ends)
        path = f"M{number(left)} {number(lower)}V{number(upper)}"
        self._marks.append(tag("path", class_=f"line {look}", d=path))

    def rule(self, x: float, words: str) -> None:
        """Draw a vertical line through the panel, named at its top."""
        left, _ = self.at((x, self.y.low))
        path = f"M{number(left)} {TOP}V{self.height - BOTTOM}"
        self._marks.insert(0, tag("path", tag("title", escape(words)), class_="rule", d=path))

    def name(self, y: float, words: str) -> None:
        """Name a value of the vertical axis."""
        _, down = self.at((self.x.low, y))
        place = {"x": self.left - 10, "y": number(down + 3.5), "text_anchor": "end"}
        self._marks.append(tag("text", escape(words), **place))

    def draw(self, element: str) -> None:
        """Add an element that was made elsewhere."""
        self._marks.append(element)

    def key(self, look: str, words: str) -> None:
        """Name a look at the upper right."""
        self._keys.append((look, words))

    def svg(self, words: str) -> str:
        """Return the panel as SVG.

        Args:
            words: What it shows, for those who do not see it.
        """
        parts = [
            tag("text", escape(self.title), class_="title", x=0, y=12),
            *self._axes(),
            *self._named(),
            *self._marks,
        ]
        return drawing(self.width, self.height, "".join(parts), words)

    def _axes(self) -> list[str]:
        """Return grid, ticks and labels."""
        right, bottom = self.width - RIGHT, self.height - BOTTOM
        parts = []
        for tick in self.y.ticks:
            _, y = self.at((self.x.low, tick))
            parts.append(tag("path", class_="grid", d=f"M{self.left} {number(y)}H{right}"))
            place = {"x": self.left - 6, "y": number(y + 3.5), "text_anchor": "end"}
            parts.append(tag("text", label(tick), **place))
        for tick in self.x.ticks:
            x, _ = self.at((tick, self.y.low))
            parts.append(tag("path", class_="tick", d=f"M{number(x)} {bottom}v4"))
            place = {"x": number(x), "y": bottom + 15, "text_anchor": "middle"}
            parts.append(tag("text", label(tick), **place))
        parts.append(tag("path", class_="axis", d=f"M{self.left} {bottom}H{right}"))
        if self.x_title:
            place = {"x": right, "y": self.height - 5, "text_anchor": "end"}
            parts.append(tag("text", escape(self.x_title), class_="quiet", **place))
        return parts

    def _named(self) -> list[str]:
        """Return the names of looks, from the right edge."""
        parts, right = [], float(self.width - RIGHT)
        for look, words in reversed(self._keys):
            start = right - LETTER * len(words)
            parts.append(tag("text", escape(words), x=number(start), y=12))
            path = f"M{number(start - 20)} 8h15"
            parts.append(tag("path", class_=f"line {look}", d=path))
            right = start - 28
        return parts


def drawing(width: int, height: int, content: str, words: str, look: str = "") -> str:
    """Return an SVG of that size in px; ``words`` say what it shows, ``look`` are more classes."""
    shown = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return tag(
        "svg", content, class_=f"chart {look}".strip(), role="img", aria_label=words, **shown
    )


def mark(centre: Point, shape: Shape, look: str, title: str = "") -> str:
    """Return a mark around a place on a drawing, px."""
    x, y = centre
    if shape == "circle":
        return tag("circle", title, class_=look, cx=number(x), cy=number(y), r=4)
    corners: dict[Shape, list[Point]] = {
        "square": [(-3.7, -3.7), (3.7, -3.7), (3.7, 3.7), (-3.7, 3.7)],
        "triangle": [(0, -5), (4.6, 3.4), (-4.6, 3.4)],
        "diamond": [(0, -5.4), (5.4, 0), (0, 5.4), (-5.4, 0)],
    }
    path = "L".join(f"{number(x + dx)} {number(y + dy)}" for dx, dy in corners[shape])
    return tag("path", title, class_=look, d=f"M{path}Z")


def area(points: Iterable[Point], place: Callable[[Point], Point], look: str) -> str:
    """Return a filled outline through the points, open along its base."""
    corners = [place(point) for point in points]
    path = "L".join(f"{number(x)} {number(y)}" for x, y in corners)
    return tag("path", class_=look, d=f"M{path}")
