"""Recipes: every number of a run, with its source beside it; the fields are in recipe_fields."""

import dataclasses
import hashlib
import json
from dataclasses import replace
from typing import Final

from repro.cells import Cell, Precision, Tier, find_cell
from repro.errors import UserError
from repro.recipe_fields import (
    CbpRecipe,
    ConversionRecipe,
    Recipe,
    SnnCalibrationRecipe,
    StbpRecipe,
    SurrogateRecipe,
    TsslBpRecipe,
)
from repro.shortened import shorten

# Paper tier: the recipes as published (paper.md section 5; official scripts, grade P).
STBP_CBP: Final = CbpRecipe(
    epochs=100,
    lr=5e-3,
    momentum=0.9,
    multiplier_optimiser="adam",
    multiplier_lr=5e-4,
    clip="value",
    clip_at=1.0,
)
STBP_CIFAR10: Final = StbpRecipe(
    cbp=STBP_CBP,
    data="cifar10",
    time_steps=8,
    decay=0.25,
    epochs=100,
    batch_size=50,
    lr=0.3,
    schedule="step",
    lr_step=45,
)
# The reference normalises CIFAR-100 by CIFAR-10's constants here (departures).
STBP_CIFAR100: Final = replace(STBP_CIFAR10, data="cifar100", decay=0.8)

TSSL_BP_CIFAR10: Final = TsslBpRecipe(
    data="cifar10",
    time_steps=5,
    epochs=150,
    batch_size=50,
    optimiser="adamw",
    lr=2e-4,
    weight_decay=0.01,  # AdamW's default in PyTorch; the scripts name none
    clip_norm=1.0,
    cbp=CbpRecipe(
        epochs=200,
        optimiser="adamw",
        lr=2e-4,
        momentum=0.0,
        weight_decay=0.01,
        multiplier_optimiser="adamw",
        multiplier_lr=1e-4,
        clip="norm",
        clip_at=1.0,
        lr_drop_at_g=0,
        train="quantised",
    ),
)

SNN_CALIBRATION_CIFAR10: Final = SnnCalibrationRecipe(
    data="cifar10",
    time_steps=32,
    epochs=300,
    batch_size=128,
    lr=0.01,
    weight_decay=1e-4,
    schedule="cosine",
    autoaugment=True,
    cutout=16,
    # The reference's conversion keeps the ANN's dropout layers, which then act on spikes.
    spike_dropout=0.25,
    # The reference says 5 batches and visits 7 (departures, Q6).
    conversion=ConversionRecipe(pipeline="light", batches=7, batch_size=128),
    cbp=CbpRecipe(
        epochs=100, lr=0.01, momentum=0.9, weight_decay=1e-4, multiplier_lr=1e-3, clip="value"
    ),
)
SNN_CALIBRATION_CIFAR100: Final = replace(
    SNN_CALIBRATION_CIFAR10, data="cifar100", normalisation="cifar100"
)

# The surrogate scripts clip gradients that still carry the loss scale (departures, Q1).
SURROGATE_CBP: Final = CbpRecipe(
    epochs=200, lr=0.1, momentum=0.9, multiplier_lr=0.01, clip="value", clip_scaled=True
)
SURROGATE_DVS128_GESTURE: Final = SurrogateRecipe(
    data="dvs128_gesture",
    time_steps=16,
    train_steps=12,
    epochs=192,
    batch_size=16,
    lr=1e-3,
    schedule="step",
    lr_step=64,
    augment=False,
    amp=True,
    cbp=SURROGATE_CBP,
)
SURROGATE_CIFAR10_DVS: Final = SurrogateRecipe(
    data="cifar10_dvs",
    time_steps=16,
    epochs=64,
    batch_size=16,
    lr=0.01,
    schedule="cosine",
    augment=False,
    amp=True,
    cbp=replace(SURROGATE_CBP, epochs=64),
)
# FP32: the command in SEW-ResNet's README, 8 GPUs with 32 images each (P). CBP on ImageNet: no
# script was found, Wide-7B-Net's numbers stand in.
SURROGATE_IMAGENET: Final = SurrogateRecipe(
    data="imagenet",
    time_steps=4,
    epochs=320,
    batch_size=256,
    lr=0.1,
    schedule="cosine",
    neuron="if",
    amp=True,
    cbp=replace(SURROGATE_CBP, epochs=64),
)

# Smoke tier: the same code path in seconds, on handwritten digits; a proof of life, not a result.
STBP_DIGITS: Final = replace(
    STBP_CIFAR10,
    data="digits",
    width=1 / 16,
    time_steps=4,
    gain=2.0,
    epochs=5,
    batch_size=20,
    optimiser="adam",
    lr=1e-3,
    lr_step=4,
    augment=False,
    cbp=replace(STBP_CBP, epochs=5, lr=2e-2, multiplier_lr=2e-3, p_max=2),
)
TSSL_BP_DIGITS: Final = replace(
    TSSL_BP_CIFAR10,
    data="digits",
    width=1 / 16,
    linear_gain=2.0,
    dropout=0.0,
    epochs=4,
    batch_size=20,
    lr=2e-3,
    augment=False,
    cbp=replace(TSSL_BP_CIFAR10.cbp, epochs=3, lr=2e-3, multiplier_lr=2e-3, p_max=2),
)
SNN_CALIBRATION_DIGITS: Final = replace(
    SNN_CALIBRATION_CIFAR10,
    data="digits",
    width=1 / 16,
    time_steps=16,
    epochs=8,
    batch_size=20,
    optimiser="adam",
    lr=2e-3,
    augment=False,
    autoaugment=False,
    cutout=0,
    dropout=0.0,
    spike_dropout=0.0,
    conversion=ConversionRecipe(pipeline="light", batches=2, batch_size=100),
    cbp=replace(
        SNN_CALIBRATION_CIFAR10.cbp,
        epochs=3,
        optimiser="adam",
        weight_decay=0.0,
        lr=1e-3,
        multiplier_lr=2e-3,
        p_max=2,
    ),
)
# Digits that move before a simulated event camera.
SURROGATE_DIGITS_DVS: Final = replace(
    SURROGATE_CIFAR10_DVS,
    data="digits_dvs_sim",
    width=1 / 4,
    time_steps=5,
    train_steps=4,
    epochs=3,
    batch_size=10,
    optimiser="adam",
    lr=5e-3,
    cbp=replace(SURROGATE_CBP, epochs=3, optimiser="adam", lr=5e-3, multiplier_lr=2e-3, p_max=2),
)
SURROGATE_GESTURES_SMOKE: Final = replace(
    SURROGATE_DIGITS_DVS,
    data="gesture_smoke_sim",
    width=1 / 2,
    time_steps=6,
    train_steps=5,
    epochs=6,
    lr=1e-2,
)
SURROGATE_DIGITS: Final = replace(
    SURROGATE_IMAGENET,
    data="digits",
    train_images=600,
    width=1 / 16,
    time_steps=2,
    epochs=3,
    batch_size=20,
    optimiser="adam",
    lr=5e-3,
    augment=False,
    cbp=SURROGATE_DIGITS_DVS.cbp,
)
# The other half of the code: batch norm to fold, initial potentials to calibrate.
SNN_CALIBRATION_DIGITS_NORM: Final = replace(
    SNN_CALIBRATION_DIGITS,
    batch_norm=True,
    epochs=4,
    conversion=replace(SNN_CALIBRATION_DIGITS.conversion, pipeline="potential"),
)

# Desk tier: real CIFAR on two CPU cores in minutes, chosen on the validation images alone
# (docs/desk_tier.md). Channels and hidden units by 8, shorter T, fewer images and epochs. The
# multipliers ascend after every epoch (p_max 1), since a desk run has too few for Algorithm 1's 20:
# g ends at 3 or 5, and the learning-rate drop at g = 20 never comes.

# Adam, since SGD at 0.3 or 0.1 needs more epochs than that to leave chance in so narrow a network
# without batch norm; gain 2, since at PyTorch's default initialisation (1) every layer from the
# third on is silent. No augmentation: it costs more epochs than it is worth here.
STBP_CIFAR10_DESK: Final = replace(
    STBP_CIFAR10,
    train_images=10_000,
    val_images=1_000,
    test_images=2_000,
    width=1 / 8,
    time_steps=4,
    gain=2.0,
    epochs=4,
    batch_size=20,
    optimiser="adam",
    lr=5e-4,
    lr_step=3,
    augment=False,
    cbp=replace(STBP_CBP, epochs=2, lr=2e-2, multiplier_lr=1e-3, p_max=1),
)
STBP_CIFAR100_DESK: Final = replace(STBP_CIFAR10_DESK, data="cifar100", decay=0.8)

# A linear gain of 2, since at the reference's initialisation the linear layers of so narrow a
# network are all but silent; no dropout, which costs more epochs than there are.
TSSL_BP_CIFAR10_DESK: Final = replace(
    TSSL_BP_CIFAR10,
    train_images=10_000,
    val_images=1_000,
    test_images=2_000,
    width=1 / 8,
    linear_gain=2.0,
    dropout=0.0,
    epochs=5,
    batch_size=20,
    lr=1e-3,
    schedule="cosine",
    augment=False,
    cbp=replace(TSSL_BP_CIFAR10.cbp, epochs=4, lr=5e-4, multiplier_lr=1e-3, p_max=1),
)

# Batch norm, which the conversion folds into the convolutions: without it thirteen narrow layers
# do not leave chance on 100 classes in so few epochs.
SNN_CALIBRATION_CIFAR10_DESK: Final = replace(
    SNN_CALIBRATION_CIFAR10,
    train_images=20_000,
    val_images=1_000,
    test_images=2_000,
    width=1 / 8,
    time_steps=8,
    batch_norm=True,
    dropout=0.0,
    spike_dropout=0.0,
    epochs=8,
    batch_size=64,
    lr=0.05,
    weight_decay=5e-4,
    autoaugment=False,
    cutout=0,
    conversion=ConversionRecipe(pipeline="light", batches=4, batch_size=128),
    # Adam, since SGD at rates that leave chance in so few epochs (5e-3 and up) diverges at T 8.
    cbp=replace(
        SNN_CALIBRATION_CIFAR10.cbp,
        epochs=2,
        optimiser="adam",
        lr=1e-3,
        weight_decay=0.0,
        multiplier_lr=5e-4,
        p_max=1,
    ),
)
SNN_CALIBRATION_CIFAR100_DESK: Final = replace(
    SNN_CALIBRATION_CIFAR10_DESK, data="cifar100", normalisation="cifar100"
)

# Desk tier of the event cells, chosen on simulated recordings (docs/desk_tier.md), the same for
# recorded ones.
SURROGATE_CIFAR10_DVS_DESK: Final = replace(
    SURROGATE_CIFAR10_DVS,
    data="cifar10_dvs_sim",
    width=1 / 4,
    time_steps=5,
    spatial_pool=4,
    epochs=20,
    optimiser="adam",
    lr=3e-3,
    cbp=replace(SURROGATE_CBP, epochs=8, optimiser="adam", lr=2e-3, multiplier_lr=1e-3, p_max=1),
)
SURROGATE_DVS128_GESTURE_DESK: Final = replace(
    SURROGATE_CIFAR10_DVS_DESK,
    data="dvs128_gesture_sim",
    width=1 / 2,
    time_steps=8,
    train_steps=6,
    epochs=10,
)

RECIPES: Final[dict[tuple[Cell, Tier], Recipe]] = {
    (find_cell("tssl_bp", "cifar10"), "paper"): TSSL_BP_CIFAR10,
    (find_cell("tssl_bp", "cifar10"), "desk"): TSSL_BP_CIFAR10_DESK,
    (find_cell("tssl_bp", "cifar10"), "smoke"): TSSL_BP_DIGITS,
    (find_cell("stbp", "cifar10"), "paper"): STBP_CIFAR10,
    (find_cell("stbp", "cifar10"), "desk"): STBP_CIFAR10_DESK,
    (find_cell("stbp", "cifar10"), "smoke"): STBP_DIGITS,
    (find_cell("stbp", "cifar100"), "paper"): STBP_CIFAR100,
    (find_cell("stbp", "cifar100"), "desk"): STBP_CIFAR100_DESK,
    (find_cell("stbp", "cifar100"), "smoke"): replace(STBP_DIGITS, decay=0.8),
    (find_cell("surrogate", "dvs128_gesture"), "paper"): SURROGATE_DVS128_GESTURE,
    (find_cell("surrogate", "dvs128_gesture"), "desk"): replace(
        SURROGATE_DVS128_GESTURE_DESK, data="dvs128_gesture"
    ),
    (find_cell("surrogate", "dvs128_gesture"), "smoke"): SURROGATE_GESTURES_SMOKE,
    (find_cell("surrogate", "cifar10_dvs"), "paper"): SURROGATE_CIFAR10_DVS,
    (find_cell("surrogate", "cifar10_dvs"), "desk"): replace(
        SURROGATE_CIFAR10_DVS_DESK, data="cifar10_dvs"
    ),
    (find_cell("surrogate", "cifar10_dvs"), "smoke"): SURROGATE_DIGITS_DVS,
    (find_cell("surrogate", "imagenet", "sew_resnet18"), "paper"): SURROGATE_IMAGENET,
    (find_cell("surrogate", "imagenet", "sew_resnet18"), "smoke"): SURROGATE_DIGITS,
    (find_cell("surrogate", "imagenet", "sew_resnet34"), "paper"): SURROGATE_IMAGENET,
    (find_cell("surrogate", "imagenet", "sew_resnet34"), "smoke"): replace(
        SURROGATE_DIGITS, train_images=200
    ),
    (find_cell("surrogate", "dvs128_gesture_sim"), "desk"): SURROGATE_DVS128_GESTURE_DESK,
    (find_cell("surrogate", "cifar10_dvs_sim"), "desk"): SURROGATE_CIFAR10_DVS_DESK,
    (find_cell("snn_calibration", "cifar10"), "paper"): SNN_CALIBRATION_CIFAR10,
    (find_cell("snn_calibration", "cifar10"), "desk"): SNN_CALIBRATION_CIFAR10_DESK,
    (find_cell("snn_calibration", "cifar10"), "smoke"): SNN_CALIBRATION_DIGITS,
    (find_cell("snn_calibration", "cifar100"), "paper"): SNN_CALIBRATION_CIFAR100,
    (find_cell("snn_calibration", "cifar100"), "desk"): SNN_CALIBRATION_CIFAR100_DESK,
    (find_cell("snn_calibration", "cifar100"), "smoke"): SNN_CALIBRATION_DIGITS_NORM,
}

RECIPES.update(
    {
        (cell, "paper_short"): shorten(recipe)
        for (cell, tier), recipe in RECIPES.items()
        if tier == "paper" and recipe.data in ("cifar10", "cifar100")
    }
)

# Parts of a recipe that make no difference to a run, and so not to its name and hash either.
UNUSED: Final[dict[Precision, tuple[str, ...]]] = {
    "ann": ("cbp", "conversion", "time_steps", "spike_dropout"),
    "fp32": ("cbp", "spike_dropout"),
}
# Choices that came later, at what was before them: rows from then keep their hash.
LATER: Final = (("spike_dropout", 0.0), ("matmul", "float32"))


def find_recipe(cell: Cell, tier: Tier) -> Recipe:
    """Return the recipe of a cell at a tier.

    Raises:
        UserError: The cell has none yet; the message lists those that have.
    """
    if (cell, tier) not in RECIPES:
        ready = ", ".join(sorted({str(c) for c, t in RECIPES if t == tier}))
        raise UserError(f"{cell} cannot be run yet at the {tier} tier; ready are {ready}")
    return RECIPES[cell, tier]


def as_dict(recipe: Recipe, precision: Precision) -> dict[str, object]:
    """Return the recipe as nested plain values, for JSON, without what the run does not use."""
    fields = dataclasses.asdict(recipe)
    if "conversion" in fields and fields["conversion"]["pipeline"] != "weights":
        fields["conversion"].pop("weight_steps")
        fields["conversion"].pop("weight_lr")
    left_out = UNUSED.get(precision, ())
    return {k: v for k, v in fields.items() if k not in left_out and (k, v) not in LATER}


def recipe_hash(recipe: Recipe, precision: Precision) -> str:
    """Return the first 16 hex digits of the SHA-256 of ``as_dict`` in canonical JSON."""
    text = json.dumps(as_dict(recipe, precision), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
