"""The paper's claims tested, and what part of a gain longer training explains.

Every difference is taken image by image between rows of the same seed, and has a 95 % interval over
test images and seeds, see `repro.statistics.paired_difference`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from repro.cells import CELLS, QUANTISED, Cell, Precision, Tier, find_cell
from repro.groups import MARKS, Groups, grouped, joint_marks
from repro.rows import Row, unpack_correct
from repro.statistics import Difference, paired_difference
from repro.text_table import Table
from repro.words import NAMES, NOT_RUN, SCALE, moved, scope, with_interval

Hashes = Mapping[str, str] | None

# Abstract of the paper, grade P.
LOSS_BOUND: Final = -0.01  # worst-case loss below 1 % on these data sets
LOSS_DATASETS: Final = ("cifar10", "dvs128_gesture", "cifar10_dvs")
RISE: Final = 0.0372  # rise of RISE_CELL, binary, at RISE_MEMORY of the FP32 weights
RISE_CELL: Final = find_cell("snn_calibration", "cifar100")
RISE_MEMORY: Final = 0.035
LOSS_PAIRS: Final[tuple[tuple[Cell, Precision], ...]] = tuple(
    (cell, precision) for cell in CELLS if cell.dataset in LOSS_DATASETS for precision in QUANTISED
)
ONLY: Final[Mapping[Tier, str]] = {
    "paper": "",
    "paper_short": "shortened schedule only",
    "desk": "desk scale only",
    "smoke": "smoke scale only",
}
ONE_SEED: Final = "one seed: test images only"  # its interval says nothing about other seeds
CONTROL: Final = (
    "The FP32 control trains the FP32 parent on with FP32 weights: same epochs, learning rate, "
    "loss, clip and rule of the learning-rate drop as CBP."
)


@dataclass(frozen=True)
class Parts:
    """How a quantised network differs from its parent, and which part its control has too.

    Attributes:
        cell: Its cell.
        precision: ``binary`` or ``ternary``.
        whole: Quantised minus parent.
        training: Control minus parent, what longer training does; None without a control.
        cbp: Quantised minus control, what CBP does; None without a control.
        seeds: The seeds of all three.
        rows: Rows of this cell and precision, also of seeds that could not be compared.
        drops_differ: Whether the learning rate fell at another epoch than in the control.
    """

    cell: Cell
    precision: Precision
    whole: Difference
    training: Difference | None
    cbp: Difference | None
    seeds: tuple[int, ...]
    rows: int
    drops_differ: bool

    @property
    def mark(self) -> str:
        """Return a blank and the mark of quantised minus control, or nothing, see `MARKS`."""
        return " △" * self.drops_differ

    @property
    def n(self) -> str:
        """Return the number of seeds that were compared, and of how many where some are missing."""
        return _of(len(self.seeds), self.rows)

    def in_words(self) -> str:
        """Return one sentence."""
        name = NAMES[self.precision]
        whole = moved(
            self.whole, "is {} above its parent", "is {} below its parent", "equals its parent"
        )
        said = f"{self.cell}: {name} {whole}"
        if self.training is None or self.cbp is None:
            return (
                f"{said} (n {self.n}); no FP32 control of the same seeds has run, so "
                "which part of that longer training explains is unknown."
            )
        training = moved(self.training, "gains {}", "loses {}", "neither gains nor loses")
        cbp = moved(self.cbp, "adds {}", "costs {}", "changes nothing")
        return (
            f"{said}; the control, trained as long with FP32 weights, {training}; CBP "
            f"itself {cbp}{self.mark} (n {self.n})."
        )


def comparable(groups: Groups, cell: Cell, *precisions: Precision) -> list[tuple[Row, ...]]:
    """Return the rows of each seed that has all these precisions, on one set of test images.

    Args:
        groups: Rows of one tier.
        cell: Their cell.
        precisions: One row of each, in this order.
    """
    by_seed = [{row.seed: row for row in groups.get((cell, name), [])} for name in precisions]
    seeds = sorted(set.intersection(*map(set, by_seed)))
    found = [tuple(rows[seed] for rows in by_seed) for seed in seeds]
    images = [{(row.data_checksum, row.test_images) for row in rows} for rows in found]
    one = next((each for each in images if len(each) == 1), None)
    return [rows for rows, each in zip(found, images, strict=True) if each == one]


def difference(before: Sequence[Row], after: Sequence[Row]) -> Difference:
    """Return the accuracy of the files of ``after`` minus those of ``before``, seed by seed."""
    old, new = (
        np.stack([unpack_correct(row.correct, row.test_images) for row in rows])
        for rows in (before, after)
    )
    return paired_difference(old, new)


def all_parts(groups: Groups) -> list[Parts]:
    """Return every quantised network that has a parent; the seeds are those of the control, too."""
    found = []
    for (cell, precision), group in groups.items():
        if precision not in QUANTISED:
            continue
        rows = len(group)
        if threes := comparable(groups, cell, "fp32", "fp32_control", precision):
            parents, controls, quantised = zip(*threes, strict=True)
            training = difference(parents, controls)
            cbp, whole = difference(controls, quantised), difference(parents, quantised)
            differ = any(one.epoch_lr_drop != other.epoch_lr_drop for _, one, other in threes)
            parts = (whole, training, cbp, tuple(row.seed for row in parents))
            found.append(Parts(cell, precision, *parts, rows, drops_differ=differ))
        elif twos := comparable(groups, cell, "fp32", precision):
            parents, quantised = zip(*twos, strict=True)
            whole, seeds = difference(parents, quantised), tuple(row.seed for row in parents)
            found.append(Parts(cell, precision, whole, None, None, seeds, rows, drops_differ=False))
    return found


def control_table(
    rows: Iterable[Row],
    tier: Tier,
    current_hashes: Hashes = None,
    cells: Sequence[Cell] = CELLS,
) -> Table:
    """Return quantised minus parent as the sum of what longer training and what CBP does.

    Arguments as in `repro.tables.accuracy_table`.
    """
    groups = grouped(rows, tier, cells)
    header = (
        *("cell", "precision", "n", "quantised minus parent"),
        *("= control minus parent: longer training", "+ quantised minus control: CBP"),
    )
    lines: list[tuple[str, ...]] = []
    for parts in all_parts(groups):
        name = (parts.cell, parts.precision)
        above = (groups.get((parts.cell, each), []) for each in ("fp32", "fp32_control"))
        found = joint_marks([groups[name], *above], groups, current_hashes)
        training, cbp = (
            with_interval(part) if part else "control not run"
            for part in (parts.training, parts.cbp)
        )
        head = (str(parts.cell), NAMES[parts.precision] + found, parts.n)
        lines.append((*head, with_interval(parts.whole), training, cbp + parts.mark))
    notes = (
        f"Tier {tier}: {SCALE[tier]}. Percentage points with 95 % intervals, on the same test "
        "images and seeds, so that the two parts add up.",
        f"{CONTROL} What it gains, CBP cannot claim.",
        *mark_notes(lines, current_hashes),
    )
    if not lines:
        lines.append((NOT_RUN, *[""] * (len(header) - 1)))
    title = f"What longer training does and what CBP does, {scope(tier, cells)}"
    return Table(title, header, tuple(lines), notes)


def claims_table(rows: Iterable[Row], tier: Tier, current_hashes: Hashes = None) -> Table:
    """Return a verdict on each claim of the abstract that a quantised network can decide.

    Arguments as in `repro.tables.accuracy_table`.
    """
    groups = grouped(rows, tier)
    header = (
        *("cell", "precision", "claim", "n", "minus parent [95 %]"),
        *("McNemar p per seed", "verdict"),
    )
    claims = [(cell, precision, "loses less than 1 point") for cell, precision in LOSS_PAIRS]
    lines = []
    for cell, precision, claim in [*claims, (RISE_CELL, "binary", _rise_claim())]:
        group, parents = groups.get((cell, precision), []), groups.get((cell, "fp32"), [])
        name = NAMES[precision]
        name += joint_marks([group, parents] if group else [], groups, current_hashes)
        twos = comparable(groups, cell, "fp32", precision)
        if not twos:
            lines.append((str(cell), name, claim, "0", "", "", _why_not(group, parents)))
            continue
        found = difference(*zip(*twos, strict=True))
        verdict = _rise_verdict(found) if cell == RISE_CELL else found.verdict(LOSS_BOUND)
        verdict += _limits(tier, found.seeds)
        ps = ", ".join(f"{row.mcnemar_p:.2g}" for _, row in twos if row.mcnemar_p is not None)
        numbers = (_of(found.seeds, len(group)), with_interval(found), ps)
        lines.append((str(cell), name, claim, *numbers, verdict))
    notes = (
        f"Tier {tier}: {SCALE[tier]}. {_worst_case(groups, tier)}",
        *_rise_in_words(groups, tier),
        "A loss below 1 point is held if the whole 95 % interval of quantised minus parent lies "
        "above -1 point, not held if it lies below, else undecided; a rise likewise against 0, "
        "whatever caused it: see the control. Size: where the published rise lies. "
        "Differences are in points, percent of the test images. No correction is made for the "
        "number of cells.",
        "Interval: one seed Newcombe (1998, method 10); several seeds: test images and seeds as "
        "crossed random factors, Student's t with Satterthwaite's degrees of freedom, or where "
        "that is wider Student's t over the seeds' means.",
        *mark_notes(lines, current_hashes),
    )
    return Table(f"Claims of the paper, {tier} tier", header, tuple(lines), notes)


def claims_in_words(groups: Groups, tier: Tier) -> list[str]:
    """Return the verdicts in one sentence each; none where nothing quantised has run."""
    if not any(precision in QUANTISED for _, precision in groups):
        return []
    return [_worst_case(groups, tier), *_rise_in_words(groups, tier)]


def control_in_words(groups: Groups) -> list[str]:
    """Return one sentence about what is left to CBP once longer training is taken out, or none."""
    parts = all_parts(groups)
    found = sorted(
        (part.cbp.mean, f"{with_interval(part.cbp)} points ({_named(part)})")
        for part in parts
        if part.cbp
    )
    if not parts:
        return []
    if not found:
        return [
            "No FP32 control has run with them, so which part of these differences longer training "
            "explains is unknown."
        ]
    said = "by " + " to ".join(dict.fromkeys(words for _, words in (found[0], found[-1])))
    missing = len(parts) - len(found)
    rest = f"; without a control: {missing} of {len(parts)}" if missing else ""
    if differ := sum(part.drops_differ for part in parts):
        rest += f"; in {differ} of them the learning rate fell at another epoch than in the control"
    return [
        "Against FP32 controls, which trained on for as long, CBP itself moves the accuracy "
        f"{said}{rest}."
    ]


def mark_notes(lines: Iterable[Sequence[str]], current_hashes: Hashes) -> list[str]:
    """Return what the marks in the lines mean, and whether staleness was looked at."""
    text = "".join(cell for line in lines for cell in line)
    notes = [f"{mark} {meaning}." for mark, meaning in MARKS.items() if mark in text]
    if current_hashes is None:
        notes.append("Whether recipes have changed since was not checked.")
    return notes


def _against_parent(groups: Groups, cell: Cell, precision: Precision) -> Difference | None:
    """Return quantised minus parent over all seeds that have both, or None."""
    twos = comparable(groups, cell, "fp32", precision)
    return difference(*zip(*twos, strict=True)) if twos else None


def _why_not(group: Sequence[Row], parents: Sequence[Row]) -> str:
    """Return why these rows were not compared with those of their parents."""
    if not group:
        return NOT_RUN
    both = {row.seed for row in group} & {row.seed for row in parents}
    return "other test images than the parent" if both else "parent's row missing"


def _of(found: int, rows: int) -> str:
    """Return the number of seeds that were compared, and of how many where some are missing."""
    return str(found) if found == rows else f"{found} of {rows}"


def _limits(tier: Tier, seeds: int | None = None) -> str:
    """Return a blank and what a verdict is limited to, in brackets, or nothing."""
    limits = [ONE_SEED * (seeds == 1), ONLY[tier]]
    return f" ({'; '.join(filter(None, limits))})" if any(limits) else ""


def _named(parts: Parts) -> str:
    """Return precision, cell and number of seeds."""
    return f"{NAMES[parts.precision]} {parts.cell}, n {parts.n}"


def _rise_claim() -> str:
    """Return the third claim in a few words."""
    return f"rises (published: by {100 * RISE:.2f} points)"


def _rise_verdict(found: Difference) -> str:
    """Return whether it rises at all, and, apart from that, where the published size lies."""
    place = "above" if found.high < RISE else "below" if found.low > RISE else "inside"
    return f"rises: {found.verdict(0)}; size {100 * RISE:.2f}: {place} the interval"


def _worst_case(groups: Groups, tier: Tier) -> str:
    """Return the verdict on the worst case: not held if one is not, held if all are."""
    found = [_against_parent(groups, cell, precision) for cell, precision in LOSS_PAIRS]
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


def _rise_in_words(groups: Groups, tier: Tier) -> list[str]:
    """Return the third claim in a sentence, all numbers of the same seeds; none if it has not run.

    It says what the conversion had cost the parent and what is left against the control: a rise
    above a bad parent is not yet one by CBP.
    """
    name = (RISE_CELL, "binary")
    parts = next((each for each in all_parts(groups) if (each.cell, each.precision) == name), None)
    if parts is None:
        return []
    group, parents = (
        [row for row in groups[RISE_CELL, precision] if row.seed in parts.seeds]
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
