"""From a cell and its recipe to its module, its network and its data."""

from pathlib import Path
from typing import Any, Final

from torch import nn

from datamodules.base import DataModule
from datamodules.catalogue import make_datamodule
from repro.cells import Cell, Phase
from repro.methods.base import SpikingModule
from repro.methods.snn_calibration import SnnCalibration
from repro.methods.stbp import Stbp
from repro.methods.surrogate import Surrogate
from repro.methods.tssl_bp import TsslBp
from repro.recipes.fields import ImageRecipe, Recipe

METHODS: Final[dict[str, Any]] = {
    "tssl_bp": TsslBp,
    "stbp": Stbp,
    "surrogate": Surrogate,
    "snn_calibration": SnnCalibration,
}


def build(cell: Cell, recipe: Recipe, classes: int, phase: Phase) -> SpikingModule:
    """Return the LightningModule of a cell with fresh weights for K classes."""
    several = {"network": cell.network} if cell.method == "surrogate" else {}
    module: SpikingModule = METHODS[cell.method](recipe, classes, phase, **several)
    return module


def build_network(cell: Cell, recipe: Recipe, classes: int, phase: Phase) -> nn.Module:
    """Return the network alone; arguments as in `build`."""
    return build(cell, recipe, classes, phase).network


def make_data(
    recipe: ImageRecipe, seed: int, data_dir: Path | None, skip_damaged: bool = False
) -> DataModule:
    """Return the datamodule of the recipe's data set; nothing is read yet."""
    more = {"seed": seed, "data_dir": data_dir, "skip_damaged": skip_damaged}
    return make_datamodule(recipe.data, {**vars(recipe), **more})
