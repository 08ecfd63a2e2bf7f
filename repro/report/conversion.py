"""Table of the conversion from ANN to spiking network."""

from repro.report.tier_rows import TierRows
from repro.report.wording import NOT_RUN, STEP_NAMES, mean_percent, steps_in_order, with_interval
from repro.table import Table


def conversion_table(tier: TierRows) -> Table:
    """Return what converting an ANN to a spiking network costs, after each step of calibration."""
    chosen = {cell: tier.of(cell, "fp32") for cell in tier.cells if cell.converted}
    taken = [step for group in chosen.values() for row in group for step in row.conversion or ()]
    steps = steps_in_order({"ann", "uncalibrated", "light", *taken})
    header = (
        *("cell", "T", "n", *(f"{STEP_NAMES[step]} %" for step in steps)),
        "spiking minus ANN, points [95 %]",
    )
    lines = []
    for cell, group in chosen.items():
        if not group:
            lines.append((str(cell), str(cell.time_steps), "0", NOT_RUN, *[""] * len(steps)))
            continue
        n = f"{len(group)}{tier.marks(group)}"
        means = [
            mean_percent([(row.conversion or {}).get(step) for row in group]) for step in steps
        ]
        found = tier.difference(cell, "ann", "fp32")
        loss = with_interval(found) if found else "ANN's row missing"
        lines.append((str(cell), tier.time_steps(cell), n, *means, loss))
    notes = (
        f"{tier.scale} Accuracy on the test images, mean ± sample standard "
        "deviation over n seeds, of the ANN, of the spiking network without calibration, and after "
        "each further step of it. Nothing is trained on the way.",
    )
    return tier.table("Conversion", header, lines, notes)
