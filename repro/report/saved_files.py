"""Table of the saved files."""

from collections.abc import Iterable, Mapping, Sequence

from repro.cells import CELLS, Cell, Tier
from repro.report.tier_rows import grouped, mark_notes, marks
from repro.report.wording import NAMES, NOT_RUN, SCALE, scope, signed_points
from repro.results.row import Row
from repro.table import Table


def file_table(
    rows: Iterable[Row],
    tier: Tier,
    current_hashes: Mapping[str, str] | None = None,
    cells: Sequence[Cell] = CELLS,
) -> Table:
    """Return the measured size of every saved file beside the computed one.

    Arguments as in `accuracy_table`.
    """
    groups = grouped(rows, tier, cells)
    header = (
        *("cell", "precision", "seed", "computed bytes", "file bytes", "deviation %"),
        "file minus run, points",
    )
    lines: list[tuple[str, ...]] = []
    for (cell, precision), group in groups.items():
        for row in group:
            deviation = 100 * (row.file_bytes / row.everything_bytes - 1)
            points = 100 * (row.accuracy_file - row.accuracy_selected)
            sizes = (f"{row.everything_bytes:,.0f}", f"{row.file_bytes:,}", f"{deviation:+.2f}")
            seed = f"{row.seed}{marks([row], groups, current_hashes)}"
            lines.append((str(cell), NAMES[precision], seed, *sizes, signed_points(points)))
    notes = (
        f"Tier {tier}: {SCALE[tier]}. Computed: weights at their precision plus everything else "
        "the network needs; the file adds its header.",
        "File minus run: accuracy of the saved file, loaded into a fresh network, minus that of "
        "the run at the epoch picked on validation; 0 where nothing was lost on the way.",
        *mark_notes(lines, current_hashes),
    )
    if not lines:
        lines = [(NOT_RUN, *[""] * (len(header) - 1))]
    return Table(f"Saved files, {scope(tier, cells)}", header, tuple(lines), notes)
