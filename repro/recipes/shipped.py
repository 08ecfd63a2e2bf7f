"""All recipes by cell and tier; every number has its source beside it, in the file of its tier."""

from dataclasses import replace
from typing import Final

from repro.cells import Cell, Tier, find_cell
from repro.errors import UserError
from repro.recipes import desk, paper, smoke
from repro.recipes.fields import Recipe
from repro.recipes.paper_short import shorten

RECIPES: Final[dict[tuple[Cell, Tier], Recipe]] = {
    (find_cell("tssl_bp", "cifar10"), "paper"): paper.TSSL_BP_CIFAR10,
    (find_cell("tssl_bp", "cifar10"), "desk"): desk.TSSL_BP_CIFAR10_DESK,
    (find_cell("tssl_bp", "cifar10"), "smoke"): smoke.TSSL_BP_DIGITS,
    (find_cell("stbp", "cifar10"), "paper"): paper.STBP_CIFAR10,
    (find_cell("stbp", "cifar10"), "desk"): desk.STBP_CIFAR10_DESK,
    (find_cell("stbp", "cifar10"), "smoke"): smoke.STBP_DIGITS,
    (find_cell("stbp", "cifar100"), "paper"): paper.STBP_CIFAR100,
    (find_cell("stbp", "cifar100"), "desk"): desk.STBP_CIFAR100_DESK,
    (find_cell("stbp", "cifar100"), "smoke"): replace(smoke.STBP_DIGITS, decay=0.8),
    (find_cell("surrogate", "dvs128_gesture"), "paper"): paper.SURROGATE_DVS128_GESTURE,
    (find_cell("surrogate", "dvs128_gesture"), "desk"): replace(
        desk.SURROGATE_DVS128_GESTURE_DESK, data="dvs128_gesture"
    ),
    (find_cell("surrogate", "dvs128_gesture"), "smoke"): smoke.SURROGATE_GESTURES_SMOKE,
    (find_cell("surrogate", "cifar10_dvs"), "paper"): paper.SURROGATE_CIFAR10_DVS,
    (find_cell("surrogate", "cifar10_dvs"), "desk"): replace(
        desk.SURROGATE_CIFAR10_DVS_DESK, data="cifar10_dvs"
    ),
    (find_cell("surrogate", "cifar10_dvs"), "smoke"): smoke.SURROGATE_DIGITS_DVS,
    (find_cell("surrogate", "imagenet", "sew_resnet18"), "paper"): paper.SURROGATE_IMAGENET,
    (find_cell("surrogate", "imagenet", "sew_resnet18"), "smoke"): smoke.SURROGATE_DIGITS,
    (find_cell("surrogate", "imagenet", "sew_resnet34"), "paper"): paper.SURROGATE_IMAGENET,
    (find_cell("surrogate", "imagenet", "sew_resnet34"), "smoke"): replace(
        smoke.SURROGATE_DIGITS, train_images=200
    ),
    (find_cell("surrogate", "nmnist"), "paper"): paper.SURROGATE_NMNIST,
    (find_cell("surrogate", "nmnist"), "desk"): desk.SURROGATE_NMNIST_DESK,
    (find_cell("surrogate", "nmnist"), "smoke"): smoke.SURROGATE_NMNIST_SMOKE,
    (find_cell("surrogate", "dvs128_gesture_sim"), "desk"): desk.SURROGATE_DVS128_GESTURE_DESK,
    (find_cell("surrogate", "cifar10_dvs_sim"), "desk"): desk.SURROGATE_CIFAR10_DVS_DESK,
    (find_cell("snn_calibration", "cifar10"), "paper"): paper.SNN_CALIBRATION_CIFAR10,
    (find_cell("snn_calibration", "cifar10"), "desk"): desk.SNN_CALIBRATION_CIFAR10_DESK,
    (find_cell("snn_calibration", "cifar10"), "smoke"): smoke.SNN_CALIBRATION_DIGITS,
    (find_cell("snn_calibration", "cifar100"), "paper"): paper.SNN_CALIBRATION_CIFAR100,
    (find_cell("snn_calibration", "cifar100"), "desk"): desk.SNN_CALIBRATION_CIFAR100_DESK,
    (find_cell("snn_calibration", "cifar100"), "smoke"): smoke.SNN_CALIBRATION_DIGITS_NORM,
}

RECIPES.update(
    {
        (cell, "paper_short"): shorten(recipe)
        for (cell, tier), recipe in RECIPES.items()
        if tier == "paper" and recipe.data in ("cifar10", "cifar100")
    }
)


def find_recipe(cell: Cell, tier: Tier) -> Recipe:
    """Return the recipe of a cell at a tier.

    Raises:
        UserError: The cell has none yet; the message lists those that have.
    """
    if (cell, tier) not in RECIPES:
        ready = ", ".join(sorted({str(c) for c, t in RECIPES if t == tier}))
        raise UserError(f"{cell} cannot be run yet at the {tier} tier; ready are {ready}")
    return RECIPES[cell, tier]
