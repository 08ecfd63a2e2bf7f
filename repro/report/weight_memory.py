"""Tables of weight memory: the paper's networks computed and published, and our saved files."""

from collections.abc import Mapping

import torch

from datamodules.catalogue import DATA_SETS
from repro import memory
from repro.build import build_network
from repro.cbp.layers import choose_layers
from repro.cbp.levels import LEVELS, LayerLevels
from repro.cells import CELLS, QUANTISED, Cell
from repro.memory import Memory
from repro.recipes.shipped import RECIPES
from repro.results.published import GRADES, UNKNOWN, PublishedNumbers, published_value
from repro.table import Table

MemoryByCell = Mapping[str, Mapping[str, Memory]]


def memory_table(published: PublishedNumbers, memory: MemoryByCell) -> Table:
    """Return the weight memory of the paper's networks at its width: computed, and published."""
    header = (
        *("cell", "network", "which", "weights", "quantised"),
        *("FP32 MB", "binary MB (of FP32)", "ternary MB (of FP32)"),
    )
    lines, agreeing = [], 0
    for cell in CELLS:
        ours, theirs = _computed_memory(memory[str(cell)]), _published_memory(published, cell)
        agreeing += ours == theirs
        counted = published.get((cell, "any", "weights"))
        grade = counted.grade if counted else UNKNOWN
        name = (f"{cell.method}/{cell.dataset}", cell.network)
        lines += [(*name, "computed", *ours), (*name, f"published ({grade})", *theirs)]
    notes = (
        f"Computed and published agree to the last printed digit in {agreeing} of the {len(CELLS)} "
        f"cells that are computed, of {len(CELLS)}.",
        "Weights only; first and last layer stay FP32; biases, normalisation, neuron parameters "
        "and scales are not counted. 1 MB is 10^6 bytes.",
        GRADES,
    )
    return Table("Weight memory of the paper's networks", header, tuple(lines), notes)


def _computed_memory(memory: Mapping[str, Memory]) -> tuple[str, ...]:
    """Return weights, quantised weights, FP32, binary and ternary MB as text."""
    binary = memory["binary"]
    sizes = [
        f"{memory[name].weights_only_bytes / 1e6:.3f} ({100 * memory[name].ratio:.2f} %)"
        for name in QUANTISED
    ]
    counts = (f"{binary.weights:,}", f"{binary.quantised_weights:,}")
    return (*counts, f"{binary.fp32_bytes / 1e6:.3f}", *sizes)


def _published_memory(published: PublishedNumbers, cell: Cell) -> tuple[str, ...]:
    """Return the published counterparts of `_computed_memory`."""

    def found(precision: str, quantity: str) -> str:
        return published_value(published, cell, precision, quantity)

    counts = [found("any", name) for name in ("weights", "quantised_weights")]
    shown = [count if count == UNKNOWN else f"{int(count):,}" for count in counts]
    sizes = [f"{found(name, 'memory')} ({found(name, 'memory_ratio')} %)" for name in QUANTISED]
    return (*shown, found("fp32", "memory"), *sizes)


def computed_memory(cell: Cell) -> dict[str, Memory]:
    """Return binary and ternary memory of the paper's network of a cell, no weight allocated.

    The network is that of the cell's recipe of the paper tier.
    """
    with torch.device("meta"):
        network = build_network(
            cell, RECIPES[cell, "paper"], DATA_SETS[cell.dataset].classes, "cbp"
        )
    chosen = choose_layers(network)
    return {
        name: memory.count(network, dict.fromkeys(chosen, LayerLevels(LEVELS[name], 1.0).bits))
        for name in QUANTISED
    }


def memory_of_cells() -> dict[str, dict[str, Memory]]:
    """Return `computed_memory` of the nine cells by name."""
    return {str(cell): computed_memory(cell) for cell in CELLS}
