"""Recipes: every number of a run, with its source beside it."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Final, Literal

from repro.cells import Cell, Precision, Tier, find_cell
from repro.errors import UserError

DATA: Final = ("cifar10", "cifar100", "digits")


def require_positive(recipe: object, *names: str) -> None:
    """Raise a UserError for a field that is not a number above 0."""
    for name in names:
        if not 0 < getattr(recipe, name) < float("inf"):
            raise UserError(f"{name} is {getattr(recipe, name)}: give a number above 0")


def require_at_least_0(recipe: object, *names: str) -> None:
    """Raise a UserError for a field that is not a number from 0."""
    for name in names:
        if not 0 <= getattr(recipe, name) < float("inf"):
            raise UserError(f"{name} is {getattr(recipe, name)}: give 0 or more")


@dataclass(frozen=True)
class CbpRecipe:
    """Numbers of the CBP phase (Algorithm 1), the four variants of the reference included.

    Attributes:
        epochs: Passes over the training data.
        lr: Learning rate of the weights.
        momentum: Momentum of the weights' SGD.
        multiplier_optimiser: Optimiser of the multipliers.
        multiplier_lr: Learning rate of the multipliers; 0 leaves plain straight-through training.
        p_max: Epochs after which the multipliers ascend at the latest.
        window: Whether the unconstrained window applies (off: g stays at infinity).
        lr_drop_at_g: Value of g at which the weights' learning rate drops; 0 for never.
        lr_drop: Factor of that drop.
        clip: Clip gradients by value, by global norm, or not at all.
        clip_at: Bound of the clip.
        clip_scaled: Clip while AMP gradients still carry the loss scale (the reference's quirk Q1).
        train: Which parameters train: all of them or the quantised weights only.
        weight_bound: Latent weights are clamped to plus or minus this after every batch.
        arithmetic: ``float32``, or ``spikes_bf16``: level codes and spikes multiplied in bfloat16,
            everything else in float32.
    """

    epochs: int
    lr: float
    momentum: float
    multiplier_lr: float
    multiplier_optimiser: Literal["adam", "adamw"] = "adam"
    p_max: int = 20
    window: bool = True
    lr_drop_at_g: int = 20
    lr_drop: float = 0.1
    clip: Literal["value", "norm", "none"] = "value"
    clip_at: float = 1.0
    clip_scaled: bool = False
    train: Literal["all", "quantised"] = "all"
    weight_bound: float = 1.0
    arithmetic: Literal["float32", "spikes_bf16"] = "float32"

    def __post_init__(self) -> None:
        """Refuse numbers that no run can use."""
        require_positive(self, "epochs", "lr", "p_max", "lr_drop", "clip_at", "weight_bound")
        require_at_least_0(self, "momentum", "multiplier_lr", "lr_drop_at_g")


@dataclass(frozen=True)
class StbpRecipe:
    """Numbers of an STBP run.

    Attributes:
        cbp: The CBP phase.
        data: Data set that is read: ``cifar10``, ``cifar100`` or ``digits``.
        train_images: Training images used, the first of the split; 0 for all.
        val_images: Validation images used; 0 for all.
        test_images: Test images used, the first ones; 0 for all.
        width: Channels and hidden units as a fraction of the paper's.
        time_steps: T.
        threshold: Membrane potential above which a neuron fires.
        decay: Factor of the membrane potential from step to step, 0 to 1.
        window: Half-width of the rectangular surrogate gradient.
        gain: Factor on the initial weights of PyTorch's default initialisation.
        epochs: Passes over the training data of the FP32 phase.
        batch_size: Images a step.
        optimiser: Optimiser of the FP32 phase; CBP always steps with SGD.
        lr: Its learning rate.
        momentum: Momentum of SGD.
        lr_step: The learning rate falls by ``lr_gamma`` every so many epochs.
        lr_gamma: That factor.
        augment: Random crop (padding 4) and horizontal flip.
    """

    cbp: CbpRecipe
    data: str
    train_images: int = 0
    val_images: int = 0
    test_images: int = 0
    width: float = 1.0
    time_steps: int = 8
    threshold: float = 0.5
    decay: float = 0.25
    window: float = 0.5
    gain: float = 1.0
    epochs: int = 100
    batch_size: int = 50
    optimiser: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.3
    momentum: float = 0.9
    lr_step: int = 45
    lr_gamma: float = 0.1
    augment: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that no run can use."""
        require_positive(self, "width", "time_steps", "threshold", "window", "gain", "epochs")
        require_positive(self, "batch_size", "lr", "lr_step", "lr_gamma")
        require_at_least_0(self, "train_images", "val_images", "test_images", "decay", "momentum")
        if self.decay > 1:
            raise UserError(f"decay is {self.decay}: give a number from 0 to 1")
        if self.data not in DATA:
            raise UserError(f"data is {self.data!r}: one of {', '.join(DATA)}")


Recipe = StbpRecipe

# Paper tier: the recipe as published (paper.md section 5; official scripts, grade P).
STBP_CBP: Final = CbpRecipe(
    epochs=100,
    lr=5e-3,
    momentum=0.9,
    multiplier_optimiser="adam",
    multiplier_lr=5e-4,
    clip="value",
    clip_at=1.0,
)
STBP_CIFAR10: Final = StbpRecipe(cbp=STBP_CBP, data="cifar10", decay=0.25)

# Smoke tier: the same code path in seconds, on handwritten digits; a proof of life, not a result.
STBP_DIGITS: Final = dataclasses.replace(
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
    cbp=dataclasses.replace(STBP_CBP, epochs=5, lr=2e-2, multiplier_lr=2e-3, p_max=2),
)

# Desk tier: real CIFAR-10 on two CPU cores in minutes; chosen on the validation images alone.
# Narrower: channels and hidden units by 8, T 4 instead of 8, 10,000 of 45,000 training images, 7
# epochs instead of 100, and no augmentation, which costs more epochs than it is worth here. Adam,
# since SGD at 0.3 or 0.1 needs more epochs than that to leave chance in so narrow a network without
# batch norm; gain 2, since at PyTorch's default initialisation (1) every layer from the third on is
# silent.
STBP_CIFAR10_DESK: Final = dataclasses.replace(
    STBP_CIFAR10,
    train_images=10_000,
    val_images=1_000,
    test_images=2_000,
    width=1 / 8,
    time_steps=4,
    gain=2.0,
    epochs=7,
    batch_size=20,
    optimiser="adam",
    lr=5e-4,
    lr_step=5,
    augment=False,
    # 5 epochs with an ascent every second one reach g = 3: the lr drop at g = 20 never comes.
    cbp=dataclasses.replace(STBP_CBP, epochs=5, lr=2e-2, multiplier_lr=1e-3, p_max=2),
)

RECIPES: Final[dict[tuple[Cell, Tier], Recipe]] = {
    (find_cell("stbp", "cifar10"), "paper"): STBP_CIFAR10,
    (find_cell("stbp", "cifar10"), "desk"): STBP_CIFAR10_DESK,
    (find_cell("stbp", "cifar10"), "smoke"): STBP_DIGITS,
}


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
    """Return the recipe as nested plain values, for JSON; an FP32 run has no ``cbp`` part."""
    fields = dataclasses.asdict(recipe)
    if precision == "fp32":
        del fields["cbp"]
    return fields


def recipe_hash(recipe: Recipe, precision: Precision) -> str:
    """Return the first 16 hex digits of the SHA-256 of ``as_dict`` in canonical JSON."""
    text = json.dumps(as_dict(recipe, precision), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
