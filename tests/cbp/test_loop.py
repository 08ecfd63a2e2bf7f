"""CBP in a plain PyTorch loop equals the Lightning callback bit for bit, whatever the loop does."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from repro import prepare_cbp
from repro.cbp.callback import Cbp
from repro.cbp.layers import convert
from repro.cbp.loop import CbpLoop
from repro.errors import UserError

EPOCHS, BATCH, IMAGES = 6, 8, 40
LR = 0.05


def network() -> nn.Sequential:
    torch.manual_seed(0)
    sizes = [(5, 12), (12, 12), (12, 9), (9, 3)]
    layers = [layer for size in sizes for layer in (nn.Linear(*size), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def images(batch_size: int = BATCH) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(IMAGES, 5, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), batch_size=batch_size)


def groups(net: nn.Module) -> list[dict[str, Any]]:
    """Weights decay, biases do not and learn faster."""
    weights = [p for p in net.parameters() if p.dim() > 1]
    biases = [p for p in net.parameters() if p.dim() == 1]
    return [{"params": weights, "weight_decay": 1e-3}, {"params": biases, "lr": 2 * LR}]


Schedule = Callable[[torch.optim.Optimizer], Any]


@dataclass(frozen=True)
class Case:
    """A training, done by both.

    Attributes:
        fields: Settings of CBP.
        accumulate: Batches whose gradients are added up for a step.
        amp: Whether the loss is scaled.
        schedule: Learning-rate schedule, stepped every epoch.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    accumulate: int = 1
    amp: bool = False
    schedule: Schedule | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return {"multiplier_lr": 0.02, "p_max": 2, "lr_drop_at_g": 3, **self.fields}


CASES = {
    "plain": Case(),
    "clip by norm": Case({"clip": "norm", "clip_at": 0.05}),
    "no clip": Case({"clip": "none"}),
    "quantised weights alone": Case({"train": "quantised"}),
    "decisions by steps": Case({"period": 3}),
    "AdamW multipliers": Case({"multiplier_optimiser": "adamw"}),
    "accumulation": Case(accumulate=2),
    "AMP": Case(amp=True),
    "AMP, clipped while scaled": Case({"clip_scaled": True, "clip_at": 0.5}, amp=True),
    "AMP and accumulation": Case(amp=True, accumulate=3),
    "schedule": Case(schedule=lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS)),
    "schedule from base rates": Case(
        schedule=lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch)
    ),
}


class Module(LightningModule):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case, self.net = case, network()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(groups(self.net), lr=LR, momentum=0.9)
        if self.case.schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.case.schedule(optimizer)}


def scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=7)


def by_lightning(case: Case) -> tuple[nn.Module, Cbp, list[dict[str, float]]]:
    module, reports = Module(case), list[dict[str, float]]()

    class Noted(Cbp):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            super().on_train_epoch_end(trainer, pl_module)
            reports.append({name.removeprefix("cbp/"): v for name, v in self.report.items()})

    cbp = Noted("ternary", **case.settings)
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        accumulate_grad_batches=case.accumulate,
        callbacks=[cbp],
        plugins=[MixedPrecision("16-mixed", "cpu", scaler())] if case.amp else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, images())
    return module.net, cbp, reports


def steps(loader: DataLoader[Any], accumulate: int) -> Iterator[list[Any]]:
    """Batches of each step; the last step may have fewer."""
    batches = list(loader)
    for start in range(0, len(batches), accumulate):
        yield batches[start : start + accumulate]


@dataclass
class Plain:
    """A loop as a user writes it."""

    case: Case
    net: nn.Module
    optimizer: torch.optim.Optimizer
    cbp: CbpLoop
    schedule: Any
    scaler: torch.amp.GradScaler | None

    def epoch(self) -> dict[str, float]:
        for batches in steps(images(), self.case.accumulate):
            self.optimizer.zero_grad()
            total = torch.zeros(())
            for inputs, labels in batches:
                loss = cross_entropy(self.net(inputs), labels) / self.case.accumulate
                total += loss.detach()
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            self.step()
            self.cbp.after_step(total)
        if self.schedule is not None:
            figures = self.cbp.end_epoch()
            self.schedule.step()
            return figures
        return self.cbp.end_epoch()

    def step(self) -> None:
        if self.scaler is None:
            self.cbp.before_step()
            self.optimizer.step()
            return
        if self.cbp.settings.clip_scaled:
            self.cbp.before_step(self.scaler.get_scale())
            self.scaler.unscale_(self.optimizer)
        else:
            self.scaler.unscale_(self.optimizer)
            self.cbp.before_step()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def plain(case: Case) -> Plain:
    net = network()
    optimizer = torch.optim.SGD(groups(net), lr=LR, momentum=0.9)
    schedule = None if case.schedule is None else case.schedule(optimizer)
    schedulers = () if schedule is None else (schedule,)
    cbp = prepare_cbp(net, optimizer, "ternary", schedulers=schedulers, **case.settings)
    return Plain(case, net, optimizer, cbp, schedule, scaler() if case.amp else None)


@pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))
def test_a_plain_loop_is_the_callback_bit_for_bit(case: Case) -> None:
    expected, callback, reports = by_lightning(case)
    loop = plain(case)
    figures = [loop.epoch() for _ in range(EPOCHS)]
    same = {"lagrangian": pytest.approx} if case.accumulate > 1 else {}
    for mine, theirs in zip(figures, reports, strict=True):
        assert mine.keys() == theirs.keys() == {"lagrangian", "cfs", "g", "ascended"}
        for name, value in mine.items():  # accumulated losses are added in another order
            assert value == same.get(name, float)(theirs[name])
    assert figures[-1]["g"] > 3, "the learning rate has dropped"
    for (name, mine), theirs in zip(
        loop.net.named_parameters(), expected.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs), name
    states = zip(
        loop.cbp.rule.multipliers.values(), callback.multipliers.multipliers.values(), strict=True
    )
    assert all(torch.equal(*pair) for pair in states)
    assert callback.multipliers.multipliers["net.2"].any()
    assert list(convert(loop.net).values()) == list(convert(expected).values())


@pytest.mark.parametrize("name", ["plain", "decisions by steps"])
def test_a_loop_resumes_from_its_state_bit_for_bit(name: str) -> None:
    case = CASES[name]
    whole = plain(case)
    for _ in range(3):
        whole.epoch()
    parts = (whole.net, whole.optimizer, whole.cbp)
    net, optimizer, cbp = (copy.deepcopy(part.state_dict()) for part in parts)
    resumed = plain(case)
    resumed.net.load_state_dict(net)
    resumed.optimizer.load_state_dict(optimizer)
    resumed.cbp.load_state_dict(cbp)
    fresh = plain(case)
    fresh.net.load_state_dict(net)
    for loop in (whole, resumed, fresh):
        for _ in range(3):
            figures = loop.epoch()
        if loop is not fresh:
            assert figures["g"] > 3
    for mine, theirs, other in zip(
        *(loop.net.parameters() for loop in (resumed, whole, fresh)), strict=True
    ):
        assert torch.equal(mine, theirs)
        assert not torch.equal(other, theirs)


SCHEDULES: dict[str, Schedule] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=6),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 8),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.95),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 7, eta_min=LR / 10),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, LR / 10, LR, 2, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, LR, total_steps=12),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 4), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}


@pytest.mark.parametrize("schedule", list(SCHEDULES.values()), ids=list(SCHEDULES))
def test_a_drop_of_the_rate_lasts_under_every_schedule(schedule: Schedule) -> None:
    """From the drop on, rates are a tenth of what the schedule alone gives."""
    never = {"lr_drop_at_g": 0}
    dropping, alone = (plain(Case(fields, schedule=schedule)) for fields in ({}, never))
    dropped = False
    for _ in range(10):
        before = dropping.cbp.rule.g
        for loop in (dropping, alone):
            loop.cbp.before_step()
            loop.optimizer.step()
            loop.cbp.after_step(1.0)
            loop.cbp.end_epoch()
        dropped |= before < 3 <= dropping.cbp.rule.g
        for loop in (dropping, alone):
            loop.schedule.step()
        pairs = zip(dropping.optimizer.param_groups, alone.optimizer.param_groups, strict=True)
        for mine, theirs in pairs:
            assert mine["lr"] == pytest.approx(theirs["lr"] * (0.1 if dropped else 1), rel=1e-6)
    assert dropped


def test_a_gradient_that_the_optimiser_does_not_own_is_not_clipped() -> None:
    net, other = network(), nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    cbp = prepare_cbp(net, optimizer, multiplier_lr=0.1, clip="norm", clip_at=1e-3)
    net.register_parameter("other", other)
    (net(torch.randn(4, 5)).sum() + 100 * other.sum()).backward()
    cbp.before_step()
    assert other.grad is not None
    assert torch.equal(other.grad, torch.full((3,), 100.0))
    owned = torch.stack([p.grad.norm() for g in optimizer.param_groups for p in g["params"]])
    assert float(owned.norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "missing 1 required keyword-only argument: 'multiplier_lr'"),
        ({"multiplier_lr": 0.1, "pmax": 3}, "unexpected keyword argument 'pmax'"),
        ({"multiplier_lr": -0.1}, "multiplier_lr is -0.1: give 0 or more"),
    ],
)
def test_a_wrong_setting_is_one_line(fields: dict[str, Any], words: str) -> None:
    net = network()
    with pytest.raises(UserError, match=words):
        prepare_cbp(net, torch.optim.SGD(net.parameters(), lr=LR), **fields)
    with pytest.raises(UserError, match=words):
        Cbp(**fields)


def test_a_state_of_another_version_is_refused_in_one_line() -> None:
    loop = plain(Case())
    state = loop.cbp.state_dict()
    del state["sum"]
    with pytest.raises(UserError, match="the checkpoint has no 'sum' of CBP"):
        loop.cbp.load_state_dict(state)
