"""Tables of weight memory: the paper's networks computed and published, and our saved files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from repro.cells import CELLS, Cell, Tier
from repro.claims import mark_notes
from repro.groups import grouped, marks
from repro.published import GRADES, UNKNOWN, Known, Published, by_name, published_value
from repro.rows import Row
from repro.text_table import Table
from repro.words import NAMES, NOT_RUN, SCALE, scope, signed_points

NOT_COMPUTED: Final = "not computed"


class WeightMemory(Protocol):
    """Computed weight memory of one network at one precision: counts, and bytes."""

    @property
    def weights(self) -> int:
        """Weights of all layers."""

    @property
    def quantised_weights(self) -> int:
        """Weights that are levels."""

    @property
    def fp32_bytes(self) -> float:
        """Bytes of all weights at 32 bits."""

    @property
    def weights_only_bytes(self) -> float:
        """Bytes of the weights at this precision."""


def memory_table(
    published: Iterable[Published], memory: Mapping[str, Mapping[str, WeightMemory]]
) -> Table:
    """Return the weight memory of the paper's networks: computed, and below it published.

    Args:
        published: See `read_published`.
        memory: Name of a cell -> precision -> memory, of networks at the paper's width. A cell
            that is left out prints "not computed".
    """
    known = by_name(published)
    header = (
        *("cell", "network", "which", "weights", "quantised"),
        *("FP32 MB", "binary MB (of FP32)", "ternary MB (of FP32)"),
    )
    lines, agreeing, computed = [], 0, 0
    for cell in CELLS:
        ours, theirs = _computed_memory(memory.get(str(cell), {})), _published_memory(known, cell)
        agreeing += ours == theirs
        computed += ours[0] != NOT_COMPUTED
        grade = (
            known[cell, "any", "weights"].grade if (cell, "any", "weights") in known else UNKNOWN
        )
        name = (f"{cell.method}/{cell.dataset}", cell.network)
        lines += [(*name, "computed", *ours), (*name, f"published ({grade})", *theirs)]
    notes = (
        f"Computed and published agree to the last printed digit in {agreeing} of the {computed} "
        f"cells that are computed, of {len(CELLS)}.",
        "Weights only; first and last layer stay FP32; biases, normalisation, neuron parameters "
        "and scales are not counted. 1 MB is 10^6 bytes.",
        GRADES,
    )
    return Table("Weight memory of the paper's networks", header, tuple(lines), notes)


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


def _computed_memory(memory: Mapping[str, WeightMemory]) -> tuple[str, ...]:
    """Return weights, quantised weights, FP32, binary and ternary MB as text."""
    if "binary" not in memory or "ternary" not in memory:
        return (NOT_COMPUTED,) + ("",) * 4
    binary = memory["binary"]
    sizes = [
        f"{memory[name].weights_only_bytes / 1e6:.3f} "
        f"({100 * memory[name].weights_only_bytes / memory[name].fp32_bytes:.2f} %)"
        for name in ("binary", "ternary")
    ]
    counts = (f"{binary.weights:,}", f"{binary.quantised_weights:,}")
    return (*counts, f"{binary.fp32_bytes / 1e6:.3f}", *sizes)


def _published_memory(known: Known, cell: Cell) -> tuple[str, ...]:
    """Return the published counterparts of `_computed_memory`."""

    def found(precision: str, quantity: str) -> str:
        return published_value(known, cell, precision, quantity)

    counts = [found("any", name) for name in ("weights", "quantised_weights")]
    shown = [count if count == UNKNOWN else f"{int(count):,}" for count in counts]
    sizes = [
        f"{found(name, 'memory')} ({found(name, 'memory_ratio')} %)"
        for name in ("binary", "ternary")
    ]
    return (*shown, found("fp32", "memory"), *sizes)
