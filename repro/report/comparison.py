"""Table of epochs, parents and constraint."""

from collections.abc import Iterable, Mapping, Sequence

from repro.cells import CELLS, PRECISIONS, Cell, Precision, Tier
from repro.report.tier_rows import Groups, comparable, difference, grouped, mark_notes, marks
from repro.report.wording import NAMES, NOT_RUN, SCALE, _mean, interval, scope, signed_points
from repro.results.row import Row
from repro.results.statistics import spread
from repro.table import Table


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
