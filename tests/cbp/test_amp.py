"""Automatic mixed precision: the loss scale is gone before CBP adds slopes and clips, or meant."""

import itertools
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from repro.build import build
from repro.cbp.callback import Cbp
from repro.cbp.layers import LATENT
from repro.cells import find_cell
from repro.errors import UserError
from repro.methods.base import SpikingModule, make_optimiser
from repro.recipes.shipped import find_recipe

SCALE = 2.0**6  # of a fresh scaler 2^16: steps too small to see in float32


def scaled() -> MixedPrecision:
    """AMP's plugin with a loss scale, as on a GPU; nothing here leaves float32 but the scale."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=SCALE))


class Small(LightningModule):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        self.fused = fused

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return self.network(inputs.float())  # type: ignore[no-any-return]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        numbers: Any = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
        return make_optimiser(
            self.parameters(), "sgd", **numbers, decay_weights_only=True, fused=self.fused
        )


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter by its name in the plain network."""
    named = module.named_parameters()
    return {name.replace(LATENT, ".weight"): p.detach().clone() for name, p in named}


def fit(fused: bool, amp: bool, **numbers: Any) -> dict[str, Tensor]:
    """Take one step; return how far every parameter moved."""
    module = Small(fused)
    before = weights(module)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8, 4, generator=generator)
    labels = torch.randint(0, 2, (8,), generator=generator)
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[scaled()] if amp else [],
        callbacks=[Cbp("binary", multiplier_lr=0.1, clip_at=0.01, **numbers)],
    )
    trainer.fit(module, DataLoader(TensorDataset(inputs, labels), batch_size=8))
    return {name: weight - before[name] for name, weight in weights(module).items()}


def greatest(steps: dict[str, Tensor]) -> float:
    return max(float(step.abs().max()) for step in steps.values())


def test_a_step_with_a_loss_scale_is_the_step_without() -> None:
    plain, amp = fit(fused=True, amp=False), fit(fused=False, amp=True)
    for name, step in plain.items():
        torch.testing.assert_close(amp[name], step, rtol=1e-4, atol=1e-7)
    assert greatest(plain) == pytest.approx(0.1 * 0.01, rel=1e-4)


def test_the_clip_of_scaled_gradients_has_the_bound_over_the_scale() -> None:
    steps = fit(fused=False, amp=True, clip_scaled=True)
    assert greatest(steps) == pytest.approx(0.1 * 0.01 / SCALE, rel=1e-2)


def test_without_amp_nothing_is_scaled() -> None:
    on, off = (fit(True, False, clip_scaled=scaled) for scaled in (True, False))
    assert all(torch.equal(on[name], off[name]) for name in on)


def test_a_fused_optimiser_keeps_the_scale_until_its_step_and_is_refused() -> None:
    with pytest.raises(UserError, match="make the optimiser with fused=False"):
        fit(fused=True, amp=True)


def test_our_modules_take_the_form_that_amp_needs() -> None:
    cell = find_cell("surrogate", "dvs128_gesture")
    module: SpikingModule = build(cell, find_recipe(cell, "smoke"), 11, "cbp")
    assert module.configure_optimizers()[0][0].defaults["fused"]
    trainer = Trainer(accelerator="cpu", logger=False, plugins=[scaled()])
    trainer.strategy._lightning_module = module
    module.trainer = trainer
    assert not module.configure_optimizers()[0][0].defaults["fused"]


class Overflows(Small):
    """Every step has an infinite gradient at one weight."""

    def __init__(self, fused: bool) -> None:
        super().__init__(fused)
        infinite = torch.zeros(8, 4)
        infinite[0, 0] = float("inf")
        self.network[0].weight.register_hook(lambda grad: grad + infinite)


@pytest.mark.parametrize(("clip_scaled", "taken"), [(True, 6), (False, 0)])
def test_scaled_gradients_are_clipped_before_they_are_unscaled(
    clip_scaled: bool, taken: int
) -> None:
    """The reference clips first: an infinite gradient is the bound then, and skips no step."""
    module, plugin = Overflows(fused=False), scaled()
    start, steps = module.network[0].weight.detach().clone(), list[Tensor]()

    class Note(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            steps.append(module.network[0].weight.detach().clone())

    cbp = Cbp("binary", multiplier_lr=0.1, clip_at=1.0, clip_scaled=clip_scaled)
    trainer = Trainer(
        max_epochs=6,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[plugin],
        callbacks=[Note(), cbp],
    )
    batch = TensorDataset(torch.randn(8, 4), torch.arange(8) % 2)
    trainer.fit(module, DataLoader(batch, batch_size=8))
    moved = [not torch.equal(*pair) for pair in itertools.pairwise([start, *steps])]
    assert sum(moved) == taken
    assert plugin.scaler is not None
    assert plugin.scaler.get_scale() == (SCALE if clip_scaled else SCALE / 2**6)
    if clip_scaled:  # the first step at the infinite gradient is the learning rate over the scale
        first = float((steps[0] - start)[0, 0])
        assert first == pytest.approx(-0.1 / SCALE, rel=1e-3)
