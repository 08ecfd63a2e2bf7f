"""CBP in any training loop: Algorithm 1 around the steps of an optimiser.

``prepare_cbp`` prepares a network and returns a `CbpLoop`, whose three methods a plain loop calls::

    loss.backward()
    cbp.before_step()
    optimizer.step()
    cbp.after_step(loss)

and ``cbp.end_epoch()`` behind the last batch. The Lightning callback calls the same methods.
"""

import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from repro.cbp.layers import prepare, prepared_layers
from repro.cbp.multiplier import AscentRule, Multipliers
from repro.cbp.selection import LevelChoice
from repro.cbp.settings import BOUND_IN_LEVELS, CbpSettings, Scale
from repro.errors import UserError

# What schedules of PyTorch compute learning rates from: keys of a parameter group, attributes.
GROUP_RATES: Final = ("lr", "initial_lr", "max_lr", "min_lr")
NOTED: Final = 0.01  # a clamp that moves a larger part of a layer is worth a warning
SCHEDULE_RATES: Final = ("base_lrs", "max_lrs", "min_lrs", "eta_min")


class Loop:
    """What a CBP phase and its FP32 control share: clip, clamp, and Algorithm 1's decisions.

    A decision is due at the end of every epoch, or every ``settings.period`` steps. With several
    processes (DistributedDataParallel) sums are averaged over them, so that all decide alike.

    Attributes:
        weights: The weights that are clamped, by layer name.
        bounds: What each is clamped to, plus or minus; a number, or one per output channel.
        rule: When an ascent is due.
        settings: Numbers of Algorithm 1.
        optimizer: Steps the weights.
        epoch_steps: Steps since the last end of an epoch.
    """

    def __init__(
        self,
        latents: Mapping[str, tuple[Tensor, Tensor]],
        rule: AscentRule,
        settings: CbpSettings,
        optimizer: Optimizer,
        schedulers: Iterable[Any] = (),
    ) -> None:
        """Start with empty sums.

        ``latents`` are weights and scaled levels by layer name, ``schedulers`` the optimiser's
        learning-rate schedules: a drop of the rate lasts under them.
        """
        self.weights = {name: weight for name, (weight, _) in latents.items()}
        self.bounds = {
            name: settings.weight_bound or _bound(weight, values)
            for name, (weight, values) in latents.items()
        }
        self.rule, self.settings = rule, settings
        self.optimizer, self.schedulers = optimizer, tuple(schedulers)
        self._warned = False
        device = next(iter(self.weights.values())).device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sum = torch.zeros((), dtype=dtype, device=device)  # of the Lagrangian, undecided
        self._epoch_sum = torch.zeros_like(self._sum)
        self._steps = 0  # since the last decision
        self.epoch_steps = self._ascents = 0
        self._penalty: float | Tensor | None = None  # of the step under way

    def is_of(self, weights: Mapping[str, Tensor]) -> bool:
        """Return whether the loop is about just these weights."""
        return [*map(id, self.weights.values())] == [*map(id, weights.values())]

    def before_step(self, loss_scale: float = 1.0) -> None:
        """Add the slopes of the constraint to the gradients, then clip them.

        It belongs between backward pass and step: with AMP behind ``GradScaler.unscale_``, or
        before it where ``settings.clip_scaled``.

        Args:
            loss_scale: Factor that the gradients still carry.
        """
        clip, bound = self.settings.clip, self.settings.clip_at
        infinite = float("inf")
        self._penalty, clipped = 0.0, set[int]()
        if isinstance(self.rule, Multipliers):  # adds slopes and clips by value in one pass
            self._penalty = self.rule.add_slopes_(
                bound if clip == "value" else infinite, loss_scale
            )
            clipped = {id(weight) for weight in self.weights.values()}
        owned = [p for group in self.optimizer.param_groups for p in group["params"]]
        graded = [parameter for parameter in owned if parameter.grad is not None]
        if clip == "norm":
            clip_grad_norm_(graded, bound)
        elif clip == "value" and (rest := [p for p in graded if id(p) not in clipped]):
            clip_grad_value_(rest, bound)

    @torch.no_grad()
    def after_step(self, loss: Tensor | float | None) -> None:
        """Add up the Lagrangian on the device; clamp the weights.

        Without a `before_step` before it, the loss alone is added: of gradients that are
        accumulated over several batches, each adds its share of the step's loss.

        Args:
            loss: Loss of the step, of the whole batch; None adds nothing.
        """
        if loss is not None:
            self._add(loss.detach() if isinstance(loss, Tensor) else loss)
        if self._penalty is None:
            return
        self._add(self._penalty)
        self._penalty = None
        if not self._warned:
            self._warn_of_bounds()
        for name, weight in self.weights.items():
            weight.clamp_(-self.bounds[name], self.bounds[name])  # type: ignore[arg-type]
        self._steps += 1
        self.epoch_steps += 1
        if self._steps == self.settings.period:
            self._decide()

    def _warn_of_bounds(self) -> None:
        """Warn, once, if the clamp is about to move more than 1 % of the weights of a layer."""
        self._warned = True
        for name, weight in self.weights.items():
            outside = float((weight.abs() > self.bounds[name]).double().mean())
            if outside > NOTED:
                warnings.warn(
                    f"the bound of the latent weights moves {outside:.0%} of those of {name}: give "
                    "a larger weight_bound, or None for one that follows the scale of each layer",
                    stacklevel=3,
                )

    def _add(self, part: float | Tensor) -> None:
        """Add a part of the Lagrangian."""
        for total in (self._sum, self._epoch_sum):
            total.add_(part.to(total.dtype) if isinstance(part, Tensor) else part)

    def _decide(self) -> None:
        """Apply Algorithm 1's rule to the sum since the last decision."""
        ascended = self.rule.end_epoch(_mean(self._sum))
        if ascended and self.rule.g == self.settings.lr_drop_at_g:
            self._drop_rate()
        self._ascents += ascended
        self._sum.zero_()
        self._steps = 0

    def _drop_rate(self) -> None:
        """Multiply the learning rate, now and in what its schedules compute, by ``lr_drop``."""
        for group in self.optimizer.param_groups:
            _scale(group, GROUP_RATES, self.settings.lr_drop)
        for schedule in _innermost(self.schedulers):
            _scale(vars(schedule), SCHEDULE_RATES, self.settings.lr_drop)

    def end_epoch(self) -> dict[str, float]:
        """Apply the rule at the end of an epoch, unless it counts steps; return the figures.

        They are ``g`` and ``ascended``, how often in this epoch; of CBP also ``lagrangian``, summed
        over the epoch, and the constraint failure score ``cfs``.
        """
        if not self.settings.period:
            self._decide()
        figures, lagrangian = dict[str, float](), _mean(self._epoch_sum)
        if isinstance(self.rule, Multipliers):
            figures = {"lagrangian": lagrangian, "cfs": self.rule.failure_score()}
        figures |= {"g": float(self.rule.g), "ascended": float(self._ascents)}
        self._epoch_sum.zero_()
        self.epoch_steps = self._ascents = 0
        self._warned = False
        return figures

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed training needs, as tensors and plain numbers."""
        return {
            **self.rule.state_dict(),
            "sum": self._sum.clone(),
            "epoch_sum": self._epoch_sum.clone(),
            "steps": self._steps,
            "epoch_steps": self.epoch_steps,
            "ascents": self._ascents,
            "bounds": dict(self.bounds),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            UserError: It is not such a state.
            ValueError: It belongs to other layers.
        """
        try:
            self._sum.copy_(state["sum"])
            self._epoch_sum.copy_(state["epoch_sum"])
            self._steps, self.epoch_steps = int(state["steps"]), int(state["epoch_steps"])
            self._ascents = int(state["ascents"])
            for name, bound in state["bounds"].items():
                device = self.weights[name].device
                self.bounds[name] = bound.to(device) if isinstance(bound, Tensor) else bound
            self.rule.load_state_dict(dict(state))
        except KeyError as error:
            raise UserError(
                f"the checkpoint has no {error} of CBP: resume with the version that wrote it, or "
                "start anew"
            ) from error


class CbpLoop(Loop):
    """Algorithm 1 on a prepared network."""

    rule: Multipliers

    def __init__(
        self,
        network: nn.Module,
        settings: CbpSettings,
        optimizer: Optimizer,
        schedulers: Iterable[Any] = (),
    ) -> None:
        """Make the multipliers of a prepared network, on its device.

        Raises:
            UserError: No layer is prepared.
        """
        prepared = prepared_layers(network)
        if not prepared:
            raise UserError("no layer of the network is prepared: call prepare before")
        latents = {name: (latent, each.values) for name, (latent, each) in prepared.items()}
        rule = Multipliers(
            latents,
            lr=settings.multiplier_lr,
            optimiser=settings.multiplier_optimiser,
            p_max=settings.p_max,
            window=settings.window,
        )
        super().__init__(latents, rule, settings, optimizer, schedulers)


def prepare_cbp(
    network: nn.Module,
    optimizer: Optimizer,
    levels: LevelChoice = "binary",
    *,
    schedulers: Iterable[Any] = (),
    keep: Collection[str] | None = None,
    layers: Collection[str] = ("*",),
    exclude: Collection[str] = (),
    example: Any = None,  # noqa: ANN401
    scale: Scale = "layer",
    **settings: Any,  # noqa: ANN401
) -> CbpLoop:
    """Prepare a pre-trained network in place; return what its training loop calls.

    Args:
        network: As in `repro.cbp.layers.prepare`, on its device; not yet wrapped by
            DistributedDataParallel.
        optimizer: Steps its parameters; made before.
        levels: As in ``prepare``.
        schedulers: Learning-rate schedules of the optimiser.
        keep: As in ``prepare``.
        layers: As in ``prepare``.
        exclude: As in ``prepare``.
        example: As in ``prepare``.
        scale: As in ``prepare``.
        settings: Fields of `repro.cbp.settings.CbpSettings`; ``multiplier_lr`` is needed.

    Raises:
        UserError: As ``prepare`` does; or a setting that is unknown or out of range.
    """
    chosen = make_settings(settings)
    choice: dict[str, Any] = {
        "keep": keep,
        "layers": layers,
        "exclude": exclude,
        "example": example,
    }
    prepare(network, levels, **choice, scale=scale, arithmetic=chosen.arithmetic)
    loop = CbpLoop(network, chosen, optimizer, schedulers)
    if chosen.train == "quantised":
        freeze_but(network, loop.weights.values())
    return loop


def make_settings(fields: Mapping[str, Any]) -> CbpSettings:
    """Return the settings that these fields give.

    Raises:
        UserError: A field is unknown or missing, or out of range.
    """
    try:
        return CbpSettings(**fields)
    except TypeError as error:
        wrong = str(error).partition("() ")[2] or str(error)
        raise UserError(f"CBP {wrong}: see repro.cbp.settings.CbpSettings") from error


def freeze_but(network: nn.Module, weights: Iterable[Tensor]) -> list[nn.Parameter]:
    """Freeze every trainable parameter but these; return those that are frozen now."""
    kept = {id(weight) for weight in weights}
    frozen = [p for p in network.parameters() if p.requires_grad and id(p) not in kept]
    for parameter in frozen:
        parameter.requires_grad_(False)
    return frozen


def _bound(weight: Tensor, values: Tensor) -> float | Tensor:
    """Return the default bound of latent weights with these levels ``[L]`` or ``[C, L]``."""
    bound = BOUND_IN_LEVELS * values.abs().amax(-1).to(weight)
    return bound.view(-1, *[1] * (weight.dim() - 1)) if bound.dim() else float(bound)


def _mean(total: Tensor) -> float:
    """Return the mean of a sum over all processes that train together."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        total = total.clone()
        dist.all_reduce(total)
        total /= dist.get_world_size()
    return float(total)


def _innermost(schedulers: Iterable[Any]) -> Iterable[Any]:
    """Yield schedules, those inside a sequence or a chain of them instead of it."""
    for scheduler in schedulers:
        inner = getattr(scheduler, "_schedulers", None)
        yield from [scheduler] if inner is None else _innermost(inner)


def _scale(fields: dict[str, Any], names: Iterable[str], factor: float) -> None:
    """Multiply the learning rates of that name, numbers or lists of them."""
    for name in names:
        if name in fields:
            rate = fields[name]
            fields[name] = (
                [factor * each for each in rate] if isinstance(rate, list) else factor * rate
            )
