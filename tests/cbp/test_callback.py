"""The ``Cbp`` callback's variants, each against a step written out by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelPruning, StochasticWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from repro.cbp.callback import Cbp
from repro.cbp.constraint import constraint
from repro.cbp.layers import convert, prepare, prepared_layers
from repro.cbp.multiplier import Multipliers
from repro.cbp.window import constrained_fraction
from repro.errors import UserError

LR = 0.1


class Linear3(LightningModule):
    """Three linear layers, squared error, plain SGD."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)).double()
        self.scale = scale

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.scale * self.net(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR)


def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8, 4, dtype=torch.float64, generator=generator)
    return DataLoader(TensorDataset(inputs), batch_size=4)


def fit(
    module: LightningModule,
    cbp: Cbp,
    tmp_path: Path,
    epochs: int = 1,
    before: Sequence[Callback] = (),
    behind: Sequence[Callback] = (),
) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[*before, cbp, *behind],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, data())
    return trainer


def by_hand(module: Linear3, clip: Any, multiplier_lr: float) -> dict[str, Tensor]:
    """Two batches of Algorithm 1 with autograd and nothing of the callback."""
    prepare(module.net)
    latents = {n: (p, q.values) for n, (p, q) in prepared_layers(module.net).items()}
    multiplier = torch.zeros_like(latents["1"][0])
    weight, levels = latents["1"]
    value, _ = constraint(weight.detach(), levels, constrained_fraction(1))
    multiplier += multiplier_lr * value / (value + 1e-8)  # Adam's first step, epsilon 1e-8
    for (inputs,) in data():
        loss = module.training_step([inputs], 0)
        module.zero_grad()
        loss.backward()
        _, slope = constraint(weight.detach(), levels, constrained_fraction(1))
        weight.grad += multiplier * slope
        clip(module)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter -= LR * parameter.grad
            weight.clamp_(-1, 1)
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def by_value(bound: float) -> Any:
    return lambda module: nn.utils.clip_grad_value_(module.parameters(), bound)


def by_norm(bound: float) -> Any:
    return lambda module: nn.utils.clip_grad_norm_(module.parameters(), bound)


@pytest.mark.parametrize(
    ("fields", "clip"),
    [
        ({"clip": "value", "clip_at": 0.05}, by_value(0.05)),
        ({"clip": "norm", "clip_at": 0.05}, by_norm(0.05)),
        ({"clip": "none"}, lambda module: None),
    ],
)
def test_clip_comes_after_the_slope(fields: dict[str, Any], clip: Any, tmp_path: Path) -> None:
    expected = by_hand(Linear3(3.0), clip, multiplier_lr=0.03)
    unclipped = by_hand(Linear3(3.0), lambda module: None, multiplier_lr=0.03)
    module = Linear3(3.0)
    fit(module, Cbp(multiplier_lr=0.03, **fields), tmp_path)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-9, atol=1e-9)
    clipped = any(not torch.equal(expected[name], unclipped[name]) for name in expected)
    assert clipped == (fields["clip"] != "none")


def test_only_quantised_weights_train_when_asked(tmp_path: Path) -> None:
    for train in ("quantised", "all"):
        module, fresh = Linear3(), Linear3()
        fit(module, Cbp(multiplier_lr=0.0, train=train), tmp_path)  # type: ignore[arg-type]
        after = dict(module.named_parameters())
        moved = {
            name
            for name, parameter in fresh.named_parameters()
            if not torch.equal(
                parameter,
                after[name.replace("1.weight", "1.parametrizations.weight.original")],
            )
        }
        assert ("net.0.weight" in moved) == (train == "all")
        assert "net.1.weight" in moved


def latents() -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 3, dtype=torch.float64, generator=generator)
    return {"layer": (weight, torch.tensor([-0.8, 0.8], dtype=torch.float64))}


def test_adamw_decays_multipliers_and_adam_does_not() -> None:
    kept = [Multipliers(latents(), lr=0.1, optimiser=kind) for kind in ("adam", "adamw")]
    for multipliers in kept:
        for _ in range(3):
            multipliers.ascend()
    adam, adamw = (state.multipliers["layer"] for state in kept)
    held = adam > 0
    assert held.any()
    assert (adamw[held] < adam[held]).all()


def test_rule_of_the_epoch_and_window() -> None:
    multipliers = Multipliers(latents(), lr=0.1, p_max=3)
    told = [multipliers.end_epoch(total) for total in (5.0, 4.0, 4.0, 9.0, 8.0, 7.0)]
    # not lower than before: ascends; then waits again, at most p_max = 3 epochs
    assert told == [False, False, True, False, False, True]
    assert multipliers.g == 3
    assert multipliers.fraction == 1 - 1 / 3
    assert Multipliers(latents(), lr=0.1, window=False).fraction == 1.0


def test_no_multipliers_is_straight_through_training() -> None:
    multipliers = Multipliers(latents(), lr=0.0)
    multipliers.ascend()
    assert multipliers.multipliers["layer"].abs().sum() == 0
    weight = multipliers.latents["layer"][0]
    weight.grad = torch.ones_like(weight)
    assert float(multipliers.add_slopes_()) == 0
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_learning_rate_drops_once_at_its_g(tmp_path: Path) -> None:
    rates = []
    for drop_at in (3, 0):
        cbp = Cbp(multiplier_lr=0.01, p_max=1, lr_drop_at_g=drop_at)
        trainer = fit(Linear3(), cbp, tmp_path, epochs=5)
        assert cbp.multipliers.g == 6
        rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    assert rates == [pytest.approx(LR * 0.1), LR]


def test_state_of_other_layers_is_refused() -> None:
    state = Multipliers(latents(), lr=0.1).state_dict()
    other = Multipliers({"other": latents()["layer"]}, lr=0.1)
    with pytest.raises(ValueError, match="do not fit"):
        other.load_state_dict(state)


@pytest.mark.parametrize("other", [StochasticWeightAveraging(0.1), EMAWeightAveraging()])
def test_averages_are_those_of_latent_weights(other: Callback, tmp_path: Path) -> None:
    module, cbp = Linear3(), Cbp("binary", multiplier_lr=0.1)
    with pytest.raises(UserError, match=r"Averaging copies the model .*: list it behind Cbp"):
        fit(module, cbp, tmp_path, before=[other])
    fit(module, cbp, tmp_path, epochs=4, behind=[other])
    (levels,) = convert(module.net).values()
    weight = module.net[1].weight
    assert isinstance(weight, Tensor)
    assert torch.equal(weight.abs().unique(), levels.values(weight.dtype)[1:])


def test_pruning_while_it_trains_is_refused(tmp_path: Path) -> None:
    pruning = ModelPruning("l1_unstructured", amount=0.5)
    with pytest.raises(UserError, match="ModelPruning changes the weights that Cbp trains"):
        fit(Linear3(), Cbp("binary", multiplier_lr=0.1), tmp_path, before=[pruning])


def test_the_choice_of_layers_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pytorch_lightning")  # a run of ours, before in this process, is quiet
    fit(Linear3(), Cbp("binary", multiplier_lr=0.1), tmp_path)
    assert "CBP is about 1 of 3 layers: net.1. First and last" in caplog.text
    caplog.clear()
    fit(Linear3(), Cbp("binary", multiplier_lr=0.1, keep=()), tmp_path)
    assert "CBP is about 3 of 3 layers: net.0, net.1, net.2.\n" in caplog.text
