"""The command for a person's own network: from the command line to the file, and all bad input."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from repro import packing
from repro.cbp.levels import LEVELS, ChannelLevels
from repro.cli import dispatch as cli

OWN = """
from pathlib import Path
import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Model(LightningModule):
    def __init__(self, width=16, lr=0.05):
        super().__init__()
        self.save_hyperparameters()
        self.features = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width))
        self.head = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))
        self.last = nn.Linear(width, 3)

    def forward(self, x):
        return self.last(self.head(self.features(x)).relu())

    def training_step(self, batch, batch_idx):
        if Path("stop").exists() and self.current_epoch == 2:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch, batch_idx):
        right = self(batch[0]).argmax(1) == batch[1]
        self.log_dict({"accuracy": right.float().mean(), "seen": float(len(right))})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


class Silent(Model):
    test_step = LightningModule.test_step


class Untrained(Model):
    training_step = LightningModule.training_step


class Plain(nn.Linear):
    pass


class Counts(Model):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.zeros(3, dtype=torch.int16))


class Extra(Model):
    def get_extra_state(self):
        return {"seen": 3}

    def set_extra_state(self, state):
        pass


class Data(LightningDataModule):
    def __init__(self, size=200, nan=False):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        centres = 2 * torch.randn(3, 8, generator=generator)
        labels = torch.arange(size) % 3
        points = centres[labels] + torch.randn(size, 8, generator=generator)
        self.parts = TensorDataset(points * (float("nan") if nan else 1), labels)

    def train_dataloader(self):
        return DataLoader(self.parts, batch_size=20, shuffle=True)

    def test_dataloader(self):
        return DataLoader(self.parts, batch_size=200)


class NoBatches(LightningDataModule):
    pass


def broken():
    raise RuntimeError("out of\\nluck")


number = 3
"""
INNER = ["features.2", "head.2"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a person: own_net.py and trained weights of its Model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    (tmp_path / "own_net.py").write_text(OWN)
    import own_net

    torch.manual_seed(0)
    module = own_net.Model()
    optimiser = module.configure_optimizers()
    points, labels = own_net.Data().parts.tensors
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(points), labels).backward()
        optimiser.step()
    save_file(module.state_dict(), tmp_path / "parent.safetensors")
    return tmp_path


WORDS = "--model own_net:Model --data own_net:Data --checkpoint parent.safetensors --epochs 4"


def command(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command; return what it printed."""
    assert cli.main(["quantise", *words.split()]) == 0
    return capsys.readouterr().out


def refused(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command, which must end with exit code 2 and one line; return the line."""
    before = sorted(Path().iterdir())
    assert cli.main(["quantise", *words.split()]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert sorted(path for path in Path().iterdir() if path.name != "__pycache__") == [
        path for path in before if path.name != "__pycache__"
    ]
    return told.err


def test_from_trained_weights_to_a_file_that_is_read_back(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = command(f"{WORDS} --out own.safetensors", capsys)
    assert "2 of 4 convolutions and linear layers quantised" in text
    assert "read back into a fresh own_net:Model, every tensor equal" in text
    assert "accuracy: " in text
    assert "seen" not in text.splitlines()[-1]
    state, levels = packing.unpack("own.safetensors")
    assert list(levels) == [f"{name}.weight" for name in INNER]
    for name, chosen in levels.items():
        assert chosen.levels == LEVELS["binary"]
        assert torch.isin(state[name], chosen.values()).all()
    assert packing.metadata("own.safetensors")["model"] == "own_net:Model"
    data, note = Path("own.safetensors").read_bytes(), Path("own.safetensors.run/summary.json")
    stamp = note.stat().st_mtime_ns
    again = command(f"{WORDS} --out own.safetensors", capsys)  # does nothing
    assert again.strip() in text
    assert note.stat().st_mtime_ns == stamp
    Path("own.safetensors").write_bytes(data[:-1])
    command(f"{WORDS} --out own.safetensors", capsys)  # mends the file, without training
    assert Path("own.safetensors").read_bytes() == data
    command(f"{WORDS} --seed 1 --out other.safetensors", capsys)
    assert Path("other.safetensors").read_bytes() != data


def test_mixed_precision_scales_of_channels_and_layers_by_pattern(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(
        f"{WORDS} --levels features.*=shift2 *=ternary --scale channel --ends --exclude last"
        " --epochs 1 --out own.safetensors",
        capsys,
    )
    _, levels = packing.unpack("own.safetensors")
    assert {name: (type(q), len(q.levels)) for name, q in levels.items()} == {
        "features.0.weight": (ChannelLevels, 7),
        "features.2.weight": (ChannelLevels, 7),
        "head.2.weight": (ChannelLevels, 3),
    }


def test_a_dry_run_prints_layers_and_memory_and_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.iterdir())
    text = command("--model own_net:Model --levels shift1 --dry-run --model-args width=32", capsys)
    assert sorted(path for path in here.iterdir() if path.name != "__pycache__") == before
    weights, inner = 8 * 32 + 2 * 32 * 32 + 32 * 3, 2 * 32 * 32
    packed = inner * 3 // 8 + 4 * (weights - inner)
    share = f"{packed / (4 * weights):.2%}"
    assert f"{4 * weights:,} bytes in FP32, {packed:,} packed, {share}" in text
    rest = 4 * (3 * 32 + 3) + 4 * 4 * 32 + 8  # biases; batch norm and its counter
    whole = 4 * weights + rest
    scales = 2 * 4
    assert f"all tensors: {whole:,} bytes as they are, {packed + rest + scales:,} packed" in text
    for name, levels in (("features.0", "FP32"), ("features.2", "shift1"), ("last", "FP32")):
        (line,) = [line for line in text.splitlines() if name in line]
        assert levels in line


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("--model own_net", "invalid import path 'own_net': give package.module:Name"),
        ("--model nowhere:Model", "nowhere cannot be imported: ModuleNotFoundError"),
        ("--model own_net:Modle", "own_net has no Modle: it has"),
        ("--model own_net:number", "own_net:number is a int: give a class or a function"),
        ("--model own_net:broken", "own_net:broken cannot be made: RuntimeError, out of luck"),
        ("--model own_net:Model --model-args height=2", "with height=2 cannot be made: TypeError"),
        ("--model own_net:Model --model-args width", "argument 'width': give key=value"),
        (
            "--model own_net:Plain --model-args in_features=2 out_features=2",
            "makes a Plain: give a LightningModule",
        ),
        ("--data own_net:Model", "makes a Model: give a LightningDataModule"),
        ("--data own_net:NoBatches", "own_net:NoBatches has no train_dataloader"),
        ("--model own_net:Untrained", "own_net:Untrained has no training_step"),
        ("--weight-bound 0", "weight_bound is 0.0"),
        ("--checkpoint absent.ckpt", "absent.ckpt is missing"),
        ("--checkpoint own_net.py", "own_net.py cannot be read without running pickled code"),
        ("--checkpoint noise.safetensors", "invalid or damaged safetensors file"),
        ("--model-args width=8", "parent.safetensors does not fit the model: "),
        ("--levels quaternary", "unknown level set 'quaternary': one of binary, ternary, shift1"),
        ("--levels binary ternary", "give one level set, or pattern=levels each time"),
        ("--levels conv*=binary", "levels for 'conv*' concern no layer"),
        ("--layers conv*", "no convolution or linear layer named ['conv*']; there are ['features"),
        ("--exclude features.2 head.2", "no layer is left"),
        ("--epochs 0", "epochs is 0"),
        ("--multiplier-lr nan", "multiplier_lr is nan"),
        ("--scale row", "invalid choice"),
        ("--seed -1", "seed is -1"),
        ("--out nowhere/own.safetensors", "give a file in a folder that exists"),
        ("--out parent.safetensors", "is checkpoint and out"),
    ],
)
def test_bad_input_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], words: str, wrong: str
) -> None:
    Path("noise.safetensors").write_bytes(b"noise" * 20)
    told = refused(f"{WORDS} --out own.safetensors {words}", capsys)
    assert wrong in told


def test_what_is_missing_or_no_file_can_hold_is_told_before_training(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no data: give --data" in refused("--model own_net:Model --out a", capsys)
    for name, wrong in (("Counts", "table, torch.int16"), ("Extra", "_extra_state, dict")):
        told = refused(f"--model own_net:{name} --data own_net:Data --out a", capsys)
        assert f"{wrong}, cannot be stored: a packed file holds tensors of F64" in told
    told = refused("--model own_net:Model --data own_net:Data", capsys)
    assert "no file to write: give --out" in told


def test_a_loss_that_is_no_number_ends_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"{WORDS} --out own.safetensors --data-args nan=True"
    assert cli.main(["quantise", *words.split()]) == 2
    assert " in epoch 1: lower the learning rate" in capsys.readouterr().err
    assert not Path("own.safetensors").exists()


def test_checkpoints_of_every_kind_give_the_same_start(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import own_net
    from pytorch_lightning import Trainer

    module = own_net.Model()
    trainer = Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, own_net.Data())
    trainer.save_checkpoint("whole.ckpt")
    torch.save(module.state_dict(), "state.pt")
    save_file(module.state_dict(), "state.safetensors")
    packing.pack("packed.safetensors", module.state_dict(), {})
    state = module.state_dict()
    forms: dict[str, Any] = {
        "model": {"model": state, "epoch": 3, "optimizer": {"state": {}, "lr": torch.ones(())}},
        "own_name": {"snn": state, "best": torch.ones(())},
        "two": {"ema": {n: t + 1 for n, t in state.items()}, "net": state},
        "ddp": {f"module.{name}": tensor for name, tensor in state.items()},
        "compiled": {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
        "inside": {
            name.replace("features.", "features._orig_mod."): t for name, t in state.items()
        },
        "both": {"state_dict": {f"module.net.{name}": tensor for name, tensor in state.items()}},
    }
    for name, form in forms.items():
        torch.save(form, f"{name}.pt")
    texts = {
        command(f"--model own_net:Model --dry-run --checkpoint {name}", capsys)
        for name in (
            *("whole.ckpt", "state.pt", "state.safetensors", "packed.safetensors"),
            *(f"{name}.pt" for name in forms),
        )
    }
    other = command("--model own_net:Model --dry-run --checkpoint parent.safetensors", capsys)
    assert len(texts) == 1
    assert other not in texts
    for form, wrong in (
        ({"a": state, "b": state}, "holds a, b, and none or several of these are state dicts"),
        ({"net": 3}, "holds net, and none"),
        ([1, 2], "holds a list: give a state dict"),
        ({"w": torch.ones(2)}, "it has 1 tensors of 13; it lacks features.0.bias, features.0.we"),
        ({**state, "more": torch.ones(2)}, "14 tensors of 13; the model has no more"),
        ({**state, "last.bias": torch.ones(2)}, "size mismatch for last.bias"),
    ):
        torch.save(form, "wrong.pt")
        told = refused("--model own_net:Model --dry-run --checkpoint wrong.pt", capsys)
        assert wrong in told
    torch.save({"net": module}, "pickled.ckpt")
    told = refused("--model own_net:Model --dry-run --checkpoint pickled.ckpt", capsys)
    assert "without running pickled code" in told


def test_a_module_that_logs_nothing_and_no_checkpoint_are_said(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--model own_net:Silent --data own_net:Data --epochs 1 --out own.safetensors"
    text = command(words, capsys)
    assert "accuracy: not measured" in text
    assert "no --checkpoint" in text


def test_other_arguments_for_the_same_file_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(f"{WORDS} --epochs 1 --out own.safetensors", capsys)
    told = refused(f"{WORDS} --epochs 1 --levels ternary --out own.safetensors", capsys)
    assert "own.safetensors.run was started with another levels" in told


def test_a_stopped_run_goes_on_to_the_same_file(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the third epoch of four."""
    handler = signal.getsignal(signal.SIGINT)
    Path("stop").touch()
    assert cli.main(["quantise", *f"{WORDS} --out stopped.safetensors".split()]) == 130
    signal.signal(signal.SIGINT, handler)  # Lightning ignores further ones
    told = capsys.readouterr()
    assert "interrupted; the same command continues" in told.err
    assert told.out.count("epoch ") == 2
    assert not Path("stopped.safetensors").exists()
    Path("stop").unlink()
    assert command(f"{WORDS} --out stopped.safetensors", capsys).count("epoch ") == 2
    command(f"{WORDS} --out whole.safetensors", capsys)
    command(f"{WORDS} --epochs 3 --out other.safetensors", capsys)
    names = ("stopped.safetensors", "whole.safetensors", "other.safetensors")
    stopped, whole, other = (Path(name).read_bytes() for name in names)
    assert stopped == whole
    assert stopped != other


def test_config_of_the_folder_is_readable(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(f"{WORDS} --epochs 1 --out own.safetensors", capsys)
    config = json.loads(Path("own.safetensors.run/config.json").read_text("utf-8"))
    assert config["model"] == "own_net:Model"
    assert len(config["checkpoint"]) == 64
