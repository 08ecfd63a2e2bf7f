"""Table of epochs, parents and constraint."""

from repro.cells import Cell, Precision
from repro.report.tier_rows import TierRows
from repro.report.wording import NAMES, NOT_RUN, interval, mean_percent, signed_points
from repro.results.statistics import spread
from repro.table import Table


def comparison_table(tier: TierRows) -> Table:
    """Return what the choice of the epoch does, the loss against the parent, and the CFS."""
    header = (
        *("cell", "precision", "n", "last epoch %", "best test epoch %", "picked on validation %"),
        "best test epoch minus picked",
        *("minus parent, points [95 %]", "parent : child only right", "McNemar p per seed", "CFS"),
        "CFS at the end, % of 2a",
    )
    lines = []
    for cell in tier.cells:
        ran = [precision for each, precision in tier.groups if each == cell]
        lines += [_comparison(tier, cell, precision) for precision in ran]
        if not ran:
            lines.append((str(cell), NOT_RUN, "0", *[""] * (len(header) - 3)))
    notes = (
        f"{tier.scale} Means over n seeds. The best test epoch is optimistic: the "
        f"test images picked it{_optimism(tier)}.",
        "Minus parent: accuracy of the saved file minus that of its parent on the same test "
        "images, mean ± sample standard deviation over seeds, and the 95 % interval over images "
        "and seeds where all rows of the parent are here and unchanged. The parent is the FP32 "
        "network; that of an FP32 network made by conversion is its ANN, which trains and picks no "
        "epoch.",
        "Parent : child only right: test images that only one of the two gets right, summed over "
        "seeds. p: exact two-sided McNemar test of one seed. CFS: constraint failure score, after "
        "the first epoch -> after the last, mean over seeds; 0 when every weight is a level; and "
        "the last one relative to twice the mean scale of the levels, since narrow layers have "
        "larger weights (empty where a row does not have the scale).",
    )
    return tier.table("Epochs, parents and constraint", header, lines, notes)


def _comparison(tier: TierRows, cell: Cell, precision: Precision) -> tuple[str, ...]:
    """Return the line of `comparison_table` for one cell and precision."""
    group = tier.of(cell, precision)
    epochs = ("last", "best_test", "selected") if group[0].epochs_done else ("selected",)
    shown = [mean_percent([getattr(row, f"accuracy_{epoch}") for row in group]) for epoch in epochs]
    shown = [""] * (3 - len(shown)) + shown  # a conversion has one accuracy and no epochs
    hidden = [100 * (row.accuracy_best_test - row.accuracy_selected) for row in group]
    shown.append(signed_points(spread(hidden).mean) if group[0].epochs_done else "")
    ps = [f"{row.mcnemar_p:.2g}" for row in group if row.mcnemar_p is not None]
    counts = [(row.parent_only_right or 0, row.child_only_right or 0) for row in group]
    pooled = "{} : {}".format(*map(sum, zip(*counts, strict=True))) if ps else ""
    cfs = [(r.cfs_first, r.cfs_last) for r in group]
    ends = [(first, last) for first, last in cfs if first is not None and last is not None]
    fall = " -> ".join(f"{spread(side).mean:.2g}" for side in zip(*ends, strict=True))
    head = (str(cell), NAMES[precision] + tier.marks(group), str(len(group)))
    parts = [100 * row.cfs_relative for row in group if row.cfs_relative is not None]
    relative = f"{spread(parts).mean:.2g}" if parts else ""
    return (
        *head,
        *shown,
        _difference(tier, cell, precision),
        pooled,
        ", ".join(ps),
        fall,
        relative,
    )


def _optimism(tier: TierRows) -> str:
    """Return what the choice by test images adds, over all rows that have epochs."""
    hidden = [
        100 * (r.accuracy_best_test - r.accuracy_selected) for r in tier.rows if r.epochs_done
    ]
    if not hidden:
        return ""
    return (
        f", which adds {spread(hidden).mean:.2f} points to the epoch picked on validation, "
        f"{max(hidden):.2f} at most, over {len(hidden)} rows"
    )


def _difference(tier: TierRows, cell: Cell, precision: Precision) -> str:
    """Return the loss against the parent in points, with its spread and its interval."""
    group = tier.of(cell, precision)
    points = [
        100 * row.difference_from_parent for row in group if row.difference_from_parent is not None
    ]
    above = group[0].key.parent()
    if above is None or not points:
        return ""
    whole = spread(points)
    said = signed_points(whole.mean) + ("" if whole.std is None else f" ± {whole.std:.2f}")
    found = tier.difference(cell, above.precision, precision)
    return f"{said} {interval(found)}" if found and found.seeds == len(group) else said
