"""Tables of the results, generated from rows and from ``results/paper.csv``, never edited by hand.

Every table belongs to one tier. Ours and the published numbers stand side by side, and whatever
weakens a number (an old recipe, a dirty tree, a parent that has changed) is marked at the number.
"""

from datamodules.catalogue import DATA_SETS
from repro.cells import QUANTISED, SPIKING, Cell, Precision
from repro.report.control import CONTROL
from repro.report.summary import summary
from repro.report.tier_rows import TierRows
from repro.report.wording import NAMES, NOT_RUN, SCALE, SIMULATION
from repro.results.published import GRADES, UNKNOWN, PublishedNumbers, published_value
from repro.results.statistics import spread
from repro.table import Table

PUBLISHED: tuple[Precision, ...] = ("fp32", *QUANTISED)  # of a control nothing is published


def accuracy_table(tier: TierRows, published: PublishedNumbers) -> Table:
    """Return parent, control, binary and ternary of all cells, and what is published of them."""
    columns = () if tier.prefix else PUBLISHED
    mark = "" if tier.tier == "paper" else " §"
    header = (
        *("cell", "network", *_columns(f", ours %{mark}")),
        *(f"{NAMES[precision]} published %" for precision in columns),
    )
    lines = []
    for cell in tier.cells:
        theirs = [_published_accuracy(published, cell, precision) for precision in columns]
        name = f"{cell.method}/{cell.dataset}"
        lines.append((name, cell.network, *_numbers(cell, tier), *theirs))
    return tier.table("Accuracy", header, lines, _accuracy_notes(tier))


def front_table(tier: TierRows) -> Table:
    """Return our numbers only, a line a cell, with a few sentences: the table of the README."""
    said = summary(tier)
    said[0] += " Accuracy on the test images at the epoch picked on validation images, mean ± "
    said[0] += "sample standard deviation over n seeds."
    lines = [(str(cell), *_numbers(cell, tier)) for cell in tier.cells]
    return tier.table(
        "Accuracy", ("cell", *_columns(" %")), lines, [f"* {each}" for each in said[:5]]
    )


def _columns(unit: str) -> tuple[str, ...]:
    """Return the names of the columns of `_numbers`."""
    names = [f"{NAMES[each]} parent" if each == "fp32" else NAMES[each] for each in SPIKING]
    memory = f"memory, % of FP32 ({' / '.join(QUANTISED)})"
    return ("T", *(f"{name}{unit}" for name in names), memory)


def _numbers(cell: Cell, tier: TierRows) -> tuple[str, ...]:
    """Return T, the accuracy of every precision with its marks, and the memory of a cell."""
    line = [tier.time_steps(cell)]
    for precision in SPIKING:
        group = tier.of(cell, precision)
        mean = spread([100 * row.accuracy_selected for row in group]) if group else NOT_RUN
        line.append(f"{mean}{tier.marks(group)}")
    return (*line, _memory_share(cell, tier))


def _accuracy_notes(tier: TierRows) -> list[str]:
    """Return what the columns of the accuracy table mean, and what the control explains."""
    notes = [
        "Ours: accuracy on the test images at the epoch picked on validation images, mean ± "
        f"sample standard deviation over n seeds. {CONTROL}",
        *(parts.in_words() for parts in tier.parts.values()),
    ]
    if tier.parts:
        notes.append(
            "These are differences in percentage points on the same test images and seeds, with "
            "95 % intervals; quantised minus parent is the control's part plus that of CBP."
        )
    if tier.prefix == "simulated_":
        notes.append(SIMULATION)
    elif not tier.prefix:
        notes += [
            "Published: the sources pick the best epoch on the test images, or do not say.",
            GRADES,
        ]
    if (name := tier.tier) != "paper":
        notes.append(
            f"§ Tier {name}, not the paper's: {SCALE[name]}. Not comparable with the published."
        )
    ran = {cell.dataset for cell, _ in tier.groups}
    missing = dict.fromkeys(cell.dataset for cell in tier.cells if cell.dataset not in ran)
    needs = {name: DATA_SETS[name].needs for name in missing}
    notes += [f"Not run, {name}: {need}." for name, need in needs.items() if need]
    return notes + _data_notes(tier)


def _published_accuracy(published: PublishedNumbers, cell: Cell, precision: str) -> str:
    """Return the published accuracy with spread and grade, or n/a."""
    value = published_value(published, cell, precision, "accuracy")
    if value == UNKNOWN:
        return UNKNOWN
    std = published_value(published, cell, precision, "accuracy_std")
    deviation = "" if std == UNKNOWN else f" ± {std}"
    return f"{value}{deviation} ({published[cell, precision, 'accuracy'].grade})"


def _memory_share(cell: Cell, tier: TierRows) -> str:
    """Return the weight memory of our quantised networks in percent of FP32, or nothing."""
    shares = []
    for precision in QUANTISED:
        group = tier.of(cell, precision)
        found = [100 * row.weights_only_bytes / row.fp32_bytes for row in group]
        shares.append(f"{spread(found).mean:.2f}" if found else NOT_RUN)
    return "" if set(shares) == {NOT_RUN} else " / ".join(shares)


def _data_notes(tier: TierRows) -> list[str]:
    """Return one sentence per cell about the images our runs read."""
    said = []
    for row in tier.rows:
        counts = f"{row.train_images:,} / {row.val_images:,} / {row.test_images:,}"
        noun = DATA_SETS[row.data].items if row.data in DATA_SETS else "images"
        skipped = f"; {row.skipped} damaged ones were left out" if row.skipped else ""
        counts = f"{counts} training / validation / test {noun}"
        said.append(f"{row.key.cell} read {row.data}: {counts}{skipped}.")
        if row.data in DATA_SETS and (about := DATA_SETS[row.data].about):
            said.append(f"{row.data}: {about}.")
    return list(dict.fromkeys(said))
