"""The headline as a curve: the gain of CBP over its parent against the parent's own accuracy.

The parents are spiking networks of one ANN, converted in several ways. Where a parent is weak,
training of any kind gains much; the control says how much.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from repro.cells import Tier
from repro.errors import UserError
from repro.recipes.fields import Pipeline
from repro.report.page.figure import Figure
from repro.report.page.memory_panels import SHAPES, look_of
from repro.report.page.panel import Panel, linear
from repro.report.parts import Parts
from repro.report.tier_rows import TierRows, meanings
from repro.report.wording import STEP_NAMES, mean_percent, plural, with_interval
from repro.results.row import Row
from repro.results.rows import read_ablation
from repro.table import Table, csv_text

TITLE: Final = "Gain of CBP over its parent, by the parent's accuracy"
STUDY: Final = "headline"  # name of the ablation in the sweep files 58 to 62
TIER: Final[Tier] = "desk"
PIPELINES: Final[Mapping[Pipeline, str]] = {
    "none": STEP_NAMES["uncalibrated"],
    **{name: STEP_NAMES[name] for name in ("light", "potential", "weights", "qcfs")},
}
SHOWN: Final = {"binary": "CBP, binary", "fp32_control": "control, FP32"}


def read_headline(rows: Path) -> dict[str, TierRows]:
    """Return the rows of each kind of parent from which CBP started, by the kind's name.

    Args:
        rows: Folder of rows; those of the study lie in a folder of each recipe below it.
    """
    found = read_ablation(rows / STUDY)
    anns = [row for row in found if row.precision == "ann"]
    of_parents = defaultdict[str, list[Row]](lambda: [*anns])
    for row in found:
        if "conversion" in row.recipe:
            of_parents[_parent(row.recipe)].append(row)
    tiers = {name: TierRows(group, TIER) for name, group in of_parents.items()}
    return {name: tier for name, tier in tiers.items() if tier.parts}


def _parent(recipe: Mapping[str, Any]) -> str:
    """Return the name of a kind of parent.

    >>> _parent({"time_steps": 4, "conversion": {"pipeline": "qcfs", "qcfs_levels": 1}})
    'QCFS, 1 level'
    >>> _parent({"time_steps": 4, "conversion": {"pipeline": "qcfs"}})
    'QCFS, 4 levels'
    """
    pipeline = recipe["conversion"]["pipeline"]
    if pipeline not in PIPELINES:
        raise UserError(f"a row of the headline has pipeline {pipeline!r}: one of {[*PIPELINES]}")
    if pipeline != "qcfs":
        return PIPELINES[pipeline]
    levels = recipe["conversion"].get("qcfs_levels") or recipe["time_steps"]
    return f"{PIPELINES[pipeline]}, {plural(levels, 'level')}"


def curve(tiers: Mapping[str, TierRows]) -> list[tuple[str, float, Parts]]:
    """Return a kind of parent, their mean accuracy in percent, and what CBP does, by accuracy."""
    found = []
    for name, tier in tiers.items():
        for parts in tier.parts.values():
            parents = [r for r in tier.of(parts.cell, "fp32") if r.seed in parts.seeds]
            accuracy = 100 * sum(row.accuracy_selected for row in parents) / len(parents)
            found.append((name, accuracy, parts))
    return sorted(found, key=lambda point: point[1])


def zero(points: Sequence[tuple[float, float]]) -> float | None:
    """Return where a line through points first crosses 0 downwards, None where it does not.

    >>> zero([(10.0, 4.0), (20.0, 2.0), (30.0, -2.0)])
    25.0
    """
    for (x, y), (next_x, next_y) in pairwise(points):
        if y > 0 >= next_y:
            return x + (next_x - x) * y / (y - next_y)
    return None


def headline_in_words(points: Sequence[tuple[str, float, Parts]]) -> str:
    """Return one sentence: at which accuracy of the parent the gain is zero."""
    if len(points) < 2:
        return "Two parents or more would tell where the gain is zero."
    gains = [(accuracy, 100 * parts.whole.mean) for _, accuracy, parts in points]
    signs = [gain > 0 for _, gain in gains]
    if len({*signs}) == 1:
        return (
            f"The gain of binary weights over the parent is {'above' if signs[0] else 'below'} "
            f"zero for all parents, from {gains[0][0]:.1f} to {gains[-1][0]:.1f} %."
        )
    if signs != sorted(signs, reverse=True):
        return "The gain of binary weights does not fall steadily with the parent's accuracy."
    crossing, last = zero(gains), signs.count(True) - 1
    seeds = min(len(parts.seeds) for _, _, parts in points[last : last + 2])
    unsure = [name for name, _, parts in points if parts.whole.low <= 0 <= parts.whole.high]
    return (
        f"The gain of binary weights over the parent is zero at a parent's accuracy of about "
        f"{crossing:.1f} % (line between the means of two parents, at least "
        f"{plural(seeds, 'seed')} each; "
        + (f"intervals that hold 0: {', '.join(unsure)})." if unsure else "no interval holds 0).")
    )


def headline_table(tiers: Mapping[str, TierRows]) -> Table:
    """Return gain against the parent's accuracy, a line a parent."""
    points = curve(tiers)
    lines = []
    for name, _, parts in points:
        group = [r for r in tiers[name].of(parts.cell, "fp32") if r.seed in parts.seeds]
        marks = tiers[name].marks(group, tiers[name].of(parts.cell, parts.precision))
        lines.append(
            (
                name,
                parts.precision,
                f"{len(parts.seeds)}{marks}",
                mean_percent([row.accuracy_selected for row in group]),
                *(
                    with_interval(found) if found else "n/a"
                    for found in (parts.training, parts.whole, parts.cbp)
                ),
            )
        )
    header = (
        *("conversion", "weights", "n", "parent %"),
        *("control minus parent, points [95 %]", "CBP minus parent, points [95 %]"),
        "CBP minus control, points [95 %]",
    )
    notes = (
        headline_in_words(points),
        "Parents are converted from one ANN of each seed; QCFS first trains that ANN on. The "
        "control trains on with FP32 weights for the epochs of CBP: what it gains is training, "
        "what differs from it is CBP.",
        "Interval: of one seed it covers the choice of test images alone, of several the seeds "
        "too, and is then wider.",
        *meanings(line[2] for line in lines),
    )
    return Table(TITLE, header, tuple(lines), notes)


def headline_figure(tiers: Mapping[str, TierRows]) -> Figure:
    """Return gain against the parent's accuracy: CBP, and the control beside it."""
    points = curve(tiers)
    drawn = [
        (name, accuracy, look, found)
        for name, accuracy, parts in points
        for look, found in (("binary", parts.whole), ("fp32_control", parts.training))
        if found is not None
    ]
    values = [100 * found.mean for *_, found in drawn]
    panel = Panel(
        "gain over the parent, points",
        linear([accuracy for _, accuracy, *_ in drawn]),
        linear(values, from_zero=True),
        width=520,
        height=300,
        x_title="accuracy of the parent, %",
    )
    for look, words in SHOWN.items():
        mine = [(accuracy, 100 * found.mean) for _, accuracy, of, found in drawn if of == look]
        panel.line(mine, look, words)
        panel.key(look, words)
    for name, accuracy, look, found in drawn:
        low, high = (100 * end for end in (found.low, found.high))
        panel.error(accuracy, low, high, look)
        words = f"{name}, {SHOWN[look]}: {100 * found.mean:+.2f} [{low:.2f}, {high:.2f}]"
        panel.dot((accuracy, 100 * found.mean), look_of(look), words, SHAPES[look])
    lines = [
        {"conversion": name, "parent": f"{a:.2f}", "of": look, "gain": f"{100 * found.mean:.2f}"}
        for name, a, look, found in drawn
    ]
    return Figure(
        STUDY,
        "The curve",
        "Accuracy after CBP minus the parent's, against the parent's own accuracy; bars are 95 % "
        f"intervals. {headline_in_words(points)}",
        (panel.svg(f"gain over the parent at {len(points)} parents"),),
        csv_text(("conversion", "parent", "of", "gain"), lines),
    )
