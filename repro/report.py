"""Tables, figures and one page from the rows, the run folders and the published numbers."""

import csv
from pathlib import Path

import torch

from repro import memory
from repro.cbp.layers import choose_layers
from repro.cbp.levels import LEVELS, LayerLevels
from repro.cells import TIERS, Cell, RunKey, Tier
from repro.errors import UserError
from repro.figures import accuracy_against_memory_figure, curves_figure, report_page
from repro.networks.conv7fc3 import conv7fc3
from repro.neurons.stbp import StbpNeuron
from repro.recipes import RECIPES, recipe_hash
from repro.rows import Row, grouped, read_rows
from repro.tables import all_tables, generate, summary_in_words

CLASSES = {"cifar10": 10, "cifar100": 100}
Metrics = list[dict[str, float]]


def computed_memory(cell: Cell) -> dict[str, memory.Memory]:
    """Return binary and ternary memory of the paper's network of a cell, without building it."""
    with torch.device("meta"):
        network = conv7fc3(
            CLASSES[cell.dataset], time_steps=cell.time_steps, neuron=StbpNeuron(decay=0.25)
        )
    chosen = choose_layers(network)
    return {
        name: memory.count(network, dict.fromkeys(chosen, LayerLevels(LEVELS[name], 1.0).bits))
        for name in ("binary", "ternary")
    }


def write_report(rows_folder: Path, results: Path, runs: Path, show: Tier | None) -> int:
    """Write tables, figures and the page of every tier; print what was asked for.

    Args:
        rows_folder: One JSON file per run.
        results: Holds ``paper.csv``; the tables go there, the smoke tier's below ``smoke``.
        runs: Run folders, for the curves of those that are on this machine.
        show: Tier whose tables are printed; None prints the names of the files.

    Raises:
        UserError: No published numbers, or a damaged file.
    """
    published = results / "paper.csv"
    if not published.exists():
        raise UserError(f"{published} is missing: run in the project's folder, or give --results")
    rows = read_rows(rows_folder)
    hashes = {str(row.key): recipe_hash(RECIPES[row.key.cell, row.tier]) for row in rows}
    computed = {str(cell): computed_memory(cell) for cell in CLASSES_CELLS}
    paths = generate(rows_folder, published, results, current_hashes=hashes, memory=computed)
    for tier in TIERS:
        if grouped(rows, tier):
            paths.append(write_page(rows, tier, results, runs, paths))
    for path in paths:
        if show is None:
            print(path)
        elif path.suffix == ".md" and (path.stem in (f"accuracy_{show}", "memory")):
            print(path.read_text("utf-8"))
    return 0
