"""Packed files as runs of the smoke tier leave them, without the training."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from repro.build import build_network
from repro.cbp.layers import convert, prepare
from repro.cells import RunKey, find_cell
from repro.packing import pack
from repro.recipes.shipped import find_recipe
from repro.recipes.spec import RunSpec

KEY = RunKey(find_cell("stbp", "cifar10"), "binary", 0, "smoke")


def cell_file(folder: Path, width: float | None = None, seed: int = 0) -> Path:
    """A file as a run of the smoke tier leaves it, without the training."""
    recipe = find_recipe(KEY.cell, KEY.tier)
    recipe = replace(recipe, width=width or recipe.width)
    torch.manual_seed(seed)
    network = build_network(KEY.cell, recipe, 10, "cbp")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4)  # so that the last layer fires
    prepare(network, "binary")
    levels = {f"{name}.weight": layer for name, layer in convert(network).items()}
    folder.mkdir(exist_ok=True)
    path = folder / "model.safetensors"
    spec = RunSpec(KEY, recipe)
    named = {"run": str(KEY), "recipe_hash": spec.hash}
    pack(path, network.state_dict(), levels, named)
    config = {"key": str(KEY), "recipe": spec.values, "recipe_hash": spec.hash, "trained": True}
    (folder / "config.json").write_text(json.dumps(config))
    return path
