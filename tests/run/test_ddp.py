"""Several devices for one run: two processes end where one does, and the first of them writes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT
from test_run import APART, bad, command, flattened, only_row, run_folder
from torch import Tensor
from train_together import CASES, in_float64, train_case

from repro.cells import Cell, RunKey
from repro.cli import main
from repro.errors import UserError
from repro.run.ddp import help_out, is_helper, require_devices, trainer_fields

EQUAL = {"rtol": 1e-6, "atol": 1e-12}
WEIGHTED = [case for case in CASES if not case.endswith("unweighted")]
Ended = dict[str, Any]


def start(*words: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a Python program of ours that may start a second process."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Ended]:
    """What each of two processes ended with, by case and process."""
    folder = tmp_path_factory.mktemp("together")
    done = start("tests/train_together.py", folder)
    assert done.returncode == 0, done.stderr
    return {
        (case, rank): torch.load(folder / f"{case} {rank}.pt", weights_only=True)
        for case in CASES
        for rank in (0, 1)
    }


def alone(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 0
) -> dict[str, object]:
    """What a single process ends with, by the path of every number."""
    monkeypatch.setattr("repro.run.training.Trainer", in_float64)
    return numbers(train_case(case, folder, devices=1, seed=seed))


def numbers(ended: Ended) -> dict[str, object]:
    """Weights, multipliers with their optimiser, g and the table of epochs; no clock."""
    found = flattened({name: ended[name] for name in ("weights", "rule", "epochs")})
    return {name: value for name, value in found.items() if isinstance(value, Tensor | int | float)}


def agree(one: dict[str, object], other: dict[str, object]) -> bool:
    assert one.keys() == other.keys()
    return all(
        torch.allclose(as_tensor(value), as_tensor(other[name]), **EQUAL)
        for name, value in one.items()
    )


def as_tensor(value: object) -> Tensor:
    return torch.as_tensor(value).double()


@pytest.mark.parametrize("case", WEIGHTED)
def test_two_processes_end_where_a_single_one_does(
    case: str,
    ended: dict[tuple[str, int], Ended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights, multipliers, g and every epoch's figures, to 1e-6 in float64."""
    two = [numbers(ended[case, rank]) for rank in (0, 1)]
    one = alone(case, tmp_path / "one", monkeypatch)
    for name, value in one.items():
        torch.testing.assert_close(as_tensor(two[0][name]), as_tensor(value), **EQUAL)
    assert not agree(two[0], alone(case, tmp_path / "other", monkeypatch, seed=1))
    assert len({epoch["train_loss"] for epoch in ended[case, 0]["epochs"]}) > 2, "spikes reach it"
    for name, value in two[0].items():  # the two processes agree to the last bit
        assert torch.equal(as_tensor(value), as_tensor(two[1][name])), name
    if CASES[case][1] in ("binary", "ternary"):
        g = [epoch["g"] for epoch in ended[case, 0]["epochs"]]
        assert g[-1] > 1
        assert any(m.abs().sum() > 0 for m in ended[case, 0]["rule"]["multipliers"].values())


@pytest.mark.parametrize("case", sorted(set(CASES) - set(WEIGHTED)))
def test_without_the_factor_of_unequal_shares_it_is_another_training(
    case: str,
    ended: dict[tuple[str, int], Ended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not agree(numbers(ended[case, 0]), alone(case, tmp_path, monkeypatch))


def test_the_first_process_writes(ended: dict[tuple[str, int], Ended]) -> None:
    for case in CASES:
        written = {"config.json", "last.ckpt", "metrics.csv"}
        if CASES[case][1] in ("binary", "ternary"):
            written.add("latent.csv")
        files = ended[case, 0]["files"]
        assert written < set(files)
        assert len(files) == len(written) + 1, "and the selected weights"


def words(folder: Path, precision: str, *more: str, cell: Cell | None = None) -> list[str]:
    named = {} if cell is None else {"cell": cell}
    return [*command(folder, precision, *more, **named), "--devices=2"]


def metrics(folder: Path, precision: str) -> list[list[str]]:
    lines = (run_folder(folder, precision) / "metrics.csv").read_text().splitlines()  # type: ignore[arg-type]
    return [line.split(",") for line in lines[1:]]


@pytest.mark.slow
def test_a_run_on_two_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line: one log, one row, and in float32 the numbers of a single process.

    A rounding that differs may flip a spike, so the loss of the first epoch agrees to 1 % and the
    accuracies, of a hundred images, to a few points.
    """
    two, one, short = tmp_path / "two", tmp_path / "one", ("--train-images=200", "--epochs=2")
    done = start("-m", "repro", *words(two, "fp32", *short))
    assert done.returncode == 0, done.stderr
    assert re.findall(r"epoch (\d)/2", done.stdout) == ["1", "2"]
    assert "Traceback" not in done.stderr
    assert main(command(one, "fp32", *short)) == 0
    rows = [only_row(folder, "fp32") for folder in (two, one)]
    assert "2 processes" in rows[0].device
    assert "processes" not in rows[1].device
    same = ("recipe_hash", "recipe", "data_checksum", "epochs_done", "test_images", "key")
    for name in same:
        assert getattr(rows[0], name) == getattr(rows[1], name)
    assert rows[0].accuracy_file == rows[0].accuracy_selected
    assert rows[0].accuracy_last == pytest.approx(rows[1].accuracy_last, abs=0.1)
    losses = [float(metrics(folder, "fp32")[0][1]) for folder in (two, one)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    capsys.readouterr()
    assert main(command(two, "fp32", *short)) == 0, "the row is there, whatever the devices"
    assert "loss" not in capsys.readouterr().out


KILLED = """
import os, signal, sys
from repro.cli import main
from repro.run.ddp import process_number
from repro.methods.base import SpikingModule

def kill(self, batch, batch_idx):
    if (self.current_epoch, batch_idx, process_number()) == (2, 7, {process}):
        os.kill(os.getpid(), signal.SIGKILL)

SpikingModule.on_train_batch_start = kill
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_killed_on_two_devices_and_resumed_equals_uninterrupted(
    process: int, tmp_path: Path
) -> None:
    """Whichever process dies, the other ends too; then as on one device, bit for bit."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        assert main(command(folder, "fp32")) == 0
    assert start("-m", "repro", *words(whole, "binary")).returncode == 0
    program = tmp_path / "program.py"
    program.write_text(KILLED.format(process=process))
    stopped = start(program, *words(killed, "binary"))
    if process == 0:
        assert stopped.returncode == -signal.SIGKILL
    else:
        assert stopped.returncode == 2
        assert "process 1 with code -9 ended: the same command continues" in stopped.stderr
    assert not (killed / "rows" / f"{RunKey(APART[1], 'binary', 0, 'smoke')}.json").exists()
    resumed = start("-m", "repro", *words(killed, "binary"))
    assert resumed.returncode == 0, resumed.stderr
    assert re.findall(r"epoch (\d)/4", resumed.stdout) == ["3", "4"]
    first, second = (
        flattened(torch.load(run_folder(f, "binary") / "last.ckpt", weights_only=True))
        for f in (whole, killed)
    )
    for name, value in first.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, second[name]), name  # type: ignore[arg-type]
        elif "ModelCheckpoint" not in name:
            assert value == second[name], name


@pytest.mark.slow
@pytest.mark.parametrize("cell", APART, ids=str)
def test_every_method_runs_on_two_devices(cell: Cell, tmp_path: Path) -> None:
    """No parameter is unused, dropout and batch normalisation included; a conversion takes one."""
    for precision in (*cell.precisions[: cell.precisions.index("fp32") + 1], "binary"):
        done = start("-m", "repro", *words(tmp_path, precision, cell=cell))
        assert done.returncode == 0, done.stderr
        row = only_row(tmp_path, precision)
        converted = RunKey(cell, precision, 0, "smoke").is_conversion
        assert ("2 processes" in row.device) == (not converted)
        assert row.accuracy_file == row.accuracy_selected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--devices=0"], "devices is 0: give 1 or more"),
        (["--devices=2", "--batch-size=599"], "leave a batch of 1 to 2 devices: use fewer"),
        (["--devices=2", "--val-images=1"], "val_images is 1, fewer than 2 devices"),
        (["--devices=2"], "several devices take a command line"),
    ],
)
def test_what_cannot_be_shared_is_one_line(
    more: list[str],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called = [*command(tmp_path, "fp32"), *more]
    if "command line" not in expected:
        monkeypatch.setattr(sys, "argv", ["repro", *called])
    assert expected in bad(called, capsys)
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_helper_is_told_with_its_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("repro.run.ddp.PATIENCE", 0.1)
    assert is_helper(2)
    assert not is_helper(1), "a variable of somebody else's launcher"

    def fail() -> None:
        raise UserError("image 7 is damaged")

    assert help_out(fail) == 2
    assert capsys.readouterr().err == "cbp-qsnn, process 1: image 7 is damaged\n"
    assert help_out(lambda: None) == 0


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert trainer_fields(2) == {"accelerator": "gpu", "devices": 2, "strategy": "ddp"}
    assert trainer_fields(1) == {"accelerator": "gpu", "devices": 1, "strategy": "auto"}
    require_devices(2)
    with pytest.raises(UserError, match="devices is 3, but there are 2 GPUs"):
        require_devices(3)


def test_dropout_is_a_process_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from repro.methods.base import SpikingModule

    class Epoch(SpikingModule):
        current_epoch = 3

        def loss(self, train: Tensor, labels: Tensor) -> Tensor:
            return train.sum()

    drawn = []
    for number in (0, 1, 0):
        monkeypatch.setattr("repro.methods.base.rank", lambda n=number: n)
        module = Epoch(None, torch.nn.Identity(), "pretrain")  # type: ignore[arg-type]
        module.on_train_epoch_start()
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
