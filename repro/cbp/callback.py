"""CBP as a Lightning callback: Algorithm 1 hung on the events of any training."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from repro.cbp.layers import Arithmetic, Scale, prepare, prepared_layers
from repro.cbp.levels import Levels
from repro.cbp.multiplier import AscentRule, Multipliers
from repro.cbp.selection import LevelChoice
from repro.errors import UserError


class Cbp(Callback):
    """Drive the weights of a pre-trained network to levels while it trains on.

    ``setup`` prepares the module's layers, before Lightning restores a checkpoint. Every batch, the
    multipliers' slope joins the gradients (after unscaling and all-reduce), gradients are clipped,
    latent weights clamped after the step. Every epoch, Algorithm 1 decides whether the multipliers
    ascend. After ``fit``, ``repro.cbp.layers.convert`` leaves plain modules that hold levels.

    Leave ``gradient_clip_val`` of the Trainer unset: the clip belongs between slope and step, and
    is done here.

    With several processes (Lightning's ``ddp``), each has all weights and multipliers. Their
    Lagrangians are averaged, so all decide alike, and each sees the gradients of the whole batch.
    What is asked of the module is what DistributedDataParallel asks: the mean over the processes
    of ``training_step``'s loss is the loss of the whole batch.

    Attributes:
        layers: Levels of the prepared layers by name, from ``setup`` on.
        report: Figures of the last epoch in full precision (Lightning logs float32): Lagrangian
            summed over the epoch, CFS, g, and whether the multipliers ascended.
    """

    def __init__(
        self,
        levels: LevelChoice = "binary",
        *,
        multiplier_lr: float,
        multiplier_optimiser: Literal["adam", "adamw"] = "adam",
        p_max: int = 20,
        window: bool = True,
        lr_drop_at_g: int = 20,
        lr_drop: float = 0.1,
        clip: Literal["value", "norm", "none"] = "value",
        clip_at: float = 1.0,
        clip_scaled: bool = False,
        train: Literal["all", "quantised"] = "all",
        weight_bound: float = 1.0,
        keep: Collection[str] | None = None,
        layers: Collection[str] = ("*",),
        exclude: Collection[str] = (),
        scale: Scale = "layer",
        arithmetic: Arithmetic = "float32",
    ) -> None:
        """Keep the numbers; nothing happens before ``setup``.

        Args:
            levels: As in ``repro.cbp.layers.prepare``.
            multiplier_lr: Learning rate of the multipliers; 0 for straight-through training alone.
            multiplier_optimiser: Their optimiser.
            p_max: They ascend after so many epochs at the latest.
            window: Whether the unconstrained window applies.
            lr_drop_at_g: Value of g at which the weights' learning rate drops; 0 for never.
            lr_drop: Factor of that drop.
            clip: Clip gradients by value or by global norm.
            clip_at: Bound of the clip.
            clip_scaled: Clip while gradients carry the AMP loss scale, as the reference's surrogate
                scripts do (departures, Q1): the bound is then ``clip_at`` over the loss scale.
            train: ``quantised`` freezes every parameter but the latent weights.
            weight_bound: Latent weights are clamped to plus or minus this after every batch.
            keep: Patterns of layers that stay FP32; by default the first and the last.
            layers: Patterns of the layers to quantise.
            exclude: Patterns of further layers that stay FP32.
            scale: One scale per ``layer``, or per ``channel``.
            arithmetic: As in ``prepare``.
        """
        self.levels, self.scale, self.arithmetic, self.train = levels, scale, arithmetic, train
        self.keep, self.patterns, self.exclude = keep, layers, exclude
        self.multiplier_lr, self.multiplier_optimiser = multiplier_lr, multiplier_optimiser
        self.p_max, self.window = p_max, window
        self.lr_drop_at_g, self.lr_drop = lr_drop_at_g, lr_drop
        self.clip, self.clip_at, self.clip_scaled = clip, clip_at, clip_scaled
        self.weight_bound = weight_bound
        self.layers: dict[str, Levels] = {}
        self.report: dict[str, float] = {}
        self._rule: AscentRule | None = None
        self._weights: list[Tensor] = []
        self._restored: dict[str, Any] | None = None
        self._penalty: float | Tensor = 0.0
        self._lagrangian_sum: float | Tensor = 0.0

    @property
    def multipliers(self) -> Multipliers:
        """Multipliers, g and p; there from the start of ``fit``."""
        if not isinstance(self._rule, Multipliers):
            raise RuntimeError("the multipliers exist from the start of Trainer.fit")
        return self._rule

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepare the layers once.

        Raises:
            UserError: The Trainer clips gradients too, or the network cannot be prepared.
        """
        if trainer.gradient_clip_val is not None:
            raise UserError(
                "Cbp clips the gradients itself: leave gradient_clip_val of Trainer unset"
            )
        if stage != "fit" or self._weights:
            return
        self._weights = self._choose(pl_module)
        if self.train == "quantised":
            trained = {id(weight) for weight in self._weights}
            for parameter in pl_module.parameters():
                parameter.requires_grad_(id(parameter) in trained)

    def _choose(self, module: LightningModule) -> list[Tensor]:
        """Prepare the layers; return their latent weights."""
        self.layers = prepare(
            module,
            self.levels,
            keep=self.keep,
            layers=self.patterns,
            exclude=self.exclude,
            scale=self.scale,
            arithmetic=self.arithmetic,
        )
        return [latent for latent, _ in prepared_layers(module).values()]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the multipliers, or restore them; the weights are on the device by now."""
        if len(trainer.optimizers) != 1:
            raise UserError(f"Cbp takes one optimiser, the module has {len(trainer.optimizers)}")
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler and getattr(trainer.optimizers[0], "_step_supports_amp_scaling", False):
            raise UserError(
                "a fused optimiser undoes AMP's loss scale inside its step, after Cbp has clipped: "
                "make the optimiser with fused=False"
            )
        if self._rule is not None and self._restored is None:
            return  # a second fit goes on where the first ended
        self._rule = self._make_rule(pl_module)
        if self._restored is not None:
            self._rule.load_state_dict(self._restored)
            self._restored = None

    def _make_rule(self, module: LightningModule) -> AscentRule:
        """Return the multipliers of the prepared layers."""
        latents: dict[str, tuple[Tensor, Tensor]] = {
            name: (latent, quantiser.values)
            for name, (latent, quantiser) in prepared_layers(module).items()
        }
        return Multipliers(
            latents,
            lr=self.multiplier_lr,
            optimiser=self.multiplier_optimiser,
            p_max=self.p_max,
            window=self.window,
        )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's sum."""
        self._lagrangian_sum = torch.zeros((), dtype=torch.float64, device=pl_module.device)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Add the slopes of the constraint to the gradients and clip them."""
        bound = self.clip_at / _loss_scale(trainer) if self.clip_scaled else self.clip_at
        clipped = self._add_slopes(bound if self.clip == "value" else float("inf"))
        if self.clip == "norm":
            clip_grad_norm_(pl_module.parameters(), bound)
        elif self.clip == "value":
            graded = [p for p in pl_module.parameters() if p.grad is not None]
            if rest := [p for p in graded if id(p) not in clipped]:
                clip_grad_value_(rest, bound)

    def _add_slopes(self, bound: float) -> set[int]:
        """Add the slopes, clip by value in the same pass; return the ids of the clipped weights."""
        self._penalty = self.multipliers.add_slopes_(bound)
        return {id(weight) for weight in self._weights}

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,  # noqa: ANN401  (Lightning's signature)
        batch_idx: int,
    ) -> None:
        """Add up the Lagrangian on the device; clamp the latent weights."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        assert loss is not None
        self._lagrangian_sum = self._lagrangian_sum + loss.detach().double() + self._penalty
        for weight in self._weights:
            weight.clamp_(-self.weight_bound, self.weight_bound)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Apply Algorithm 1's rule; every rank sees the same mean Lagrangian."""
        assert isinstance(self._lagrangian_sum, Tensor)
        assert self._rule is not None
        total = float(trainer.strategy.reduce(self._lagrangian_sum, reduce_op="mean"))
        ascended = self._rule.end_epoch(total)
        if ascended and self._rule.g == self.lr_drop_at_g:
            for group in trainer.optimizers[0].param_groups:
                group["lr"] *= self.lr_drop
        self.report = self._figures(total, ascended)
        pl_module.log_dict(self.report, sync_dist=True)  # equal already; else Lightning warns

    def _figures(self, lagrangian: float, ascended: bool) -> dict[str, float]:
        """Return the figures of an epoch."""
        return {
            "cbp/lagrangian": lagrangian,
            "cbp/cfs": self.multipliers.failure_score(),
            "cbp/g": float(self.multipliers.g),
            "cbp/ascended": float(ascended),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the multipliers, their optimiser, g, p and the previous sum."""
        return {} if self._rule is None else self._rule.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the restored state until the multipliers are made."""
        self._restored = state_dict or None


def _loss_scale(trainer: Trainer) -> float:
    """Return the AMP loss scale, 1 without AMP."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())
