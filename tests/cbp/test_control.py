"""The FP32 control: the training of a CBP run, its clip and its schedule, with FP32 weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from repro.cbp.callback import Cbp, Control
from repro.cbp.layers import prepared_layers
from repro.cbp.multiplier import AscentRule

LR, CLIP = 0.1, 0.05


class Linear3(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)).double()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return 3 * self.net(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR)


def data() -> DataLoader[Any]:
    inputs = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(inputs), batch_size=4)


def fit(callback: Cbp, tmp_path: Path, epochs: int) -> Linear3:
    module = Linear3()
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, data())
    return module


def by_hand(epochs: int, drop_at: int, bound: float = CLIP) -> Linear3:
    """Clip by value, SGD, clamp of the inner layer; the lr drops where the losses' rule says."""
    module, rule, lr = Linear3(), AscentRule(p_max=2), LR
    for _ in range(epochs):
        total = 0.0
        for batch in data():
            module.zero_grad()
            loss = module.training_step(batch, 0)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
            nn.utils.clip_grad_value_(module.parameters(), bound)
            with torch.no_grad():
                for parameter in module.parameters():
                    assert parameter.grad is not None
                    parameter -= lr * parameter.grad
                module.net[1].weight.clamp_(-0.3, 0.3)
        if rule.end_epoch(total) and rule.g == drop_at:
            lr *= 0.1
    return module


@pytest.mark.parametrize("drop_at", [0, 2])
@pytest.mark.filterwarnings("ignore:the bound of the latent weights")
def test_a_control_is_a_plain_training_with_clip_clamp_and_drop(
    drop_at: int, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"clip_at": CLIP, "p_max": 2, "lr_drop_at_g": drop_at}
    control = Control("binary", multiplier_lr=1.0, weight_bound=0.3, **fields)
    module = fit(control, tmp_path, epochs=5)
    assert prepared_layers(module) == {}
    assert control.report["cbp/g"] == 3.0
    expected, other = by_hand(5, drop_at), by_hand(5, 2 - drop_at)
    for (name, parameter), hand, different in zip(
        module.named_parameters(), expected.parameters(), other.parameters(), strict=True
    ):
        torch.testing.assert_close(parameter, hand, rtol=1e-12, atol=1e-12)
        assert not torch.equal(parameter, different), name
    assert module.net[1].weight.abs().max() == 0.3
    assert module.net[0].weight.abs().max() > 0.3


def test_a_control_of_quantised_weights_only_trains_those(tmp_path: Path) -> None:
    start = Linear3()
    module = fit(Control("binary", multiplier_lr=1.0, train="quantised"), tmp_path, epochs=1)
    changed = [
        not torch.equal(parameter, before)
        for parameter, before in zip(module.parameters(), start.parameters(), strict=True)
    ]
    assert changed == [False, False, True, False, False, False]


def test_a_control_is_no_cbp_run_without_multipliers(tmp_path: Path) -> None:
    """Straight-through training (multiplier_lr 0) still quantises; the control does not."""
    control = fit(Control("binary", multiplier_lr=0.0), tmp_path, epochs=1)
    quantised = fit(Cbp("binary", multiplier_lr=0.0), tmp_path, epochs=1)
    assert len(control.net[1].weight.unique()) > 2
    assert len(quantised.net[1].weight.unique()) == 2
