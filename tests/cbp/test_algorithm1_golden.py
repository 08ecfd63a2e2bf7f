"""Algorithm 1 through ``Trainer.fit`` and the real callback: 60 epochs of the reference."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paths import GOLDEN
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from repro.cbp.callback import Cbp
from repro.cbp.layers import convert, prepare
from repro.cbp.window import constrained_fraction
from repro.networks.conv7fc3 import StbpNetwork
from repro.neurons.stbp import StbpNeuron, scan_plain

EXACT = {"rtol": 1e-9, "atol": 1e-10}
PRECISIONS = ["binary", "ternary"]
QUANTISED = ["pool1", "conv2", "fc1"]


def load(precision: str) -> dict[str, Any]:
    path = GOLDEN / f"stbp_cbp_{precision}.npz"
    return dict(np.load(path, allow_pickle=False))


def network(golden: dict[str, Any]) -> StbpNetwork:
    layers = {
        "conv1": nn.Conv2d(3, 6, 3, padding=1),
        "pool1": nn.Conv2d(6, 8, 3, stride=2, padding=1),
        "conv2": nn.Conv2d(8, 8, 3, padding=1),
        "fc1": nn.Linear(128, 16),
        "fc3": nn.Linear(16, 4),
    }
    net = StbpNetwork(layers, 4, StbpNeuron(decay=0.25)).double()
    state = {k: torch.from_numpy(golden[f"init.{k}"]) for k in net.state_dict()}
    net.load_state_dict(state)
    return net


def mean_square_error(train: Tensor, labels: Tensor) -> Tensor:
    target = nn.functional.one_hot(labels, 4).to(train.dtype)
    return nn.functional.mse_loss(train.mean(0), target)


class Module(LightningModule):
    def __init__(self, net: StbpNetwork) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return mean_square_error(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Trace(Callback):
    """Collects a row per epoch in the golden file's columns."""

    def __init__(self, cbp: Cbp) -> None:
        self.cbp, self.rows, self.loss_sum = cbp, [], 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.loss_sum += outputs["loss"].item()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        report, state = self.cbp.report, self.cbp.multipliers
        self.rows.append(
            [
                trainer.current_epoch,
                self.loss_sum,
                report["cbp/lagrangian"],
                report["cbp/ascended"],
                state.g,
                constrained_fraction(state.g),
                trainer.optimizers[0].param_groups[0]["lr"],
                report["cbp/cfs"],
                sum(m.abs().sum().item() for m in state.multipliers.values()),
            ]
        )
        self.loss_sum = 0.0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_forward_and_gradients(precision: str) -> None:
    golden = load(precision)
    net = network(golden)
    prepared = prepare(net, precision)
    assert list(prepared) == QUANTISED
    for name, layer in prepared.items():
        assert layer.scale == pytest.approx(golden[f"init.{name}.scale"].item(), rel=1e-12)
    images, labels = torch.from_numpy(golden["images"]), torch.from_numpy(golden["labels"])
    train = net(images[:16])
    torch.testing.assert_close(train.mean(0), torch.from_numpy(golden["first_output"]), **EXACT)
    mean_square_error(train, labels[:16]).backward()
    for name, parameter in net.named_parameters():
        key = name.replace("parametrizations.weight.original", "weight")
        expected = torch.from_numpy(golden[f"grads.{key}"])
        torch.testing.assert_close(parameter.grad, expected, **EXACT)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_spikes_of_every_layer(precision: str) -> None:
    golden = load(precision)
    net = network(golden)
    prepare(net, precision)
    current = net.conv1(torch.from_numpy(golden["images"])[:16]).unsqueeze(0)
    for name, layer in net.named_children():
        if "." in name:
            continue
        if name != "conv1":
            spikes = spikes.flatten(2) if isinstance(layer, nn.Linear) else spikes  # noqa: F821
            current = layer(spikes.flatten(0, 1)).unflatten(0, (4, 16))
        spikes = scan_plain(current, 4, net.neuron)
        expected = np.stack([golden[f"spikes.t{t}.{name}"] for t in range(4)])
        assert np.array_equal(spikes.detach().numpy(), expected), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sixty_epochs_through_the_trainer(precision: str, tmp_path: Path) -> None:
    golden = load(precision)
    module = Module(network(golden))
    cbp = Cbp(precision, multiplier_lr=0.005, p_max=5, clip="value", clip_at=1.0)
    trace = Trace(cbp)
    data = TensorDataset(torch.from_numpy(golden["images"]), torch.from_numpy(golden["labels"]))
    trainer = Trainer(
        max_epochs=len(golden["trace"]),
        callbacks=[cbp, trace],
        accelerator="cpu",
        precision="64-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(data, batch_size=16))

    actual = torch.tensor(trace.rows, dtype=torch.float64)
    torch.testing.assert_close(actual, torch.from_numpy(golden["trace"]), **EXACT)
    for i, multiplier in enumerate(cbp.multipliers.multipliers.values()):
        torch.testing.assert_close(multiplier, torch.from_numpy(golden[f"lam.lambda{i}"]), **EXACT)
    for name, parameter in module.net.named_parameters():
        key = name.replace("parametrizations.weight.original", "weight")
        expected = torch.from_numpy(golden[f"final.{key}"])
        torch.testing.assert_close(parameter.detach(), expected, **EXACT)
        assert not torch.equal(expected, torch.from_numpy(golden[f"init.{key}"]))

    levels = convert(module.net)
    for name in QUANTISED:
        weight = module.net.get_submodule(name).weight
        allowed = levels[name].values(torch.float64)
        assert torch.isin(weight, allowed).all()
        assert len(weight.unique()) == len(allowed)
