"""Tables of the results, generated from rows and from ``results/paper.csv``, never edited by hand.

Every table belongs to one tier. Ours and the published numbers stand side by side, and whatever
weakens a number (an old recipe, a dirty tree, a parent that has changed) is marked at the number.
"""

from collections.abc import Iterable, Mapping, Sequence

from repro.cells import CELLS, COLUMNS, QUANTISED, SIMULATED, Cell, Precision, Tier
from repro.report.control import CONTROL, all_parts
from repro.report.tier_rows import Groups, grouped, mark_notes, marks
from repro.report.wording import NAMES, NEEDS, NOT_RUN, SCALE, SIMULATION, _time_steps, scope
from repro.results.published import GRADES, UNKNOWN, Known, Published, by_name, published_value
from repro.results.row import Row
from repro.results.statistics import spread
from repro.table import Table

PUBLISHED: tuple[Precision, ...] = ("fp32", *QUANTISED)  # of a control nothing is published


def accuracy_table(
    rows: Iterable[Row],
    published: Iterable[Published],
    tier: Tier,
    current_hashes: Mapping[str, str] | None = None,
    cells: Sequence[Cell] = CELLS,
) -> Table:
    """Return parent, control, binary and ternary of all cells, and what is published of them.

    Args:
        rows: Rows of any tier; only those of ``tier`` are used.
        published: See `read_published`.
        tier: Scale of our runs.
        current_hashes: Run key -> hash of today's recipe; None leaves staleness unchecked.
        cells: The nine of the paper, or the simulated ones, of which nothing is published.
    """
    groups, known = grouped(rows, tier, cells), by_name(published)
    columns = PUBLISHED if cells == CELLS else ()
    mark = "" if tier == "paper" else " §"
    names = [
        f"{NAMES[precision]} parent" if precision == "fp32" else NAMES[precision]
        for precision in COLUMNS
    ]
    header = (
        *("cell", "network", "T", *(f"{name}, ours %{mark}" for name in names)),
        f"memory, % of FP32 ({' / '.join(QUANTISED)})",
        *(f"{NAMES[precision]} published %" for precision in columns),
    )
    lines = []
    for cell in cells:
        line = [f"{cell.method}/{cell.dataset}", cell.network, _time_steps(cell, groups)]
        for precision in COLUMNS:
            group = groups.get((cell, precision), [])
            mean = spread([100 * row.accuracy_selected for row in group]) if group else NOT_RUN
            line.append(f"{mean}{marks(group, groups, current_hashes)}")
        line.append(_memory_share(cell, groups))
        line += [_published_accuracy(known, cell, precision) for precision in columns]
        lines.append(tuple(line))
    notes = _accuracy_notes(groups, tier, cells)
    notes += mark_notes([*lines, notes], current_hashes)
    return Table(f"Accuracy, {scope(tier, cells)}", header, tuple(lines), tuple(notes))


def _accuracy_notes(groups: Groups, tier: Tier, cells: Sequence[Cell]) -> list[str]:
    """Return what the columns of the accuracy table mean, and what the control explains."""
    notes = [
        "Ours: accuracy on the test images at the epoch picked on validation images, mean ± "
        f"sample standard deviation over n seeds. {CONTROL}",
        *(parts.in_words() for parts in all_parts(groups)),
    ]
    if all_parts(groups):
        notes.append(
            "These are differences in percentage points on the same test images and seeds, with "
            "95 % intervals; quantised minus parent is the control's part plus that of CBP."
        )
    if cells == SIMULATED:
        notes.append(SIMULATION)
    else:
        notes += [
            "Published: the sources pick the best epoch on the test images, or do not say.",
            GRADES,
        ]
    if tier != "paper":
        notes.append(
            f"§ Tier {tier}, not the paper's: {SCALE[tier]}. Not comparable with the published."
        )
    ran = {cell.dataset for cell, _ in groups}
    missing = dict.fromkeys(cell.dataset for cell in cells if cell.dataset not in ran)
    notes += [f"Not run, {name}: {NEEDS[name]}." for name in missing if name in NEEDS]
    return notes + _data_notes(groups)


def _published_accuracy(known: Known, cell: Cell, precision: str) -> str:
    """Return the published accuracy with spread and grade, or n/a."""
    value = published_value(known, cell, precision, "accuracy")
    if value == UNKNOWN:
        return UNKNOWN
    std = published_value(known, cell, precision, "accuracy_std")
    deviation = "" if std == UNKNOWN else f" ± {std}"
    return f"{value}{deviation} ({known[cell, precision, 'accuracy'].grade})"


def _memory_share(cell: Cell, groups: Groups) -> str:
    """Return the weight memory of our quantised networks in percent of FP32, or nothing."""
    shares = []
    for precision in QUANTISED:
        group = groups.get((cell, precision), [])
        found = [100 * row.weights_only_bytes / row.fp32_bytes for row in group]
        shares.append(f"{spread(found).mean:.2f}" if found else NOT_RUN)
    return "" if set(shares) == {NOT_RUN} else " / ".join(shares)


def _data_notes(groups: Groups) -> list[str]:
    """Return one sentence per cell about the images our runs read."""
    said: dict[str, None] = {}  # a set that keeps its order
    for (cell, _), group in groups.items():
        for row in group:
            counts = f"{row.train_images:,} / {row.val_images:,} / {row.test_images:,}"
            noun = "recordings" if "dvs" in row.data or "gesture" in row.data else "images"
            skipped = f"; {row.skipped} damaged ones were left out" if row.skipped else ""
            counts = f"{counts} training / validation / test {noun}"
            said[f"{cell} read {row.data}: {counts}{skipped}."] = None
    return list(said)
