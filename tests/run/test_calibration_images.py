"""The images that a conversion calibrates on: the first ones as they are, or augmented ones."""

from dataclasses import replace

import torch

from datamodules.base import ImageDataModule
from repro.build import make_data
from repro.recipes.fields import SnnCalibrationRecipe
from repro.recipes.smoke import SNN_CALIBRATION_DIGITS
from repro.run.conversion import calibration_batches

SIZES = {"batches": 3, "batch_size": 20}


def batches_of(images: str, seed: int = 0) -> list[torch.Tensor]:
    conversion = replace(SNN_CALIBRATION_DIGITS.conversion, images=images, **SIZES)  # type: ignore[arg-type]
    recipe: SnnCalibrationRecipe = replace(
        SNN_CALIBRATION_DIGITS, augment=True, conversion=conversion
    )
    data = make_data(recipe, seed, None)
    assert isinstance(data, ImageDataModule)
    data.setup("fit")
    return list(calibration_batches(data, recipe))


def test_the_first_images_are_those_of_every_seed() -> None:
    first, again = batches_of("first"), batches_of("first", seed=1)
    assert [len(batch) for batch in first] == [20, 20, 20]
    assert all(map(torch.equal, first, again))


def test_augmented_images_follow_the_seed() -> None:
    some, again, other = (batches_of("augmented", seed) for seed in (0, 0, 1))
    assert [len(batch) for batch in some] == [20, 20, 20]
    assert all(map(torch.equal, some, again))
    assert not torch.equal(some[0], other[0])
    assert not torch.equal(some[0], batches_of("first")[0])
