"""A tier in a few sentences."""

from typing import Final

from repro.cells import QUANTISED
from repro.report.claims import claims_in_words
from repro.report.control import control_in_words
from repro.report.tier_rows import TierRows
from repro.report.wording import NAMES, SCALE, plural, signed_points
from repro.results.statistics import spread

WITHOUT_RUNS: Final = "Its table shows the published numbers only."


def summary(tier: TierRows) -> list[str]:
    """Return a few sentences about what the runs of a tier show, a statement each."""
    rows, name = tier.rows, tier.tier
    if not rows:
        return [f"No run of the {name} tier exists yet.", WITHOUT_RUNS]
    cells = len({cell for cell, _ in tier.groups})
    runs = plural(len(rows), "run")
    said = [f"{runs} of the {name} tier ({SCALE[name]}): {cells} of {len(tier.cells)} cells."]
    said += _lowest_in_words(tier) + control_in_words(tier) + claims_in_words(tier)
    ends = [row.cfs_last for row in rows if row.cfs_last is not None]
    if ends:
        said.append(f"The constraint failure score ends at {max(ends):.2g} or less.")
    gaps = [abs(100 * (row.accuracy_file - row.accuracy_selected)) for row in rows]
    differing = sum(gap > 1e-6 for gap in gaps)
    said.append(
        f"The accuracy of {differing} of {plural(len(gaps), 'saved file')} is not that of the run, "
        f"by up to {max(gaps):.2f} points."
        if differing
        else "Every saved file, loaded into a fresh network, has the accuracy of its run."
    )
    return said


def _lowest_in_words(tier: TierRows) -> list[str]:
    """Return one sentence about the quantised network that loses most, or none."""
    losses = []
    for (cell, precision), group in tier.groups.items():
        points = [
            100 * row.difference_from_parent
            for row in group
            if row.difference_from_parent is not None and precision in QUANTISED
        ]
        if points:
            losses.append((spread(points).mean, f"{NAMES[precision]} {cell}", len(points)))
    if not losses:
        return []
    lowest, name, n = min(losses)
    of = f"Of {len(losses)} quantised means (cell and precision) the lowest against its FP32 parent"
    start = of if len(losses) > 1 else "The one quantised mean against its FP32 parent"
    return [f"{start} is {name} with {signed_points(lowest)} points (n {n})."]
