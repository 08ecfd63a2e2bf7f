"""What longer training does and what CBP does: the FP32 control, as a table and in words."""

from typing import Final

from repro.report.parts import Parts
from repro.report.tier_rows import TierRows
from repro.report.wording import NAMES, with_interval
from repro.table import Table

CONTROL: Final = (
    "The FP32 control fine-tunes the FP32 parent with FP32 weights: same epochs, learning rate, "
    "loss, clip and rule of the learning-rate drop as CBP."
)


def control_table(tier: TierRows) -> Table:
    """Return quantised minus parent as the sum of what longer training and what CBP does."""
    header = (
        *("cell", "precision", "n", "quantised minus parent"),
        *("= control minus parent: longer training", "+ quantised minus control: CBP"),
    )
    lines = []
    for (cell, precision), parts in tier.parts.items():
        marks = tier.marks(*(tier.of(cell, each) for each in (precision, "fp32", "fp32_control")))
        training, cbp = (
            with_interval(part) if part else "no control of its recipe"
            for part in (parts.training, parts.cbp)
        )
        head = (str(cell), NAMES[precision] + marks, parts.n)
        lines.append((*head, with_interval(parts.whole), training, cbp + parts.mark))
    notes = (
        f"{tier.scale} Percentage points with 95 % intervals, on the same test "
        "images and seeds, so that the two parts add up.",
        f"{CONTROL} What it gains, CBP cannot claim.",
    )
    return tier.table("What longer training does and what CBP does", header, lines, notes)


def control_in_words(tier: TierRows) -> list[str]:
    """Return one sentence about what is left to CBP once longer training is taken out, or none."""
    parts = tier.parts.values()
    found = sorted(
        (part.cbp.mean, f"{with_interval(part.cbp)} points ({_named(part)})")
        for part in parts
        if part.cbp
    )
    if not parts:
        return []
    if not found:
        return [
            "No FP32 control of their recipe has run, so which part of these differences longer "
            "training explains is unknown."
        ]
    said = "by " + " to ".join(dict.fromkeys(words for _, words in (found[0], found[-1])))
    missing = len(parts) - len(found)
    rest = f"; without a control: {missing} of {len(parts)}" if missing else ""
    if differ := sum(part.drops_differ for part in parts):
        rest += f"; in {differ} of them the learning rate fell at another epoch than in the control"
    return [
        "Against FP32 controls, fine-tuned for the same number of epochs, CBP itself moves the "
        f"accuracy {said}{rest}."
    ]


def _named(parts: Parts) -> str:
    """Return precision, cell and number of seeds."""
    return f"{NAMES[parts.precision]} {parts.cell}, n {parts.n}"
