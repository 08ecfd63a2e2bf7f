"""Firing rates per layer before quantisation and after it."""

import re
from typing import Final

from repro.report.page.figure import Figure
from repro.report.page.panel import Axis, Panel, linear
from repro.report.wording import NAMES
from repro.results.row import Row
from repro.run.evaluation import IMAGES
from repro.table import csv_text

WIDTH: Final = 400
UNRECORDED: Final = "not recorded: the code that made this row measured no firing rates"


def firing_figure(row: Row, parent: Row | None) -> Figure:
    """Return the firing rates of a run beside those of its FP32 parent."""
    name, title = f"firing-{row.key}", "Firing rates per layer"
    if row.precision == "ann":
        return Figure(name, title, missing=("n/a: an ANN has no spikes",))
    if row.firing_rates is None:
        return Figure(name, title, missing=(UNRECORDED,))
    before = {} if parent is None or row.key.is_conversion else parent.firing_rates or {}
    missing: tuple[str, ...] = ()
    if not before and row.key.has_cbp_phase:
        missing = (f"Its parent {row.parent}: {UNRECORDED if parent else 'no row here'}.",)
    layers = sorted(row.firing_rates, key=by_words_and_numbers)
    columns = [("parent", before), ("run", row.firing_rates)]
    lines = [
        {"layer": layer} | {f"spikes_per_neuron_and_step_{who}": r.get(layer) for who, r in columns}
        for layer in layers
    ]
    below = f"of its parent {row.parent} (ring) and " if before else ""
    return Figure(
        name,
        title,
        f"Spikes per neuron and time step {below}of this run (filled), in percent, by the layer in "
        f"front of the neurons; means over the first {min(IMAGES, row.test_images)} test images, "
        "each saved file in a fresh network.",
        (_dumbbells(row, before, layers),),
        csv_text(list(lines[0]), lines),
        missing,
    )


def by_words_and_numbers(name: str) -> list[tuple[int, str]]:
    """Return what sorts layers as our networks have them: by name, numbers by value.

    >>> sorted(["fc1", "conv10", "conv2"], key=by_words_and_numbers)
    ['conv2', 'conv10', 'fc1']
    """
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def _dumbbells(row: Row, before: dict[str, float], layers: list[str]) -> str:
    """Return the panel: a line per layer, both rates joined."""
    after = row.firing_rates or {}
    rates = [100 * rate for rate in (*after.values(), *before.values())]
    rows = Axis(0.0, float(len(layers)), ())
    left = int(24 + 6 * max(map(len, layers)))
    height = 66 + 20 * len(layers)
    x = linear([*rates, 1e-3], from_zero=True)
    panel = Panel("", x, rows, WIDTH, height, "spikes per neuron and time step, %", left)
    for index, layer in enumerate(layers):
        y = len(layers) - index - 0.5
        now = (100 * after[layer], y)
        if layer in before:
            then = (100 * before[layer], y)
            panel.line([then, now], "join")
            panel.dot(then, "fp32 hollow", f"{layer}, parent: {then[0]:.3g} %")
        panel.dot(now, f"{row.precision} filled", f"{layer}, this run: {now[0]:.3g} %")
        panel.name(y, layer)
    if before:
        panel.key("fp32", "parent")
    panel.key(row.precision, NAMES[row.precision])
    said = "; ".join(f"{layer} {100 * after[layer]:.3g} %" for layer in layers)
    return panel.svg(f"firing rates of {row.key}: {said}")
