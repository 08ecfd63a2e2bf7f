"""The datamodule of a recipe's data set."""

from functools import partial
from pathlib import Path
from typing import Any, Final

from datamodules.base import DataModule
from datamodules.cifar import CifarDataModule
from datamodules.cifar10_dvs import Cifar10DvsDataModule
from datamodules.digits import DigitsDataModule
from datamodules.dvs128_gesture import Dvs128GestureDataModule
from datamodules.events import EventDataModule
from datamodules.simulation.datasets import SIMULATED
from datamodules.simulation.simulate import simulate
from repro.recipe_fields import ImageRecipe, SurrogateRecipe

RECORDINGS: Final[dict[str, type[EventDataModule]]] = {
    "dvs128_gesture": Dvs128GestureDataModule,
    "dvs128_gesture_sim": Dvs128GestureDataModule,
    "gesture_smoke_sim": Dvs128GestureDataModule,
    "cifar10_dvs": Cifar10DvsDataModule,
    "cifar10_dvs_sim": Cifar10DvsDataModule,
    "digits_dvs_sim": Cifar10DvsDataModule,
}


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
    if recipe.data in RECORDINGS:
        return make_events(recipe, data_dir, {**shared, "skip_damaged": skip_damaged})
    if recipe.data == "imagenet":
        from datamodules.imagenet import ImageNetDataModule

        return ImageNetDataModule(data_dir=data_dir, **shared)
    shared |= {"autoaugment": recipe.autoaugment, "cutout": recipe.cutout}
    if recipe.data == "digits":
        return DigitsDataModule(**shared)
    dataset: Any = recipe.data
    return CifarDataModule(dataset, data_dir, recipe.normalisation, **shared)


def make_events(recipe: ImageRecipe, data_dir: Path | None, shared: Any) -> EventDataModule:  # noqa: ANN401
    """Return the datamodule of recordings; a simulated data set is made where it is absent."""
    assert isinstance(recipe, SurrogateRecipe)
    name = recipe.data
    return RECORDINGS[name](
        name=name,
        data_dir=data_dir,
        time_steps=recipe.time_steps,
        train_steps=recipe.train_steps,
        binning=recipe.binning,
        spatial_pool=recipe.spatial_pool,
        make=partial(simulate, name, data_dir=data_dir) if name in SIMULATED else None,
        **shared,
    )
