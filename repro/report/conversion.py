"""Table of the conversion from ANN to spiking network."""

from collections.abc import Iterable, Mapping

from repro.cells import CELLS, Tier
from repro.report.tier_rows import comparable, difference, grouped, mark_notes, marks
from repro.report.wording import NOT_RUN, SCALE, STEPS, _mean, _time_steps, in_order, with_interval
from repro.results.row import Row
from repro.table import Table


def conversion_table(
    rows: Iterable[Row], tier: Tier, current_hashes: Mapping[str, str] | None = None
) -> Table:
    """Return what converting an ANN to a spiking network costs, after each step of calibration.

    Arguments as in `accuracy_table`.
    """
    groups = grouped(rows, tier)
    chosen = {
        cell: [row for row in groups.get((cell, "fp32"), []) if row.conversion]
        for cell in CELLS
        if cell.converted
    }
    taken = [step for group in chosen.values() for row in group for step in row.conversion or ()]
    steps = in_order(list(dict.fromkeys(["ann", "uncalibrated", "light", *taken])))
    header = (
        *("cell", "T", "n", *(f"{STEPS.get(step, step)} %" for step in steps)),
        "spiking minus ANN, points [95 %]",
    )
    lines = []
    for cell, group in chosen.items():
        if not group:
            lines.append((str(cell), str(cell.time_steps), "0", NOT_RUN, *[""] * len(steps)))
            continue
        found = f"{len(group)}{marks(group, groups, current_hashes)}"
        means = [_mean([(row.conversion or {}).get(step) for row in group]) for step in steps]
        twos = comparable(groups, cell, "ann", "fp32")
        loss = with_interval(difference(*zip(*twos, strict=True))) if twos else "ANN's row missing"
        lines.append((str(cell), _time_steps(cell, groups), found, *means, loss))
    notes = (
        f"Tier {tier}: {SCALE[tier]}. Accuracy on the test images, mean ± sample standard "
        "deviation over n seeds, of the ANN, of the spiking network without calibration, and after "
        "each further step of it. Nothing is trained on the way.",
        *mark_notes(lines, current_hashes),
    )
    return Table(f"Conversion, {tier} tier", header, tuple(lines), notes)
