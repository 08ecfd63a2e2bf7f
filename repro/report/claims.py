"""The paper's claims tested, and what part of a gain longer training explains.

Every difference is taken image by image between rows of the same seed, and has a 95 % interval over
test images and seeds, see `repro.results.statistics.paired_difference`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from repro.cells import QUANTISED, Tier
from repro.report.tier_rows import TierRows, difference
from repro.report.wording import NAMES, NOT_RUN, moved, seeds_compared, with_interval
from repro.results.published import LOSS_BOUND, LOSS_PAIRS, RISE, RISE_CELL, RISE_MEMORY
from repro.results.row import Row
from repro.table import Table

ONLY: Final[Mapping[Tier, str]] = {
    "paper": "",
    "paper_short": "shortened schedule only",
    "desk": "desk scale only",
    "smoke": "smoke scale only",
}
RISE_CLAIM: Final = f"rises (published: by {100 * RISE:.2f} points)"
ONE_SEED: Final = "one seed: test images only"  # its interval says nothing about other seeds


def claims_table(tier: TierRows) -> Table:
    """Return a verdict on each claim of the abstract that a quantised network can decide."""
    header = (
        *("cell", "precision", "claim", "n", "minus parent [95 %]"),
        *("McNemar p per seed", "verdict"),
    )
    claims = [(cell, precision, "loses less than 1 point") for cell, precision in LOSS_PAIRS]
    lines = []
    for cell, precision, claim in [*claims, (RISE_CELL, "binary", RISE_CLAIM)]:
        group, parents = tier.of(cell, precision), tier.of(cell, "fp32")
        name = NAMES[precision] + (tier.marks(group, parents) if group else "")
        twos = tier.comparable(cell, "fp32", precision)
        if not twos:
            lines.append((str(cell), name, claim, "0", "", "", _why_not(group, parents)))
            continue
        found = difference(*zip(*twos, strict=True))
        verdict: str = found.verdict(LOSS_BOUND)
        if cell == RISE_CELL:  # whether it rises at all, and where the published size lies
            place = "above" if found.high < RISE else "below" if found.low > RISE else "inside"
            verdict = f"rises: {found.verdict(0)}; size {100 * RISE:.2f}: {place} the interval"
        verdict += _limits(tier, found.seeds)
        ps = ", ".join(f"{row.mcnemar_p:.2g}" for _, row in twos if row.mcnemar_p is not None)
        numbers = (seeds_compared(found.seeds, len(group)), with_interval(found), ps)
        lines.append((str(cell), name, claim, *numbers, verdict))
    notes = (
        f"{tier.scale} {_worst_case(tier)}",
        *_rise_in_words(tier),
        "A loss below 1 point is held if the whole 95 % interval of quantised minus parent lies "
        "above -1 point, not held if it lies below, else undecided; a rise likewise against 0, "
        "whatever caused it: see the control. Size: where the published rise lies. "
        "Differences are in points, percent of the test images. No correction is made for the "
        "number of cells.",
        "Interval: one seed Newcombe (1998, method 10); several seeds: test images and seeds as "
        "crossed random factors, Student's t with Satterthwaite's degrees of freedom, or where "
        "that is wider Student's t over the seeds' means.",
    )
    return tier.table("Claims of the paper", header, lines, notes)


def claims_in_words(tier: TierRows) -> list[str]:
    """Return the verdicts in one sentence each; none where nothing quantised has run."""
    if not any(precision in QUANTISED for _, precision in tier.groups):
        return []
    return [_worst_case(tier), *_rise_in_words(tier)]


def _why_not(group: Sequence[Row], parents: Sequence[Row]) -> str:
    """Return why these rows were not compared with those of their parents."""
    if not group:
        return NOT_RUN
    both = {row.seed for row in group} & {row.seed for row in parents}
    return "other test images than the parent" if both else "parent's row missing"


def _limits(tier: TierRows, seeds: int | None = None) -> str:
    """Return a blank and what a verdict is limited to, in brackets, or nothing."""
    limits = [ONE_SEED * (seeds == 1), ONLY[tier.tier]]
    return f" ({'; '.join(filter(None, limits))})" if any(limits) else ""


def _worst_case(tier: TierRows) -> str:
    """Return the verdict on the worst case: not held if one is not, held if all are."""
    found = [tier.difference(cell, "fp32", precision) for cell, precision in LOSS_PAIRS]
    verdicts = [each.verdict(LOSS_BOUND) if each else NOT_RUN for each in found]
    counts = {name: verdicts.count(name) for name in ("held", "not held", "undecided", NOT_RUN)}
    whole = "undecided"
    if counts["not held"] or counts["held"] == len(verdicts):
        whole = "not held" if counts["not held"] else "held"
    each = ", ".join(f"{count} {name}" for name, count in counts.items())
    single = sum(each.seeds == 1 for each in found if each)
    alone = f"; of those run, {single} on one seed, so on its test images only" if single else ""
    return (
        "The paper's claim of a worst-case loss below 1 point on CIFAR-10, DVS128 Gesture and "
        f"CIFAR10-DVS is {whole}{_limits(tier)}; its {len(verdicts)} pairs of cell and precision: "
        f"{each}{alone}."
    )


def _rise_in_words(tier: TierRows) -> list[str]:
    """Return the third claim in a sentence, all numbers of the same seeds; none if it has not run.

    It says what the conversion had cost the parent and what is left against the control: a rise
    above a bad parent is not yet one by CBP.
    """
    if (parts := tier.parts.get((RISE_CELL, "binary"))) is None:
        return []
    group, parents = (
        [row for row in tier.of(RISE_CELL, precision) if row.seed in parts.seeds]
        for precision in ("binary", "fp32")
    )
    share = sum(row.weights_only_bytes / row.fp32_bytes for row in group) / len(group)
    lost = [row.conversion["ann"] - row.accuracy_selected for row in parents if row.conversion]
    cost = 100 * sum(lost) / len(lost)
    side = "below" if cost >= 0 else "above"
    words = ("rises by {}", "falls by {}", "stays level")
    control = "its FP32 control has not run, so whether CBP made the difference is unknown"
    if parts.training and parts.cbp:
        cbp = moved(parts.cbp, "adds {}", "costs {}", "changes nothing")
        differ = " (at other epochs of the learning-rate drop)" * parts.drops_differ
        control = f"the FP32 control {moved(parts.training, *words)}; CBP itself {cbp}{differ}"
    return [
        f"The paper's rise of {100 * RISE:.2f} points at {100 * RISE_MEMORY:.1f} % of the weight "
        f"memory on {RISE_CELL}: ours{_limits(tier)}, at {100 * share:.2f} % and against a parent "
        f"that the conversion left {abs(cost):.2f} points {side} its ANN, "
        f"{moved(parts.whole, *words)}; {control} (n {parts.n})."
    ]
