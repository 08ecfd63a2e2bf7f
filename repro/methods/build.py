"""The module of a cell, by its method."""

from typing import Any, Final

from torch import nn

from repro.cells import Cell, RunKey
from repro.methods.base import Phase, SpikingModule
from repro.methods.snn_calibration import SnnCalibration
from repro.methods.stbp import Stbp
from repro.methods.surrogate import Surrogate
from repro.methods.tssl_bp import TsslBp
from repro.recipe_fields import Recipe

METHODS: Final[dict[str, Any]] = {
    "tssl_bp": TsslBp,
    "stbp": Stbp,
    "surrogate": Surrogate,
    "snn_calibration": SnnCalibration,
}


def phase_of(key: RunKey) -> Phase:
    """Return the phase of a run."""
    if key.has_cbp_phase:
        return "cbp"
    return "ann" if key.precision == "ann" else "pretrain"


def build(cell: Cell, recipe: Recipe, classes: int, phase: Phase) -> SpikingModule:
    """Return the LightningModule of a cell with fresh weights.

    Args:
        cell: Its method decides, and its network where the method has several.
        recipe: Numbers of the run; of the kind that the method takes.
        classes: K.
        phase: See `SpikingModule`.
    """
    several = {"network": cell.network} if cell.method == "surrogate" else {}
    module: SpikingModule = METHODS[cell.method](recipe, classes, phase, **several)
    return module


def build_network(cell: Cell, recipe: Recipe, classes: int, phase: Phase) -> nn.Module:
    """Return the network alone; arguments as in `build`."""
    return build(cell, recipe, classes, phase).network
