"""The paper's claims tested, and what part of a gain longer training explains.

Every difference is taken image by image between rows of the same seed, and has a 95 % interval over
test images and seeds, see `repro.results.statistics.paired_difference`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from repro.cells import QUANTISED, Cell, Precision, Tier
from repro.report.tier_rows import TierRows, difference, right_images
from repro.report.wording import NAMES, NOT_RUN, moved, seeds_compared, with_interval
from repro.results.published import LOSS_BOUND, LOSS_PAIRS, RISE, RISE_CELL, RISE_MEMORY
from repro.results.row import Row
from repro.results.statistics import CONFIDENCE, ENOUGH, Difference, seeds_needed
from repro.table import Table

ONLY: Final[Mapping[Tier, str]] = {
    "paper": "",
    "paper_short": "shortened schedule only",
    "desk": "desk scale only",
    "smoke": "smoke scale only",
}
RISE_CLAIM: Final = f"rises (published: by {100 * RISE:.2f} points)"
NOT_COMPARED: Final = "run, but not compared with a parent"
UNFINISHED: Final = 0.005  # a control that gains more had a parent whose training had not ended


def claims_table(tier: TierRows) -> Table:
    """Return a verdict on each claim of the abstract that a quantised network can decide."""
    header = (
        *("cell", "precision", "claim", "n", "minus parent [95 %]"),
        *("McNemar p per seed", "verdict"),
    )
    claims = [(cell, precision, "loses less than 1 point") for cell, precision in LOSS_PAIRS]
    lines, verdicts = list[tuple[str, ...]](), loss_verdicts(tier)
    for cell, precision, claim in [*claims, (RISE_CELL, "binary", RISE_CLAIM)]:
        group, parents = tier.of(cell, precision), tier.of(cell, "fp32")
        name = NAMES[precision] + (tier.marks(group, parents) if group else "")
        twos = tier.comparable(cell, "fp32", precision)
        if not twos:
            lines.append((str(cell), name, claim, "0", "", "", _why_not(tier, group)))
            continue
        old, new = zip(*twos, strict=True)
        found = difference(old, new)
        if cell == RISE_CELL:  # whether it rises at all, and where the published size lies
            place = "above" if found.high < RISE else "below" if found.low > RISE else "inside"
            rises: str = found.verdict(0)
            verdict = f"rises: {rises}; size {100 * RISE:.2f}: {place} the interval"
            verdict += _still_needed(found, old, new, 0) if rises == "undecided" else ""
        else:
            verdict = verdicts[cell, precision]
            if verdict == "undecided":
                verdict += _unfinished(tier, cell) or _still_needed(found, old, new, LOSS_BOUND)
        verdict += _limits(tier)
        ps = ", ".join(f"{row.mcnemar_p:.2g}" for _, row in twos if row.mcnemar_p is not None)
        numbers = (seeds_compared(found.seeds, len(group)), with_interval(found), ps)
        lines.append((str(cell), name, claim, *numbers, verdict))
    notes = (
        f"{tier.scale} {_worst_case(tier)}",
        *_rise_in_words(tier),
        "A loss below 1 point is held if the whole 95 % interval of quantised minus parent lies "
        "above -1 point, not held if it lies below, else undecided; a rise likewise against 0, "
        "whatever caused it: see the control. Size: where the published rise lies. "
        "Differences are in points, percent of the test images. Below three seeds all is "
        "undecided; so is a loss where the training of the parent had not ended: the control of a "
        "network that was not converted gains more than 0.5 points. Not held takes Holm's "
        "correction for the ten pairs of the worst case.",
        "Interval: one seed Newcombe (1998, method 10); several seeds: test images and seeds as "
        "crossed random factors, Student's t with Satterthwaite's degrees of freedom, or where "
        "that is wider Student's t over the seeds' means.",
    )
    return tier.table("Claims of the paper", header, lines, notes)


def _why_not(tier: TierRows, group: Sequence[Row]) -> str:
    """Return why none of these rows can be compared with its parent."""
    pairs = [(parent, row) for row in group if (parent := tier.parent(row))]
    if not pairs:
        return "parent's row missing" if group else NOT_RUN
    images = [{(row.data_checksum, row.test_images) for row in both} for both in pairs]
    same = any(len(each) == 1 for each in images)
    return "the parent has changed since" if same else "other test images than the parent"


def claims_in_words(tier: TierRows) -> list[str]:
    """Return the verdicts in one sentence each; none where nothing quantised has run."""
    if not any(precision in QUANTISED for _, precision in tier.groups):
        return []
    return [_worst_case(tier), *_rise_in_words(tier)]


def loss_verdicts(tier: TierRows) -> dict[tuple[Cell, Precision], str]:
    """Return the verdict on a loss below 1 point for every pair of the worst case.

    ``not held`` takes Holm's step-down correction: with k pairs rejected so far, the next one needs
    an interval of confidence 1 - 0.05 / (10 - k) below the bound.
    """
    refuted = set[tuple[Cell, Precision]]()
    open_pairs = {pair: NOT_COMPARED if tier.of(*pair) else NOT_RUN for pair in LOSS_PAIRS}
    for cell, precision in LOSS_PAIRS:
        if found := tier.difference(cell, "fp32", precision):
            verdict = "undecided" if _unfinished(tier, cell) else found.verdict(LOSS_BOUND)
            open_pairs[cell, precision] = verdict
    against = [pair for pair, verdict in open_pairs.items() if verdict == "not held"]
    while True:
        confidence = 1 - (1 - CONFIDENCE) / max(1, len(LOSS_PAIRS) - len(refuted))
        widened = {pair: tier.difference(pair[0], "fp32", pair[1], confidence) for pair in against}
        more = {pair for pair, found in widened.items() if found and found.high < LOSS_BOUND}
        if more <= refuted:
            break
        refuted |= more
    return open_pairs | {pair: "undecided" for pair in against if pair not in refuted}


def _unfinished(tier: TierRows, cell: Cell) -> str:
    """Return that the training of a cell's parents had not ended, where the control shows it."""
    gain = None if cell.converted else tier.difference(cell, "fp32", "fp32_control")
    if gain is None or gain.mean <= UNFINISHED:
        return ""
    return f", the parent's training had not ended: its control gains {100 * gain.mean:.2f} points"


def _still_needed(
    found: Difference, before: Sequence[Row], after: Sequence[Row], bound: float
) -> str:
    """Return how many seeds would decide."""
    if found.seeds >= ENOUGH and found.high < bound:
        return ", not held but for Holm's correction"
    needed = seeds_needed(right_images(before), right_images(after), bound)
    decide = f"{needed} seeds would decide" if needed else "no 100 seeds would decide"
    return f", n {found.seeds}: {decide}"


def _limits(tier: TierRows) -> str:
    """Return a blank and what a verdict is limited to, in brackets, or nothing."""
    return f" ({ONLY[tier.tier]})" if ONLY[tier.tier] else ""


def _worst_case(tier: TierRows) -> str:
    """Return the verdict on the worst case: not held if one is not, held if all are."""
    verdicts = [*loss_verdicts(tier).values()]
    names = ["held", "not held", "undecided", NOT_RUN]
    names += [NOT_COMPARED] * (NOT_COMPARED in verdicts)
    counts = {name: verdicts.count(name) for name in names}
    whole = "undecided"
    if counts["not held"] or counts["held"] == len(verdicts):
        whole = "not held" if counts["not held"] else "held"
    each = ", ".join(f"{count} {name}" for name, count in counts.items())
    found = [tier.difference(cell, "fp32", precision) for cell, precision in LOSS_PAIRS]
    few = sum(each.seeds < ENOUGH for each in found if each)
    alone = (
        f" {few} of those run have fewer than {ENOUGH} seeds, too few for a verdict." if few else ""
    )
    return (
        "The paper's claim of a worst-case loss below 1 point on CIFAR-10, DVS128 Gesture and "
        f"CIFAR10-DVS is {whole}{_limits(tier)}. Of its {len(verdicts)} pairs of cell and "
        f"precision: {each}.{alone}"
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
    control = "no FP32 control of its recipe has run, so whether CBP made the difference is unknown"
    if parts.training and parts.cbp:
        cbp = moved(parts.cbp, "adds {}", "costs {}", "changes nothing")
        differ = " (at other epochs of the learning-rate drop)" * parts.drops_differ
        control = f"the FP32 control {moved(parts.training, *words)}; CBP itself {cbp}{differ}"
    return [
        f"The paper reports a rise of {100 * RISE:.2f} points at {100 * RISE_MEMORY:.1f} % of the "
        f"weight memory on {RISE_CELL}. Ours{_limits(tier)}, at {100 * share:.2f} %, "
        f"{moved(parts.whole, *words)}. The conversion had left the parent {abs(cost):.2f} points "
        f"{side} its ANN; {control} (n {parts.n})."
    ]
