"""Numbers of CBP (Algorithm 1), shared by callback, plain loop and recipes; read without torch."""

from dataclasses import dataclass
from typing import Final, Literal

from repro.errors import UserError

Arithmetic = Literal["float32", "codes", "spikes_bf16"]
Clip = Literal["value", "norm", "none"]
Trained = Literal["all", "quantised"]
Scale = Literal["layer", "channel", "layer_rms", "channel_rms"]
"""One scale per layer or per output channel: mean |w|, or its root mean square."""
BOUND_IN_LEVELS: Final = 10  # default bound of latent weights; follows the scale of a layer


@dataclass(frozen=True, kw_only=True)
class CbpSettings:
    """Numbers of Algorithm 1, the variants of the reference included.

    Attributes:
        multiplier_lr: Learning rate of the multipliers; 0 leaves plain straight-through training.
        multiplier_optimiser: Optimiser of the multipliers.
        p_max: Decisions after which the multipliers ascend at the latest; the paper decides at the
            end of every epoch.
        window: Whether the unconstrained window applies (off: g stays at infinity).
        lr_drop_at_g: Value of g at which the weights' learning rate drops; 0 for never.
        lr_drop: Factor of that drop.
        clip: Clip gradients by value, by global norm, or not at all.
        clip_at: Bound of the clip.
        clip_scaled: Clip while AMP gradients still carry the loss scale (the reference's quirk Q1).
        train: Which parameters train: all of them or the quantised weights only.
        weight_bound: Latent weights are clamped to plus or minus this after every batch; None for
            `BOUND_IN_LEVELS` times the largest level of their layer. The paper's recipes have 1.
        arithmetic: ``float32`` multiplies by quantised weights; ``codes`` adds up level codes over
            spikes, exactly, and multiplies the sum by the scale; ``spikes_bf16`` multiplies codes
            and spikes in bfloat16. Everything else is float32.
        period: Steps from one decision of Algorithm 1's rule to the next; 0 for an epoch, the
            paper's.
    """

    multiplier_lr: float
    multiplier_optimiser: Literal["adam", "adamw"] = "adam"
    p_max: int = 20
    window: bool = True
    lr_drop_at_g: int = 20
    lr_drop: float = 0.1
    clip: Clip = "value"
    clip_at: float = 1.0
    clip_scaled: bool = False
    train: Trained = "all"
    weight_bound: float | None = None
    arithmetic: Arithmetic = "float32"
    period: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use."""
        require_positive(self, "p_max", "lr_drop", "clip_at")
        if self.weight_bound is not None:
            require_positive(self, "weight_bound")
        require_at_least_0(self, "multiplier_lr", "lr_drop_at_g", "period")


def require_positive(fields: object, *names: str) -> None:
    """Raise a UserError for a field that is not a number above 0."""
    for name in names:
        if not 0 < getattr(fields, name) < float("inf"):
            raise UserError(f"{name} is {getattr(fields, name)}: give a number above 0")


def require_at_least_0(fields: object, *names: str) -> None:
    """Raise a UserError for a field that is not a number from 0."""
    for name in names:
        if not 0 <= getattr(fields, name) < float("inf"):
            raise UserError(f"{name} is {getattr(fields, name)}: give 0 or more")
