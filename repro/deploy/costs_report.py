"""Costs of an inference as text, JSON and CSV."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from repro.deploy.costs import (
    PICOJOULE_AC,
    PICOJOULE_CACHE_BIT,
    PICOJOULE_DRAM_BIT,
    PICOJOULE_MAC,
    Costs,
    LayerCost,
    NeuronCost,
    measure,
)
from repro.deploy.packed_run import PackedCell
from repro.errors import UserError
from repro.files import write_atomically
from repro.memory import FP32_BITS
from repro.table import Table, csv_text

KINDS: Final = (".json", ".csv")
TOTALS: Final = (
    *("accumulates", "multiply_accumulates", "picojoules", "dense_picojoules", "spikes"),
    *("spikes_per_neuron", "weight_bytes", "membrane_bytes"),
    *("weight_bytes_read", "potential_bytes_moved", "cache_picojoules", "dram_picojoules"),
)
BITS: Final = (1, 2, 32)  # for which the traffic of weights is said
SOURCE: Final = (
    "45 nm, 0.9 V, 32-bit floating point: 0.9 pJ an addition, 3.7 pJ a multiplication "
    "(Horowitz, ISSCC 2014)"
)


@dataclass(frozen=True)
class CellCosts:
    """Costs, and what they are of.

    Attributes:
        run: Name of the run.
        file_sha256: Checksum in the packed file.
        data: Data set whose first test images were measured.
        costs: The numbers.
    """

    run: str
    file_sha256: str
    data: str
    costs: Costs


def measure_cell(cell: PackedCell) -> CellCosts:
    """Return the costs of a packed file on its test images."""
    torch.set_flush_denormal(True)  # as a run does
    network, loaded = cell.load()
    costs = measure(network, (images for images, _ in cell.batches()))
    return CellCosts(str(cell.spec.key), loaded.file.digest, cell.spec.recipe.data, costs)


def require_kind(out: Path | None) -> None:
    """Raise a UserError for a file name of another kind than JSON or CSV."""
    if out is not None and out.suffix not in KINDS:
        raise UserError(f"out is {out}: give a name that ends in {' or '.join(KINDS)}")


def write_costs(out: Path, found: CellCosts) -> None:
    """Write the numbers as JSON, or one line per layer as CSV, by the ending of the name."""
    write_atomically(out, to_csv(found.costs) if out.suffix == ".csv" else to_json(found))


def to_json(found: CellCosts) -> str:
    """Return everything as JSON: ``totals``, ``layers``, ``neurons``, ``constants`` and origin."""
    costs = found.costs
    content = {
        "run": found.run,
        "file_sha256": found.file_sha256,
        "data": found.data,
        "images": costs.images,
        "time_steps": costs.time_steps,
        "constants": {
            "picojoules_accumulate": PICOJOULE_AC,
            "picojoules_multiply_accumulate": PICOJOULE_MAC,
            "picojoules_cache_bit": PICOJOULE_CACHE_BIT,
            "picojoules_dram_bit": PICOJOULE_DRAM_BIT,
            "source": SOURCE,
        },
        "totals": {name: getattr(costs, name) for name in TOTALS},
        "weight_bytes_read_at_bits": {str(b): costs.weight_bytes_read_at(b) for b in BITS},
        "layers": [layer_fields(layer) for layer in costs.layers],
        "neurons": [asdict(layer) for layer in costs.neurons],
        "not_counted": costs.not_counted,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def layer_fields(layer: LayerCost) -> dict[str, Any]:
    """Return the fields of a layer, its operations by kind and the weights read included."""
    more = ("accumulates", "multiply_accumulates", "weight_bytes_read")
    split = {name: getattr(layer, name) for name in more}
    return {**asdict(layer), **split}


def to_csv(costs: Costs) -> str:
    """Return one line per layer of weights, then one per layer of neurons; columns that fit one."""
    layers = [{"row": "layer", **layer_fields(layer)} for layer in costs.layers]
    neurons = [{"row": "neurons", **asdict(layer)} for layer in costs.neurons]
    columns = list(dict.fromkeys(name for line in (*layers, *neurons) for name in line))
    return csv_text(columns, [*layers, *neurons])


def costs_in_words(found: CellCosts, width: int) -> str:
    """Return tables of layers and neurons, totals, and what was not counted."""
    costs = found.costs
    tables = [table_of_layers(costs.layers)]
    if costs.neurons:
        tables.append(table_of_neurons(costs.neurons))
    steps = f", T {costs.time_steps}" if costs.time_steps else ""
    of = f"{found.run}: means over the first {costs.images:,} test images of {found.data}{steps}"
    return "\n".join([of, "", *(table.to_terminal(width) for table in tables), *totals(costs)])


def table_of_layers(layers: Iterable[LayerCost]) -> Table:
    """Return a line per Conv or Linear layer."""
    header = ("layer", "input", "not 0", "passes", "ACs", "MACs", "at weights not 0", "dense")
    lines = tuple(
        (
            layer.name,
            "spikes" if layer.spiking else f"{layer.low:.3g} to {layer.high:.3g}",
            f"{100 * layer.nonzero:.1f} %",
            f"{layer.passes:g}",
            f"{layer.accumulates:,.0f}",
            f"{layer.multiply_accumulates:,.0f}",
            f"{layer.operations_at_nonzero_weights:,.0f}",
            f"{layer.dense_operations:,.0f}",
        )
        for layer in layers
    )
    return Table("Synaptic operations per inference", header, lines)


def table_of_neurons(neurons: Iterable[NeuronCost]) -> Table:
    """Return a line per layer of neurons."""
    header = ("neurons after", "neurons", "spikes a step", "spikes an inference")
    lines = tuple(
        (x.name, f"{x.neurons:,}", f"{100 * x.rate:.2f} %", f"{x.spikes_per_neuron:.3f}")
        for x in neurons
    )
    return Table("Firing rates, per neuron", header, lines)


def totals(costs: Costs) -> list[str]:
    """Return the totals as text."""
    fp32 = sum(layer.weights * FP32_BITS // 8 for layer in costs.layers)
    lines = [
        f"an inference: {costs.accumulates:,.0f} accumulates, "
        f"{costs.multiply_accumulates:,.0f} multiply-accumulates (input not made of 0 and 1)"
    ]
    if costs.spikes_per_neuron is not None:
        lines.append(
            f"{costs.spikes:,.0f} spikes, {costs.spikes_per_neuron:.3f} a neuron; membranes "
            f"{costs.membrane_bytes:,} bytes in FP32"
        )
    lines += [
        f"energy estimate {costs.picojoules / 1e6:,.4g} uJ; the same layers as an ANN "
        f"{costs.dense_picojoules / 1e6:,.4g} uJ. {SOURCE}; arithmetic of the layers alone, "
        "without biases, normalisation and neurons",
        traffic(costs),
        f"weights {costs.weight_bytes:,} bytes, {fp32:,} in FP32",
    ]
    if costs.not_counted:
        lines.append(f"not counted: {', '.join(costs.not_counted)}")
    return lines


def traffic(costs: Costs) -> str:
    """Return the memory traffic as text."""
    others = ", ".join(f"{costs.weight_bytes_read_at(bits):,.0f} at {bits}" for bits in BITS)
    cache, dram = costs.cache_picojoules / 1e6, costs.dram_picojoules / 1e6
    return (
        f"memory traffic without reuse: weights read {costs.weight_bytes_read:,.0f} bytes (all "
        f"weights alike: {others} bits), potentials read and written "
        f"{costs.potential_bytes_moved:,} bytes; {cache:,.4g} uJ with caches of 8 KB, "
        f"{dram:,.4g} uJ with DRAM (10 pJ and 1.3 nJ for 64 bits, the same source)"
    )
