"""How latent weights gather at the levels: of all quantised layers, and of each."""

from collections.abc import Sequence
from typing import Final

from torch import Tensor

from repro.report.page.figure import Figure
from repro.report.page.panel import Axis, Panel, Point, area, drawing, number, tag
from repro.report.page.trace import Trace
from repro.report.wording import plural
from repro.results.row import Row
from repro.run.latent_histograms import CENTRES, EDGE, PER_SCALE, Latent
from repro.table import csv_text

RIDGES: Final = 9  # epochs drawn at most, the first and the last among them
PITCH: Final = 30  # px between ridges
TALLEST: Final = 96  # px
WIDTH: Final = 360
LEVELS: Final = {"binary": (-1.0, 1.0), "ternary": (-1.0, 0.0, 1.0)}
X: Final = Axis(-EDGE, EDGE, (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0))
NARROW: Final = Axis(-EDGE, EDGE, (-1.0, 0.0, 1.0))
BINS_NAMED: Final = tuple(f"{centre:g}" for centre in CENTRES)
UNRECORDED: Final = "not recorded: the code that made this run kept no histograms"
UNQUANTISED: Final = "n/a: no layer of this run is quantised"


def gathering_figures(row: Row, trace: Trace) -> list[Figure]:
    """Return the histograms of a quantised run over the epochs, and layer by layer."""
    title = "Latent weights gather at the levels"
    if row.precision in LEVELS and trace.latent is not None:
        return [_over_epochs(row, trace.latent, title), _by_layer(row, trace.latent)]
    why = UNQUANTISED if row.precision not in LEVELS else trace.missing or UNRECORDED
    return [Figure(f"latent-{row.key}", title, missing=(why,))]


def chosen(count: int, most: int = RIDGES) -> list[int]:
    """Return at most ``most`` indices of ``count``, evenly spaced, the first and the last included.

    >>> chosen(3), chosen(101, 5)
    ([0, 1, 2], [0, 25, 50, 75, 100])
    """
    if count <= most:
        return list(range(count))
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _shares(found: Tensor) -> dict[str, str]:
    """Return the share of weights by the centre of its bin, as the data have it."""
    shares = zip(BINS_NAMED, found.tolist(), strict=True)
    return {name: f"{share:.4g}" for name, share in shares}


def named(epoch: int) -> str:
    """Return the name of an epoch in a histogram."""
    return f"epoch {epoch}" if epoch else "before"


def _over_epochs(row: Row, latent: Latent, title: str) -> Figure:
    """Return one ridge per epoch, all layers together."""
    picked = chosen(len(latent.epochs))
    total = sum(latent.weights)
    shares = [latent.counts[index].sum(0) / total for index in picked]
    epochs = [latent.epochs[index] for index in picked]
    outside = 1 - int(latent.counts[-1].sum()) / total  # counts: rounded shares may exceed 1
    lines = [{"epoch": e, **_shares(found)} for e, found in zip(epochs, shares, strict=True)]
    return Figure(
        f"latent-{row.key}",
        title,
        f"Latent weights of all {len(latent.layers)} quantised layers over the scale of their "
        "layer, before CBP and after epochs of it. The height is the square root of the share of "
        f"weights in a bin of {1 / PER_SCALE:g}, so that thin tails stay visible. Dashed: the "
        f"levels. Beyond the edges at the end: {100 * outside:.2g} % of {total:,} weights.",
        (_ridges(row, epochs, shares),),
        csv_text(("epoch", *BINS_NAMED), lines),
    )


def _ridges(row: Row, epochs: Sequence[int], shares: Sequence[Tensor]) -> str:
    """Return the panel of ridges, the first epoch on top."""
    left, right = 62, WIDTH - 12
    tops = [float(found.max()) ** 0.5 for found in shares]
    highest = max(tops)
    above = max(TALLEST * top / highest - PITCH * index for index, top in enumerate(tops))
    first = 26 + above  # base of the first ridge
    bottom = number(first + PITCH * (len(epochs) - 1))
    height = int(first + PITCH * len(epochs) + 4)
    parts = [tag("text", "weight / scale of its layer", class_="title", x=0, y=12)]

    def across(value: float) -> float:
        return left + (right - left) * X.at(value)

    for index, (epoch, found) in enumerate(zip(epochs, shares, strict=True)):
        base = first + PITCH * index
        points = [(c, share**0.5) for c, share in zip(CENTRES, found.tolist(), strict=True)]

        def place(point: Point, base: float = base) -> Point:
            return across(point[0]), base - TALLEST * point[1] / highest

        parts.append(area(outline(points), place, f"ridge {row.precision}"))
        words = {"x": left - 8, "y": number(base + 3), "text_anchor": "end"}
        parts.append(tag("text", named(epoch), **words))
    for level in LEVELS[row.precision]:
        x = number(across(level))
        parts.append(tag("path", class_="level", d=f"M{x} 20V{bottom}"))
    for tick in X.ticks:
        place_of = {"x": number(across(tick)), "y": height - 14, "text_anchor": "middle"}
        parts.append(tag("text", f"{tick:g}", **place_of))
    words_ = f"latent weights of {row.key}: histograms of {plural(len(epochs), 'epoch')}"
    return drawing(WIDTH, height, "".join(parts), words_)


def outline(points: Sequence[Point]) -> list[Point]:
    """Return the points that matter of an outline: of a run of zeros only both ends."""
    return [
        point
        for index, point in enumerate(points)
        if point[1] or index in (0, len(points) - 1) or points[index - 1][1] or points[index + 1][1]
    ]


def _by_layer(row: Row, latent: Latent) -> Figure:
    """Return a small panel per layer: the first epoch that was recorded, and the last one."""
    panels, lines = [], []
    for index, (name, total) in enumerate(zip(latent.layers, latent.weights, strict=True)):
        ends = [latent.counts[end, index] / total for end in (0, -1)]
        highest = max(float(found.max()) for found in ends) ** 0.5
        y = Axis(0.0, highest, ())
        panel = Panel(name, NARROW, y, width=170, height=120, left=10)
        for look, found in zip(("quietly", row.precision), ends, strict=True):
            points = [(c, share**0.5) for c, share in zip(CENTRES, found.tolist(), strict=True)]
            panel.draw(area(outline(points), panel.at, f"ridge {look}"))
        panels.append(panel.svg(f"latent weights of layer {name} of {row.key}, first and last"))
        for epoch, found in zip((latent.epochs[0], latent.epochs[-1]), ends, strict=True):
            lines.append({"layer": name, "epoch": epoch, **_shares(found)})
    return Figure(
        f"latent-layers-{row.key}",
        "The same, layer by layer",
        f"Grey: {named(latent.epochs[0])} CBP; colour: after epoch {latent.epochs[-1]}. Heights as "
        "above, each panel with its own."
        if latent.epochs[0] == 0
        else f"Grey: after epoch {latent.epochs[0]}, the first one recorded; colour: after epoch "
        f"{latent.epochs[-1]}. Heights as above, each panel with its own.",
        tuple(panels),
        csv_text(("layer", "epoch", *BINS_NAMED), lines),
        small=True,
    )
