"""The module of a cell, by its method."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from datamodules.base import DataModule
from repro.cells import Cell, Phase
from repro.methods.base import SpikingModule
from repro.methods.snn_calibration import SnnCalibration
from repro.methods.stbp import Stbp
from repro.methods.surrogate import Surrogate
from repro.methods.tssl_bp import TsslBp
from repro.recipes.fields import ImageRecipe, Recipe, SurrogateRecipe

if TYPE_CHECKING:
    from datamodules.events import EventDataModule

GESTURES: Final = ("dvs128_gesture", "dvs128_gesture_sim", "gesture_smoke_sim")
CLASS_FOLDERS: Final = ("cifar10_dvs", "cifar10_dvs_sim", "digits_dvs_sim")

METHODS: Final[dict[str, Any]] = {
    "tssl_bp": TsslBp,
    "stbp": Stbp,
    "surrogate": Surrogate,
    "snn_calibration": SnnCalibration,
}


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


def make_data(
    recipe: ImageRecipe, seed: int, data_dir: Path | None, skip_damaged: bool = False
) -> DataModule:
    """Return the datamodule of the recipe's data set; nothing is read yet.

    Args:
        recipe: Numbers of the run.
        seed: Of order and augmentation.
        data_dir: Folder of data sets; None for CBP_DATA, else ``data``.
        skip_damaged: Leave damaged recordings of events out.
    """
    shared: Any = {
        "batch_size": recipe.batch_size,
        "seed": seed,
        "augment": recipe.augment,
        "train_images": recipe.train_images,
        "val_images": recipe.val_images,
        "test_images": recipe.test_images,
    }
    if recipe.data in (*GESTURES, *CLASS_FOLDERS):
        return make_events(recipe, data_dir, {**shared, "skip_damaged": skip_damaged})
    if recipe.data == "imagenet":
        from datamodules.imagenet import ImageNetDataModule

        return ImageNetDataModule(data_dir=data_dir, **shared)
    shared |= {"autoaugment": recipe.autoaugment, "cutout": recipe.cutout}
    if recipe.data == "digits":
        from datamodules.digits import DigitsDataModule

        return DigitsDataModule(**shared)
    from datamodules.cifar import CifarDataModule

    dataset: Any = recipe.data
    return CifarDataModule(dataset, data_dir, recipe.normalisation, **shared)


def make_events(recipe: ImageRecipe, data_dir: Path | None, shared: Any) -> "EventDataModule":  # noqa: ANN401
    """Return the datamodule of recordings; a simulated data set is made where it is absent."""
    from datamodules.cifar10_dvs import Cifar10DvsDataModule
    from datamodules.dvs128_gesture import Dvs128GestureDataModule
    from datamodules.simulation.datasets import SIMULATED
    from datamodules.simulation.simulate import simulate

    assert isinstance(recipe, SurrogateRecipe)
    name = recipe.data
    kind: type[EventDataModule] = (
        Dvs128GestureDataModule if name in GESTURES else Cifar10DvsDataModule
    )
    return kind(
        name=name,
        data_dir=data_dir,
        time_steps=recipe.time_steps,
        train_steps=recipe.train_steps,
        binning=recipe.binning,
        spatial_pool=recipe.spatial_pool,
        make=partial(simulate, name, data_dir=data_dir) if name in SIMULATED else None,
        **shared,
    )
