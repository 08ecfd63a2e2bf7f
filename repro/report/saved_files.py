"""Table of the saved files."""

from repro.report.tier_rows import TierRows
from repro.report.wording import NAMES, signed_points
from repro.table import Table


def file_table(tier: TierRows) -> Table:
    """Return the measured size of every saved file beside the computed one."""
    header = (
        *("cell", "precision", "seed", "computed bytes", "file bytes", "deviation %"),
        "file minus run, points",
    )
    lines = []
    for row in tier.rows:
        deviation = 100 * (row.file_bytes / row.everything_bytes - 1)
        points = 100 * (row.accuracy_file - row.accuracy_selected)
        name = (str(row.key.cell), NAMES[row.precision], f"{row.seed}{tier.marks([row])}")
        sizes = (f"{row.everything_bytes:,.0f}", f"{row.file_bytes:,}", f"{deviation:+.2f}")
        lines.append((*name, *sizes, signed_points(points)))
    notes = (
        f"{tier.scale} Computed: weights at their precision plus everything else "
        "the network needs; the file adds its header.",
        "File minus run: accuracy of the saved file, loaded into a fresh network, minus that of "
        "the run at the epoch picked on validation; 0 where nothing was lost on the way.",
    )
    return tier.table("Saved files", header, lines, notes)
