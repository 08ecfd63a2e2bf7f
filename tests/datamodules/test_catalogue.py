"""Every recipe names a data set that has a datamodule, made with the recipe's numbers."""

from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.catalogue import DATA_SETS
from datamodules.cifar import CifarDataModule
from datamodules.cifar10_dvs import Cifar10DvsDataModule
from datamodules.digits import DigitsDataModule
from datamodules.dvs128_gesture import Dvs128GestureDataModule
from datamodules.events import EventDataModule
from datamodules.imagenet import ImageNetDataModule
from datamodules.nmnist import NAMES, NmnistDataModule
from repro.build import make_data
from repro.cells import Cell, Tier
from repro.recipes.fields import SurrogateRecipe
from repro.recipes.shipped import RECIPES

KINDS = {
    "cifar10": CifarDataModule,
    "cifar100": CifarDataModule,
    "digits": DigitsDataModule,
    "imagenet": ImageNetDataModule,
    "dvs128_gesture": Dvs128GestureDataModule,
    "dvs128_gesture_sim": Dvs128GestureDataModule,
    "gesture_smoke_sim": Dvs128GestureDataModule,
    "cifar10_dvs": Cifar10DvsDataModule,
    "cifar10_dvs_sim": Cifar10DvsDataModule,
    "digits_dvs_sim": Cifar10DvsDataModule,
    **dict.fromkeys(NAMES, NmnistDataModule),
}


@pytest.mark.parametrize(("cell", "tier"), RECIPES, ids=str)
def test_every_recipe_has_a_datamodule(cell: Cell, tier: Tier, tmp_path: Path) -> None:
    recipe = RECIPES[cell, tier]
    data = make_data(recipe, 3, tmp_path)
    assert type(data) is KINDS[recipe.data]
    assert (data.batch_size, data.seed) == (recipe.batch_size, 3)
    if isinstance(data, EventDataModule):
        assert isinstance(recipe, SurrogateRecipe)
        assert data.name == recipe.data
        assert data.simulated == (data.make is not None) == recipe.data.endswith("_sim")
        assert data.train_steps == (recipe.train_steps or recipe.time_steps)
        assert (data.binning, data.spatial_pool) == (recipe.binning, recipe.spatial_pool)
    assert not list(tmp_path.iterdir()), "nothing is read or made before setup"


def test_every_data_set_of_a_recipe_is_known() -> None:
    assert set(KINDS) == set(DATA_SETS)
    first_saccades = {name for name in NAMES if name.endswith("first_saccade")}  # by --data
    assert {recipe.data for recipe in RECIPES.values()} == set(DATA_SETS) - first_saccades


def test_simulated_recordings_are_made_once(tmp_path: Path) -> None:
    (recipe,) = [recipe for recipe in RECIPES.values() if recipe.data == "gesture_smoke_sim"]
    data = make_data(recipe, 0, tmp_path)
    data.setup()
    description = tmp_path / "gesture_smoke_sim" / "simulation.json"
    made = description.stat().st_mtime_ns
    again = make_data(replace(recipe, batch_size=3), 1, tmp_path)
    again.setup()
    assert description.stat().st_mtime_ns == made
    assert again.checksum == data.checksum
    other = make_data(replace(recipe, time_steps=4, train_steps=3), 0, tmp_path)
    other.setup()
    assert other.checksum != data.checksum
