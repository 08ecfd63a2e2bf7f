"""The learning rate: a rise by steps, a fall by epochs, and both together, in either phase."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback, Trainer

from repro.build import build, make_data
from repro.cells import Precision, RunKey, find_cell
from repro.errors import UserError
from repro.recipes.fields import ImageRecipe
from repro.recipes.smoke import STBP_DIGITS
from repro.recipes.spec import RunSpec
from repro.run.training import make_trainer

EPOCHS, BATCHES = 3, 4
STEPS = range(EPOCHS * BATCHES)
STBP = find_cell("stbp", "cifar10")


class Rates(Callback):
    """Notes the learning rate of every step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def trained(folder: Path, precision: Precision, recipe: ImageRecipe) -> list[float]:
    """Learning rates of a short training."""
    sizes = {"train_images": BATCHES * recipe.batch_size, "val_images": 10, "test_images": 10}
    recipe = replace(recipe, width=1 / 64, epochs=EPOCHS, **sizes)  # type: ignore[arg-type]
    spec = RunSpec(RunKey(STBP, precision, 0, "smoke"), recipe)  # type: ignore[arg-type]
    rates = Rates()
    trainer = make_trainer(
        spec,
        folder,
        max_epochs=EPOCHS,
        logger=False,
        enable_progress_bar=False,
        callbacks=[rates],
    )
    module = build(STBP, spec.recipe, 10, spec.phase)
    trainer.fit(module, datamodule=make_data(spec.recipe, 0, None))
    return rates.rates


def falling(epoch: int) -> float:
    """A half cosine from 1 to 0."""
    return (1 + math.cos(math.pi * epoch / EPOCHS)) / 2


BOTH = [min(1, (step + 1) / 6) * falling(step // BATCHES) for step in STEPS]


def test_warmup_rises_while_the_cosine_falls(tmp_path: Path) -> None:
    recipe = replace(STBP_DIGITS, lr=1.0, schedule="cosine", warmup_steps=6)
    assert trained(tmp_path, "fp32", recipe) == pytest.approx(BOTH)


def test_each_schedule_alone(tmp_path: Path) -> None:
    def rates(**fields: Any) -> list[float]:
        return trained(tmp_path, "fp32", replace(STBP_DIGITS, lr=1.0, **fields))

    assert rates(schedule="cosine") == pytest.approx([falling(step // BATCHES) for step in STEPS])
    rising = [min(1, (step + 1) / 6) for step in STEPS]
    assert rates(schedule="constant", warmup_steps=6) == pytest.approx(rising)
    assert rates(schedule="constant", warmup_steps=1) == [1.0] * len(STEPS)
    steps = [0.1 ** (step // BATCHES) for step in STEPS]
    assert rates(schedule="step", lr_step=1) == pytest.approx(steps)


def test_the_cbp_phase_has_its_own(tmp_path: Path) -> None:
    recipe = replace(STBP_DIGITS, schedule="cosine", warmup_steps=6)
    assert trained(tmp_path, "fp32_control", recipe) == [recipe.cbp.lr] * len(STEPS)
    own = replace(recipe.cbp, epochs=EPOCHS, lr=1.0, schedule="cosine", warmup_steps=6)
    plain = replace(STBP_DIGITS, schedule="constant", cbp=own)
    assert trained(tmp_path, "fp32_control", plain) == pytest.approx(BOTH)


def test_the_cbp_phase_has_its_own_batch_size() -> None:
    recipe = replace(STBP_DIGITS, cbp=replace(STBP_DIGITS.cbp, batch_size=7))
    sizes = {
        precision: RunSpec(RunKey(STBP, precision, 0, "smoke"), recipe).batch_size
        for precision in ("fp32", "fp32_control", "binary")
    }
    assert sizes == {"fp32": recipe.batch_size, "fp32_control": 7, "binary": 7}


def test_recipes_without_these_keep_their_hash() -> None:
    key = RunKey(STBP, "binary", 0, "smoke")
    values = RunSpec(key, STBP_DIGITS).values
    assert "warmup_steps" not in values
    assert not {"schedule", "warmup_steps", "batch_size"} & set(values["cbp"])
    warm = RunSpec(key, replace(STBP_DIGITS, warmup_steps=900))
    assert warm.values["warmup_steps"] == 900


def test_a_negative_warmup_is_refused() -> None:
    with pytest.raises(UserError, match="warmup_steps"):
        replace(STBP_DIGITS, warmup_steps=-1)
