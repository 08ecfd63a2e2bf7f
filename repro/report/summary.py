"""A tier in a few sentences."""

from collections.abc import Iterable
from typing import Final

from repro.cells import CELLS, QUANTISED, Tier
from repro.report.claims import claims_in_words
from repro.report.control import control_in_words
from repro.report.tier_rows import Groups, grouped
from repro.report.wording import NAMES, SCALE, plural, signed_points
from repro.results.row import Row
from repro.results.statistics import spread

WITHOUT_RUNS: Final = "Its table shows the published numbers only."


def summary_in_words(rows: Iterable[Row], tier: Tier) -> str:
    """Return a few sentences about what the runs of a tier show."""
    return " ".join(summary_sentences(rows, tier))


def summary_sentences(rows: Iterable[Row], tier: Tier) -> list[str]:
    """Return the parts of `summary_in_words`, a statement each."""
    groups = grouped(rows, tier)
    chosen = [row for group in groups.values() for row in group]
    if not chosen:
        return [f"No run of the {tier} tier exists yet.", WITHOUT_RUNS]
    cells = len({cell for cell, _ in groups})
    runs = plural(len(chosen), "run")
    said = [f"{runs} of the {tier} tier ({SCALE[tier]}): {cells} of {len(CELLS)} cells."]
    said += _lowest_in_words(groups) + control_in_words(groups) + claims_in_words(groups, tier)
    ends = [row.cfs_last for row in chosen if row.cfs_last is not None]
    if ends:
        said.append(f"The constraint failure score ends at {max(ends):.2g} or less.")
    gaps = [abs(100 * (row.accuracy_file - row.accuracy_selected)) for row in chosen]
    differing = sum(gap > 1e-6 for gap in gaps)
    said.append(
        f"The accuracy of {differing} of {plural(len(gaps), 'saved file')} is not that of the run, "
        f"by up to {max(gaps):.2f} points."
        if differing
        else "Every saved file, loaded into a fresh network, has the accuracy of its run."
    )
    return said


def _lowest_in_words(groups: Groups) -> list[str]:
    """Return one sentence about the quantised network that loses most, or none."""
    losses = []
    for (cell, precision), group in groups.items():
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
