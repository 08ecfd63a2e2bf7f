"""Tables of the results, generated from rows and from ``results/paper.csv``, never edited by hand.

Every table belongs to one tier. Ours and the published numbers stand side by side, and whatever
weakens a number (an old recipe, a dirty tree, a parent that has changed) is marked at the number.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from repro.cells import CELLS, COLUMNS, PRECISIONS, QUANTISED, SIMULATED, Cell, Precision, Tier
from repro.claims import (
    CONTROL,
    all_parts,
    claims_in_words,
    comparable,
    control_in_words,
    difference,
    mark_notes,
)
from repro.groups import Groups, grouped, marks
from repro.published import GRADES, UNKNOWN, Known, Published, by_name, published_value
from repro.rows import Row
from repro.statistics import spread
from repro.text_table import Table
from repro.words import (
    NAMES,
    NEEDS,
    NOT_RUN,
    SCALE,
    SIMULATION,
    STEPS,
    in_order,
    interval,
    plural,
    scope,
    signed_points,
    with_interval,
)

WITHOUT_RUNS: Final = "Its table shows the published numbers only."
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


def comparison_table(
    rows: Iterable[Row],
    tier: Tier,
    current_hashes: Mapping[str, str] | None = None,
    cells: Sequence[Cell] = CELLS,
) -> Table:
    """Return what the choice of the epoch does, the loss against the parent, and the CFS.

    Arguments as in `accuracy_table`.
    """
    groups = grouped(rows, tier, cells)
    header = (
        *("cell", "precision", "n", "last epoch %", "best test epoch %", "picked on validation %"),
        *("minus parent, points [95 %]", "parent : child only right", "McNemar p per seed", "CFS"),
    )
    lines = []
    for cell in cells:
        names = [(cell, precision) for precision in PRECISIONS if (cell, precision) in groups]
        for name in names:
            lines.append(_comparison(name, groups, marks(groups[name], groups, current_hashes)))
        if not names:
            lines.append((str(cell), NOT_RUN, "0", *[""] * (len(header) - 3)))
    notes = [
        f"Tier {tier}: {SCALE[tier]}. Means over n seeds. The best test epoch is optimistic: the "
        "test images picked it.",
        "Minus parent: accuracy of the saved file minus that of its parent on the same test "
        "images, mean ± sample standard deviation over seeds, and the 95 % interval over images "
        "and seeds where all rows of the parent are here. The parent is the FP32 network; that "
        "of an FP32 network made by conversion is its ANN, which trains and picks no epoch.",
        "Parent : child only right: test images that only one of the two gets right, summed over "
        "seeds. p: exact two-sided McNemar test of one seed. CFS: constraint failure score, after "
        "the first epoch -> after the last, mean over seeds; 0 when every weight is a level.",
        *mark_notes(lines, current_hashes),
    ]
    title = f"Epochs, parents and constraint, {scope(tier, cells)}"
    return Table(title, header, tuple(lines), tuple(notes))


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


def _time_steps(cell: Cell, groups: Groups) -> str:
    """Return T of the paper, and ours where the recipe of a run has another one."""
    ours = {
        row.recipe["time_steps"]
        for (other, _), group in groups.items()
        for row in group
        if other == cell and row.recipe.get("time_steps", cell.time_steps) != cell.time_steps
    }
    found = ", ".join(str(steps) for steps in sorted(ours))
    return f"{cell.time_steps} (ours {found})" if ours else str(cell.time_steps)


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


def _mean(fractions: Sequence[float | None]) -> str:
    """Return mean and spread in percent, without n; nothing where no run has a value."""
    found = [100 * value for value in fractions if value is not None]
    return str(spread(found)).split(" (")[0] if found else ""


def _comparison(name: tuple[Cell, Precision], groups: Groups, found: str) -> tuple[str, ...]:
    """Return the line of `comparison_table` for one cell and precision."""
    group = groups[name]
    epochs = ("last", "best_test") if group[0].epochs_done else ()  # a conversion has none
    shown = [_mean([getattr(row, f"accuracy_{epoch}") for row in group]) for epoch in epochs]
    shown = [*shown, *[""] * (2 - len(shown)), _mean([row.accuracy_selected for row in group])]
    pairs = [
        (row.parent_only_right, row.child_only_right)
        for row in group
        if row.parent_only_right is not None and row.child_only_right is not None
    ]
    pooled = f"{sum(b for b, _ in pairs)} : {sum(c for _, c in pairs)}" if pairs else ""
    ps = [f"{row.mcnemar_p:.2g}" for row in group if row.mcnemar_p is not None]
    cfs = [(r.cfs_first, r.cfs_last) for r in group]
    ends = [(first, last) for first, last in cfs if first is not None and last is not None]
    fall = " -> ".join(f"{spread(side).mean:.2g}" for side in zip(*ends, strict=True))
    head = (str(name[0]), NAMES[name[1]] + found, str(len(group)))
    return (*head, *shown, _difference(name, groups), pooled, ", ".join(ps), fall)


def _difference(name: tuple[Cell, Precision], groups: Groups) -> str:
    """Return the loss against the parent in points, with its spread and its interval."""
    group = groups[name]
    points = [
        100 * row.difference_from_parent for row in group if row.difference_from_parent is not None
    ]
    above = group[0].key.parent()
    if above is None or not points:
        return ""
    whole = spread(points)
    said = signed_points(whole.mean) + ("" if whole.std is None else f" ± {whole.std:.2f}")
    twos = comparable(groups, name[0], above.precision, name[1])
    if len(twos) == len(group):
        said += f" {interval(difference(*zip(*twos, strict=True)))}"
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
