"""Small float64 trainings on one process or two, through ``repro.run.training``; for test_devices.

``python tests/train_together.py FOLDER`` runs every case on two processes, which Lightning starts
from this same command line, and leaves what each process ended with.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor

import repro.methods.base
import repro.run.training
from datamodules.digits import DigitsDataModule
from repro.cells import Precision, RunKey, find_cell
from repro.recipes.fields import Recipe
from repro.recipes.shipped import find_recipe
from repro.recipes.spec import RunSpec
from repro.run.ddp import process_number
from repro.run.places import write_config
from repro.run.training import make_module, train
from repro.run_folder import RunFolder

# The last batch has 11 images: shares of 5 and 6. One process has no image of the last batches of
# 1 validation image and of 1 test image.
BATCH, TRAIN, VAL, TEST = 20, 51, 21, 41
CASES: dict[str, tuple[str, Precision]] = {
    "stbp binary": ("stbp", "binary"),
    "stbp ternary": ("stbp", "ternary"),
    "stbp control": ("stbp", "fp32_control"),
    "tssl_bp pre-training": ("tssl_bp", "fp32"),
    "tssl_bp binary": ("tssl_bp", "binary"),
    "stbp unweighted": ("stbp", "binary"),
    "tssl_bp unweighted": ("tssl_bp", "binary"),
}


class DoubleDigits(DigitsDataModule):
    """Digits in float64."""

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        images, labels = super().on_after_batch_transfer(batch, dataloader_idx)
        return images.double(), labels


def recipe_of(case: str) -> Recipe:
    """The smoke recipe, narrower and shorter, with gains that let so few neurons fire.

    Ternary trains its quantised weights alone.
    """
    method, precision = CASES[case]
    recipe = find_recipe(find_cell(method, "cifar10"), "smoke")
    cbp = replace(recipe.cbp, epochs=3, p_max=2, lr_drop_at_g=2)
    cbp = replace(cbp, train="quantised" if precision == "ternary" else "all")
    sizes: Any = {"width": 1 / 32, "time_steps": 3, "epochs": 3, "batch_size": BATCH}
    if method == "stbp":
        sizes |= {"gain": 4.0}
    else:  # what is dropped is a process's own
        sizes |= {"dropout": 0.0, "clip_norm": 1.0, "conv_gain": 10.0, "linear_gain": 6.0}
        cbp = replace(cbp, lr=0.0002, weight_bound=None)  # its narrow layers exceed 1
    return replace(recipe, cbp=cbp, schedule="step", **sizes)


def train_case(case: str, folder: Path, devices: int, seed: int = 0) -> dict[str, Any]:
    """Train; return what this process ended with."""
    method, precision = CASES[case]
    key, recipe = RunKey(find_cell(method, "cifar10"), precision, seed, "smoke"), recipe_of(case)
    spec = RunSpec(key, recipe)
    counts = {"train_images": TRAIN, "val_images": VAL, "test_images": TEST}
    data = DoubleDigits(batch_size=BATCH, seed=seed, augment=True, **counts)  # type: ignore[arg-type]
    data.setup()
    module = make_module(spec, data.classes, None).double()
    folder.mkdir(parents=True, exist_ok=True)
    write_config(RunFolder(folder), spec)
    history = train(spec, RunFolder(folder), module, data, False, devices)
    rule = history.cbp.loop.rule if history.cbp else None
    return {
        "weights": module.network.state_dict(),
        "rule": rule.state_dict() if rule else {},
        "epochs": history.epochs,
        "files": sorted(path.name for path in folder.iterdir()),
    }


def in_float64(**fields: Any) -> Trainer:
    """Lightning's Trainer with another precision."""
    return Trainer(**fields | {"precision": "64-true"})


def main(folder: Path) -> None:
    """Run all cases on two processes."""
    repro.run.training.Trainer = in_float64  # type: ignore[misc,assignment]
    weighted = repro.methods.base.gradient_factor
    for case in CASES:
        unweighted = case.endswith("unweighted")
        repro.methods.base.gradient_factor = _one if unweighted else weighted
        ended = train_case(case, folder / case, devices=2)
        torch.save(ended, folder / f"{case} {process_number()}.pt")


def _one(images: int, reduction: str, device: torch.device) -> Tensor:
    return torch.ones((), dtype=torch.float64, device=device)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
