"""Smoke tier: the same code path in seconds, on handwritten digits; a proof of life, no result."""

from dataclasses import replace
from typing import Any, Final

from repro.recipes.fields import ConversionRecipe
from repro.recipes.paper import (
    SNN_CALIBRATION_CIFAR10,
    STBP_CBP,
    STBP_CIFAR10,
    SURROGATE_CBP,
    SURROGATE_CIFAR10_DVS,
    SURROGATE_IMAGENET,
    TSSL_BP_CIFAR10,
)

DIGITS: Final[Any] = {"data": "digits", "width": 1 / 16, "batch_size": 20, "augment": False}
STBP_DIGITS: Final = replace(
    STBP_CIFAR10,
    **DIGITS,
    train_images=600,
    time_steps=4,
    gain=2.0,
    epochs=4,
    optimiser="adam",
    lr=1e-3,
    lr_step=3,
    cbp=replace(STBP_CBP, epochs=4, lr=2e-2, multiplier_lr=2e-3, p_max=2),
)
TSSL_BP_DIGITS: Final = replace(
    TSSL_BP_CIFAR10,
    **DIGITS,
    train_images=800,
    linear_gain=2.0,
    dropout=0.0,
    epochs=4,
    lr=2e-3,
    cbp=replace(TSSL_BP_CIFAR10.cbp, epochs=3, lr=2e-3, multiplier_lr=2e-3, p_max=2),
)
SNN_CALIBRATION_DIGITS: Final = replace(
    SNN_CALIBRATION_CIFAR10,
    **{**DIGITS, "batch_size": 40},
    time_steps=8,
    epochs=8,
    optimiser="adam",
    lr=2e-3,
    autoaugment=False,
    cutout=0,
    dropout=0.0,
    spike_dropout=0.0,
    conversion=ConversionRecipe(pipeline="light", batches=2, batch_size=100),
    cbp=replace(
        SNN_CALIBRATION_CIFAR10.cbp,
        epochs=2,
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
    train_images=300,
    width=1 / 4,
    time_steps=5,
    train_steps=4,
    epochs=3,
    batch_size=10,
    optimiser="adam",
    lr=5e-3,
    cbp=replace(
        SURROGATE_CBP,
        epochs=3,
        optimiser="adam",
        lr=5e-3,
        multiplier_lr=2e-3,
        p_max=2,
        weight_bound=None,  # so narrow networks have weights beyond the published bound, 1
    ),
)
SURROGATE_NMNIST_SMOKE: Final = replace(SURROGATE_DIGITS_DVS, width=1 / 2, train_steps=0)
SURROGATE_GESTURES_SMOKE: Final = replace(
    SURROGATE_DIGITS_DVS,
    data="gesture_smoke_sim",
    train_images=0,
    width=1 / 2,
    time_steps=6,
    train_steps=5,
    epochs=6,
    lr=1e-2,
)
SURROGATE_DIGITS: Final = replace(
    SURROGATE_IMAGENET,
    **DIGITS,
    train_images=600,
    time_steps=2,
    epochs=3,
    optimiser="adam",
    lr=5e-3,
    cbp=SURROGATE_DIGITS_DVS.cbp,
)
# The other half of the code: batch norm to fold, initial potentials to calibrate.
SNN_CALIBRATION_DIGITS_NORM: Final = replace(
    SNN_CALIBRATION_DIGITS,
    batch_norm=True,
    train_images=800,
    epochs=4,
    conversion=replace(SNN_CALIBRATION_DIGITS.conversion, pipeline="potential"),
)
