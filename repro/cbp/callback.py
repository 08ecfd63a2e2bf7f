"""CBP and its FP32 control as Lightning callbacks: thin clients of ``repro.cbp.loop``."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelPruning, StochasticWeightAveraging, WeightAveraging
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from pytorch_lightning.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from repro.cbp.layers import find_layers, plan, prepare, prepared_layers
from repro.cbp.loop import CbpLoop, Loop, freeze_but, make_settings
from repro.cbp.multiplier import AscentRule, Multipliers
from repro.cbp.selection import LevelChoice
from repro.cbp.settings import CbpSettings, Scale
from repro.errors import UserError


class PhaseCallback(Callback, ABC):
    """What ``Cbp`` and ``Control`` share: when the loop's methods are called, and its state.

    Attributes:
        settings: Numbers of Algorithm 1.
        report: Figures of the last epoch in full precision (Lightning logs float32), see
            `repro.cbp.loop.Loop.end_epoch`; their names start with ``cbp/``.
    """

    def __init__(
        self,
        levels: LevelChoice = "binary",
        *,
        keep: Collection[str] | None = None,
        layers: Collection[str] = ("*",),
        exclude: Collection[str] = (),
        example: Any = None,  # noqa: ANN401
        scale: Scale = "layer",
        settings: CbpSettings | None = None,
        **fields: Any,  # noqa: ANN401
    ) -> None:
        """Keep the choice of layers and the numbers; nothing happens before ``setup``.

        Args:
            levels: As in ``repro.cbp.layers.prepare``.
            keep: Patterns of layers that stay FP32; by default the first and the last.
            layers: Patterns of the layers to quantise.
            exclude: Patterns of further layers that stay FP32.
            example: Input of the module, as in ``prepare``.
            scale: As in ``prepare``.
            settings: Numbers of Algorithm 1; or give its fields.
            fields: Fields of `repro.cbp.settings.CbpSettings`: ``multiplier_lr``, ``p_max``,
                ``clip``, ...

        Raises:
            UserError: A field is unknown, missing or out of range.
        """
        self.settings = make_settings(fields) if settings is None else settings
        self.levels = levels
        self.choice: dict[str, Any] = {
            "keep": keep,
            "layers": layers,
            "exclude": exclude,
            "example": example,
        }
        self.scale = scale
        self.report: dict[str, float] = {}
        self._loop: Loop | None = None
        self._module: LightningModule | None = None
        self._latents: dict[str, tuple[Tensor, Tensor]] = {}
        self._frozen: list[nn.Parameter] = []
        self._restored: dict[str, Any] | None = None
        self._has_gradients = False

    @abstractmethod
    def choose(self, module: LightningModule) -> dict[str, tuple[Tensor, Tensor]]:
        """Make the module ready; return weights and scaled levels by layer name."""

    @abstractmethod
    def make_loop(
        self, module: LightningModule, optimizer: Optimizer, schedulers: list[Any]
    ) -> Loop:
        """Return the loop of a fit that begins."""

    @property
    def loop(self) -> Loop:
        """The loop; there from the start of ``fit``."""
        if self._loop is None:
            raise RuntimeError("the loop exists from the start of Trainer.fit")
        return self._loop

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the module ready, before Lightning restores a checkpoint.

        Raises:
            UserError: The Trainer or the module trains in a way that CBP cannot join, or the
                network cannot be prepared.
        """
        if stage != "fit":
            return
        _require_joinable(trainer, pl_module)
        if pl_module is not self._module:
            self._loop, self._module = None, pl_module
        self._latents = self.choose(pl_module)
        rank_zero_info(_in_words(pl_module, self._latents, self.choice))
        if self.settings.train == "quantised":
            weights = [weight for weight, _ in self._latents.values()]
            self._frozen = freeze_but(pl_module, weights)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let train again what was frozen for the fit."""
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the loop, or restore it; the weights are on the device by now."""
        if len(trainer.optimizers) != 1:
            raise UserError(f"Cbp takes one optimiser, the module has {len(trainer.optimizers)}")
        optimizer = trainer.optimizers[0]
        if _scaler(trainer) and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise UserError(
                "a fused optimiser undoes AMP's loss scale inside its step, after Cbp has clipped: "
                "make the optimiser with fused=False"
            )
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        before, self._loop = self._loop, self.make_loop(pl_module, optimizer, schedulers)
        if self._restored is not None:
            self._loop.load_state_dict(self._restored)
            self._restored = None
        elif before is not None and before.is_of(self._loop.weights):
            self._loop.load_state_dict(before.state_dict())  # a second fit continues the first

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401  (Lightning's signature)
        batch_idx: int,
    ) -> None:
        """End an epoch that was resumed behind its last batch: Lightning does not."""
        if batch_idx == 0 and self.loop.epoch_steps:
            self._end_epoch()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the last epoch if it was resumed behind its last batch."""
        if self.loop.epoch_steps:
            self._end_epoch()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there are gradients; clip while they are scaled, where that is asked for."""
        self._has_gradients = True
        scaler = _scaler(trainer)
        if scaler and self.settings.clip_scaled and not _accumulates(trainer):
            self.loop.before_step(float(scaler.get_scale()))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Add the slopes of the constraint to the gradients and clip them.

        Not where a batch was skipped, and gave no gradient.
        """
        done = self.settings.clip_scaled and _scaler(trainer)
        if self._has_gradients and not done:
            self.loop.before_step()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,  # noqa: ANN401  (Lightning's signature)
        batch_idx: int,
    ) -> None:
        """Add up the Lagrangian on the device; clamp the latent weights."""
        # Lightning has divided the loss by the batches that a step accumulates.
        self.loop.after_step(outputs.get("loss") if isinstance(outputs, Mapping) else outputs)
        if not _accumulates(trainer):
            self._has_gradients = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Apply Algorithm 1's rule; every process sees the same mean Lagrangian."""
        self._end_epoch()
        pl_module.log_dict(self.report, sync_dist=True)  # equal already; else Lightning warns

    def _end_epoch(self) -> None:
        self.report = {f"cbp/{name}": value for name, value in self.loop.end_epoch().items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loop."""
        return {} if self._loop is None else self._loop.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the restored state until the loop is made."""
        self._restored = state_dict or None


class Cbp(PhaseCallback):
    """Drive the weights of a pre-trained network to levels while it is fine-tuned.

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

    """

    @property
    def multipliers(self) -> Multipliers:
        """Multipliers, g and p; there from the start of ``fit``."""
        assert isinstance(self.loop, CbpLoop)
        return self.loop.rule

    def choose(self, module: LightningModule) -> dict[str, tuple[Tensor, Tensor]]:
        """Prepare the layers, unless an earlier fit has; return latent weights and levels."""
        if not prepared_layers(module):
            arithmetic = self.settings.arithmetic
            prepare(module, self.levels, **self.choice, scale=self.scale, arithmetic=arithmetic)
        return {name: (latent, q.values) for name, (latent, q) in prepared_layers(module).items()}

    def make_loop(
        self, module: LightningModule, optimizer: Optimizer, schedulers: list[Any]
    ) -> CbpLoop:
        """Return the loop with multipliers of the prepared layers."""
        return CbpLoop(module, self.settings, optimizer, schedulers)


class Control(PhaseCallback):
    """The FP32 control of a CBP run: the same training with FP32 weights in place of levels.

    Whatever CBP does beside the constraint is done here too: the same weights train, gradients are
    clipped and the weights of the same layers clamped as there, and the learning rate drops when g
    reaches the same value, g following Algorithm 1's rule with the loss in the Lagrangian's place.
    What a CBP run gains beyond its control is CBP's; the rest is the longer training's (departures,
    Q7). Settings of levels, multipliers and arithmetic have no effect.
    """

    def choose(self, module: LightningModule) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the weights that a CBP run would quantise, which stay as they are, and levels."""
        levels = plan(module, self.levels, **self.choice, scale=self.scale)
        weights = {name: find_layers(module)[name].weight for name in levels}
        return {
            name: (weight, levels[name].values(weight.dtype)) for name, weight in weights.items()
        }

    def make_loop(
        self, module: LightningModule, optimizer: Optimizer, schedulers: list[Any]
    ) -> Loop:
        """Return the loop with the rule, without multipliers."""
        rule = AscentRule(self.settings.p_max)
        return Loop(self._latents, rule, self.settings, optimizer, schedulers)


def _in_words(module: LightningModule, chosen: Collection[str], choice: Mapping[str, Any]) -> str:
    """Return which layers were chosen, and what first and last means where they stay FP32."""
    said = f"CBP is about {len(chosen)} of {len(find_layers(module))} layers: {', '.join(chosen)}."
    if choice["keep"] is None and choice["example"] is None and module.example_input_array is None:
        said += " First and last, which stay FP32, are those by registration: set the module's "
        said += "example_input_array where a forward pass meets them in another order."
    return said


def _require_joinable(trainer: Trainer, module: LightningModule) -> None:
    """Raise a UserError for a way of training that CBP cannot join."""
    if trainer.gradient_clip_val is not None:
        raise UserError("Cbp clips the gradients itself: leave gradient_clip_val of Trainer unset")
    if not module.automatic_optimization:
        raise UserError(
            "Cbp joins Lightning's automatic optimisation: with manual optimisation, call "
            "repro.prepare_cbp and its before_step and after_step around your own step"
        )
    if isinstance(trainer.strategy, (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)):
        raise UserError(
            f"{type(trainer.strategy).__name__} cuts weights into pieces, Cbp needs them whole: "
            "give strategy='ddp', or one device"
        )
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise UserError(
            "the weights that ddp_spawn, ddp_fork and ddp_notebook train stay in their processes: "
            "give strategy='ddp' in a script, or one device"
        )
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    place = [isinstance(each, PhaseCallback) for each in callbacks].index(True)
    for position, other in enumerate(callbacks):
        name = type(other).__name__
        if isinstance(other, ModelPruning):
            raise UserError(f"{name} changes the weights that Cbp trains: prune before, then fit")
        averages = isinstance(other, StochasticWeightAveraging | WeightAveraging)
        if averages and position < place:
            raise UserError(f"{name} copies the model before Cbp prepares it: list it behind Cbp")


def _scaler(trainer: Trainer) -> Any:  # noqa: ANN401  (torch's GradScaler, or None)
    """Return what scales the loss under AMP, None without."""
    return getattr(trainer.precision_plugin, "scaler", None)


def _accumulates(trainer: Trainer) -> bool:
    """Return whether the gradients of this batch wait for those of the next."""
    return trainer.fit_loop.epoch_loop._should_accumulate()
