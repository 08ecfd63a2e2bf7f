"""A run's life on the smoke data: rows, resume after SIGKILL bit for bit, bad input."""

import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clock import wait_for
from paths import ROOT

from datamodules.errors import DataError
from repro import packing
from repro.cells import ALL_CELLS, CELLS, QUANTISED, Cell, Precision, RunKey, find_cell
from repro.cli import main
from repro.methods.qcfs import with_qcfs
from repro.recipes.fields import StbpRecipe
from repro.recipes.shipped import RECIPES, find_recipe
from repro.recipes.spec import RunSpec
from repro.results.row import Row
from repro.results.rows import read_rows
from repro.run.latent_histograms import read_latent
from repro.run.lifecycle import run
from repro.run.places import Places
from repro.run.training import make_cbp
from repro.run_folder import RunFolder

CELL = find_cell("stbp", "cifar10")
TINY = ["--width=0.03125", "--time-steps=2", "--train-images=600", "--val-images=50"]
TINY += ["--test-images=100", "--epochs=3", "--cbp.epochs=4", "--cbp.p-max=1"]
TINY += ["--cbp.weight-bound=None"]  # so narrow networks have weights beyond the published bound, 1


TINY_EVENTS = ["--train-images=120", "--val-images=30", "--test-images=40", "--train-steps=1"]
TINY_CONVERSION = ["--conversion.batches=2", "--conversion.batch-size=30"]
READY = [cell for cell in CELLS if (cell, "smoke") in RECIPES]
# One cell of those whose code is the same but for the network: these tests take long, and
# `make reproduce` runs all.
TWINS = ("surrogate/dvs128_gesture", "stbp/cifar100")
APART = [cell for cell in READY if str(cell) not in TWINS and cell.dataset != "imagenet"]
OF_EVERY_CELL = pytest.mark.parametrize("parents", APART, indirect=True, ids=str)


def command(folder: Path, precision: str, *more: str, cell: Cell = CELL) -> list[str]:
    places = [f"--runs={folder / 'runs'}", f"--rows={folder / 'rows'}"]
    name = [f"--method={cell.method}", f"--dataset={cell.dataset}", f"--precision={precision}"]
    name += [f"--network={cell.network}"] * (cell.dataset == "imagenet")
    tiny = TINY + TINY_CONVERSION * cell.converted
    tiny += TINY_EVENTS * (cell.dataset in ("cifar10_dvs", "dvs128_gesture"))
    tiny = [*tiny, "--dropout=0.1"] if cell.method == "tssl_bp" else tiny
    return ["run", *name, "--tier=smoke", *places, *tiny, *more]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished FP32 run of the STBP cell."""
    folder = tmp_path_factory.mktemp("parent")
    assert main(command(folder, "fp32")) == 0
    return folder


@pytest.fixture(scope="module")
def parents(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Cell, Path]:
    """A cell, and a folder with its finished runs up to FP32."""
    cell, folder = request.param, tmp_path_factory.mktemp("parents")
    for precision in cell.precisions[: cell.precisions.index("fp32") + 1]:
        assert main(command(folder, precision, cell=cell)) == 0
    return cell, folder


def copy(parent: Path, to: Path) -> Path:
    shutil.copytree(parent, to, dirs_exist_ok=True)
    return to


@pytest.fixture(scope="module")
def parents_of_conversion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained ANN that is to be converted."""
    folder = tmp_path_factory.mktemp("ann")
    assert main(command(folder, "ann", cell=find_cell("snn_calibration", "cifar10"))) == 0
    return folder


def only_row(folder: Path, precision: Precision) -> Row:
    (row,) = [row for row in read_rows(folder / "rows") if row.precision == precision]
    return row


def run_folder(folder: Path, precision: Precision, cell: Cell = CELL) -> Path:
    return folder / "runs" / str(RunKey(cell, precision, 0, "smoke"))


@OF_EVERY_CELL
@pytest.mark.parametrize("precision", ["binary", pytest.param("ternary", marks=pytest.mark.slow)])
def test_a_run_ends_in_levels_a_file_and_a_row(
    parents: tuple[Cell, Path],
    tmp_path: Path,
    precision: Precision,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cell, folder = parents[0], copy(parents[1], tmp_path)
    assert main(command(folder, precision, cell=cell)) == 0
    row, run_files = only_row(folder, precision), run_folder(folder, precision, cell)
    assert row.accuracy_file == row.accuracy_selected
    assert row.parent == str(RunKey(cell, "fp32", 0, "smoke"))
    assert row.epochs_done == row.epochs == 4
    latent = read_latent(run_files)
    assert latent is not None
    assert latent.epochs == (0, 1, 2, 3, 4)
    assert row.firing_rates is not None
    parent_rates = only_row(folder, "fp32").firing_rates
    assert parent_rates is not None
    assert row.firing_rates.keys() == parent_rates.keys()
    assert row.firing_rates != parent_rates
    assert row.data == RECIPES[cell, "smoke"].data
    assert row.cfs_last is not None
    assert row.cfs_first is not None
    assert row.cfs_last < row.cfs_first
    lines = (run_files / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + row.epochs
    state, levels = packing.unpack(run_files / "model.safetensors")
    counts = {"alexnet": 8, "conv7fc3": 10, "vgg16": 14, "sew_wide_7b": 17}
    layers = counts[cell.network]
    assert len(levels) == layers - 2  # all but the first and the last
    assert {f"{name}.weight" for name in latent.layers} == set(levels)
    assert latent.weights == tuple(state[f"{name}.weight"].numel() for name in latent.layers)
    for name, layer in levels.items():
        assert torch.isin(state[name], layer.values()).all()
    # docs/packed_format.md; longer names than 12 letters add theirs, those of levels twice.
    names = sum(max(0, len(name) - 12) * (1 + (name in levels)) for name in state)
    header = 200 * len(levels) + 70 * (len(state) - len(levels)) + names + 1024
    assert row.everything_bytes < row.file_bytes <= row.everything_bytes + header

    capsys.readouterr()
    assert main(command(folder, precision, cell=cell)) == 0  # the row is there: nothing is done
    assert "loss" not in capsys.readouterr().out
    assert only_row(folder, precision) == row


def test_packed_file_gives_bit_identical_logits(parent: Path, tmp_path: Path) -> None:
    from repro.cbp.layers import convert, prepare
    from repro.methods.stbp import Stbp

    recipe = dataclasses.replace(find_recipe(CELL, "smoke"), gain=4.0)  # so that neurons fire
    torch.manual_seed(0)
    network = Stbp(recipe, 10, "pretrain").network
    prepare(network, "ternary")
    images = torch.rand(4, 3, 32, 32)
    logits = network(images)
    levels = {f"{name}.weight": layer for name, layer in convert(network).items()}
    packing.pack(tmp_path / "file.safetensors", network.state_dict(), levels)
    torch.manual_seed(1)
    fresh = Stbp(recipe, 10, "pretrain").network
    assert not torch.equal(fresh(images), logits)
    fresh.load_state_dict(packing.unpack(tmp_path / "file.safetensors")[0])
    assert torch.equal(fresh(images), logits)
    assert logits.sum() > 0


KILLED = """
import os, signal, sys
from repro.cli import main
from repro.methods.base import SpikingModule

def kill(self, batch, batch_idx):
    if (self.current_epoch, batch_idx) == (2, 7):
        os.kill(os.getpid(), signal.SIGKILL)

SpikingModule.on_train_batch_start = kill
main(sys.argv[1:])
"""
RESUMED = {
    "ann": ["--schedule=cosine", "--augment", "--autoaugment", "--cutout=8"],
    "fp32": ["--schedule=step", "--lr-step=1", "--augment", "--epochs=5", "--optimiser=adam"],
    "fp32_control": ["--cbp.lr-drop-at-g=3", "--cbp.epochs=5"],
    "binary": ["--cbp.lr-drop-at-g=3", "--cbp.epochs=5"],
    "ternary": ["--cbp.lr-drop-at-g=3", "--cbp.epochs=5", "--cbp.train=quantised"],
}
TRAINED = [
    (cell, precision)
    for cell in READY
    for precision in cell.precisions
    if not RunKey(cell, precision, 0, "smoke").is_conversion
]


def flattened(value: object, name: str = "") -> dict[str, object]:
    """Every tensor and number of a checkpoint by its path; clocks and commits left out."""
    if isinstance(value, dict):
        parts = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(str(key), part) for key, part in enumerate(value)]
    else:
        return {name: value}
    found: dict[str, object] = {}
    for key, part in parts:
        if key not in ("seconds", "commits"):
            found |= flattened(part, f"{name}/{key}")
    return found


# Every method and every precision once; the weekly tests kill all pairs.
# Images and events, CBP and what goes before it; the others take as long and differ less.
KILLED_ALWAYS = (("tssl_bp/cifar10", "ternary"),)


@pytest.mark.parametrize(
    ("parents", "precision"),
    [
        pytest.param(
            *(cell, precision),
            id=f"{precision}-{cell}",
            marks=[] if (str(cell), precision) in KILLED_ALWAYS else pytest.mark.slow,
        )
        for cell, precision in TRAINED
        if cell in APART
    ],
    indirect=["parents"],
)
def test_killed_and_resumed_equals_uninterrupted(
    parents: tuple[Cell, Path],
    tmp_path: Path,
    precision: Precision,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGKILL in the middle of the third epoch: the whole checkpoint ends equal bit for bit."""
    cell = parents[0]
    whole, killed = folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        if RunKey(cell, precision, 0, "smoke").parent() is None:
            folder.mkdir()
        else:
            copy(parents[1], folder)
    # TSSL-BP drops out in both phases, VGG16 as an ANN; the parents of TINY have TSSL-BP's, too.
    more = RESUMED[precision] + ["--dropout=0.1"] * (precision == "ann")
    assert main(command(whole, precision, *more, cell=cell)) == 0
    words = [sys.executable, "-c", KILLED, *command(killed, precision, *more, cell=cell)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    stopped = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert stopped.returncode == -signal.SIGKILL, stopped.stderr.decode()
    last = run_folder(killed, precision, cell) / "last.ckpt"
    before = torch.load(last, weights_only=True)
    assert len(before["callbacks"]["History"]["epochs"]) == 2
    assert not (killed / "rows" / f"{RunKey(cell, precision, 0, 'smoke')}.json").exists()
    capsys.readouterr()
    assert main(command(killed, precision, *more, cell=cell)) == 0
    told = capsys.readouterr().out
    assert "epoch 3/" in told
    assert "epoch 2/" not in told, "it must resume, not start anew"

    first, second = (
        flattened(torch.load(run_folder(f, precision, cell) / "last.ckpt", weights_only=True))
        for f in folders
    )
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name  # type: ignore[arg-type]
        elif "ModelCheckpoint" not in name:
            assert value == second[name], name
    earlier = flattened(before)
    weights = [name for name in first if "/state_dict/" in name and "weight" in name]
    assert any(not torch.equal(first[n], earlier[n]) for n in weights)  # type: ignore[arg-type]
    rows = [vars(only_row(folder, precision)) for folder in folders]
    assert {k for k in rows[0] if rows[0][k] != rows[1][k]} <= {"wall_seconds"}
    files = [run_folder(f, precision, cell) / "model.safetensors" for f in folders]
    assert files[0].read_bytes() == files[1].read_bytes()
    histograms = [run_folder(f, precision, cell) / "latent.csv" for f in folders]
    assert [path.exists() for path in histograms] == [precision in QUANTISED] * 2
    if precision in QUANTISED:
        first_lines, second_lines = (path.read_text().splitlines() for path in histograms)
        assert first_lines == second_lines
        counts = [line.split(",", 2)[2] for line in first_lines]
        assert counts[-1] != counts[1], "weights move"


def bad(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail with exit code 2; return its one line."""
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    lines = [line for line in error.splitlines() if line.startswith("cbp-qsnn: ")]
    assert len(lines) == 1, error
    return lines[0]


def test_the_control_clamps_by_the_scale_of_its_cbp_run() -> None:
    cell = find_cell("stbp", "cifar10")
    recipe = find_recipe(cell, "smoke")
    scaled = dataclasses.replace(recipe, cbp=dataclasses.replace(recipe.cbp, scale="layer_rms"))
    precisions: tuple[Precision, ...] = ("binary", "fp32_control")
    for precision in precisions:
        spec = RunSpec(RunKey(cell, precision, 0, "smoke"), scaled)
        assert make_cbp(spec).scale == "layer_rms"


def test_unknown_cell_lists_the_nine(capsys: pytest.CaptureFixture[str]) -> None:
    line = bad(["run", "--method=stbp", "--dataset=mnist"], capsys)
    assert line.count("/") >= 9
    assert "surrogate/imagenet/sew_resnet34" in line


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--precision=quaternary", "quaternary"),
        ("--seed=-1", "give 0 or more"),
        ("--epochs=many", "many"),
        ("--no-such-field=1", "no-such-field"),
        ("--cbp.clip=sideways", "sideways"),
        ("--epochs=0", "epochs"),
        ("--width=-1", "width"),
        ("--decay=5", "decay"),
        ("--train-images=99999", "99999"),
        (f"--seed={2**64}", "below 2^63"),
        ("--data=mnist", "mnist"),
        ("--cbp.optimiser=lion", "lion"),
        ("--cutout=-3", "cutout"),
    ],
)
def test_bad_value(
    word: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for cell in READY:
        if word.startswith("--decay") and cell.method != "stbp":
            continue
        assert expected in bad([*command(tmp_path, cell.precisions[0], cell=cell), word], capsys)
    assert not list(tmp_path.iterdir()), "nothing half-made is left"


@pytest.mark.parametrize(
    ("cell", "word", "expected"),
    [
        (("tssl_bp", "cifar10"), "--tau-s=0.5", "give 1 step or more"),
        (("tssl_bp", "cifar10"), "--dropout=1", "give 0 or more, below 1"),
        (("tssl_bp", "cifar10"), "--silent-steps=9", "give less than time_steps"),
        (("snn_calibration", "cifar10"), "--conversion.pipeline=heavy", "heavy"),
        (("snn_calibration", "cifar10"), "--conversion.batches=0", "batches"),
        (("snn_calibration", "cifar10"), "--dropout=-1", "give 0 or more, below 1"),
    ],
)
def test_bad_value_of_one_method(
    cell: tuple[str, str],
    word: str,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = find_cell(*cell)
    assert expected in bad([*command(tmp_path, "binary", cell=found), word], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("cell", APART, ids=str)
def test_missing_parent_prints_the_command_that_makes_it(
    cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = command(tmp_path, "binary", cell=cell)
    line = bad(wanted, capsys)
    assert not (tmp_path / "runs").exists()
    made_by = shlex.split(line[line.index("python -m repro ") :])[3:]
    if cell.converted:  # the parent has a parent of its own
        line = bad(made_by, capsys)
        ann = shlex.split(line[line.index("python -m repro ") :])[3:]
        assert "ann" in ann
        assert main(ann) == 0
    assert main(made_by) == 0
    assert main(wanted) == 0


def test_rows_without_weights_are_made_again(parent: Path, tmp_path: Path) -> None:
    """As in a fresh clone, which has rows but no run folders."""
    folder = copy(parent, tmp_path)
    before = only_row(folder, "fp32")
    shutil.rmtree(folder / "runs")
    assert main(command(folder, "fp32")) == 0
    assert only_row(folder, "fp32").correct == before.correct
    assert main(command(folder, "binary")) == 0


def test_interrupt_ends_in_one_line_and_can_be_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from repro.methods.stbp import Stbp

    def interrupt(self: Stbp, outputs: object, batch: object, batch_idx: int) -> None:
        if (self.current_epoch, batch_idx) == (1, 3):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Stbp, "on_train_batch_end", interrupt)
        assert main(command(tmp_path, "fp32")) == 130
    assert "interrupted; the same command continues" in capsys.readouterr().err
    assert main(command(tmp_path, "fp32")) == 0
    assert "epoch 1/3" not in capsys.readouterr().out


def test_unwritable_folder(capsys: pytest.CaptureFixture[str]) -> None:
    line = bad([*command(Path("/proc"), "fp32")], capsys)
    assert "/proc/runs" in line


FAR_ABOVE_CHANCE = {
    "sew_7b": 0.4,
    "sew_wide_7b": 0.3,
    "sew_5b": 0.3,
    "sew_resnet18": 0.3,
}


QUICK = ("surrogate/dvs128_gesture",)  # `make reproduce` trains all of them


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, id=str(cell), marks=[] if str(cell) in QUICK else pytest.mark.slow)
        for cell in (*READY, find_cell("surrogate", "nmnist"))
        if cell.network != "sew_resnet34"
    ],
)
def test_smoke_recipes_train(cell: Cell, tmp_path: Path) -> None:
    """The shipped recipe, two epochs: far above chance, quantised weights included.

    Chance is 10 %, of the gestures 9 %; SEW-ResNets want more epochs than the recipe has.
    """
    places = [f"--runs={tmp_path / 'runs'}", f"--rows={tmp_path / 'rows'}"]
    deep = cell.method == "surrogate"
    for precision in cell.precisions:
        words = ["run", f"--method={cell.method}", f"--dataset={cell.dataset}", "--tier=smoke"]
        words += [*places, f"--precision={precision}", "--cbp.epochs=2"]
        words += [f"--network={cell.network}"] * (cell.dataset == "imagenet")
        if not cell.converted and not deep:
            words += ["--epochs=2"]
        assert main(words) == 0
        enough = FAR_ABOVE_CHANCE[cell.network] if deep else 0.5
        assert only_row(tmp_path, precision).accuracy_val_selected > enough, precision
    weights = {
        p: packing.unpack(run_folder(tmp_path, p, cell) / "model.safetensors")[0]
        for p in ("fp32", "fp32_control")
    }
    before, after = weights.values()
    assert any(not torch.equal(before[name], after[name]) for name in before), "it trains on"


def test_a_cell_without_an_ann_refuses_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--method=stbp", "--dataset=cifar10", "--precision=ann"]
    assert "stbp/cifar10 has no precision ann: one of fp32, fp32_control" in bad(words, capsys)


@pytest.mark.parametrize(("given", "levels"), [(0, 8), (2, 2)])
def test_a_conversion_with_activations_trained_for_few_steps(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given: int,
    levels: int,
) -> None:
    seen = []
    monkeypatch.setattr(
        "repro.run.conversion.with_qcfs",
        lambda ann, found, number: seen.append(number) or with_qcfs(ann, found, number),
    )
    cell = find_cell("snn_calibration", "cifar100")
    more = ["--conversion.pipeline=qcfs", "--conversion.qcfs-epochs=2", "--cbp.epochs=1"]
    more += [f"--conversion.qcfs-levels={given}", "--time-steps=8"]
    for precision in ("ann", "fp32", "binary"):
        assert main(command(tmp_path, precision, *more, cell=cell)) == 0
    assert "QCFS epoch 2/2" in capsys.readouterr().out
    row = only_row(tmp_path, "fp32")
    assert row.conversion is not None
    assert set(row.conversion) == {"ann", "uncalibrated", "light", "qcfs"}
    assert row.conversion["qcfs"] == row.accuracy_file
    assert row.recipe["conversion"]["qcfs_epochs"] == 2
    assert row.recipe["conversion"].get("qcfs_levels", 0) == given
    assert seen == [levels]
    assert "weight_steps" not in row.recipe["conversion"]
    wrong = [*command(tmp_path, "fp32", cell=cell), "--conversion.qcfs-lr=0"]
    assert "qcfs_lr is 0.0: give a number above 0" in bad(wrong, capsys)


def test_a_conversion_has_a_row_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = find_cell("snn_calibration", "cifar100")
    steps = ["--conversion.pipeline=weights", "--conversion.weight-steps=20"]
    for precision in ("ann", "fp32", "binary"):
        assert main(command(tmp_path, precision, *steps, cell=cell)) == 0
    row, ann = only_row(tmp_path, "fp32"), only_row(tmp_path, "ann")
    assert row.conversion is not None
    assert set(row.conversion) == {"ann", "uncalibrated", "light", "weights"}
    assert row.conversion["ann"] == ann.accuracy_file == row.accuracy_parent
    assert row.conversion["weights"] == row.accuracy_file == row.accuracy_selected
    assert row.epochs_done == 0
    assert row.parent == str(ann.key)
    assert ann.conversion is None
    assert "conversion" not in ann.recipe
    folder = run_folder(tmp_path, "fp32", cell)
    out = tmp_path / "converted.safetensors"
    assert main(["export", str(folder), f"--out={out}"]) == 0
    assert out.read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_conversion_without_images_enough_names_the_remedy_and_leaves_nothing(
    parents_of_conversion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = find_cell("snn_calibration", "cifar10")
    folder = copy(parents_of_conversion, tmp_path)
    converting = command(folder, "fp32", cell=cell)
    line = bad([*converting, "--conversion.batches=99"], capsys)
    assert "asks for 2970 training images" in line
    assert "lower conversion.batches" in line
    assert not run_folder(folder, "fp32", cell).exists()
    assert main([*converting, "--conversion.batches=1"]) == 0


def test_absent_data_says_how_to_get_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    words = [*command(tmp_path, "fp32"), "--tier=desk", f"--data-dir={tmp_path / 'none'}"]
    line = bad(words, capsys)
    assert "--data-dir" in line
    assert "CBP_DATA" in line
    assert not (tmp_path / "runs").exists()


def test_weights_that_are_no_numbers_stop_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A membrane that is NaN never fires: the loss stays finite, the weights do not."""
    from repro.methods.stbp import Stbp

    def poison(self: Stbp, *_: object) -> None:
        with torch.no_grad():
            self.network.conv2.weight[0, 0] = float("nan")

    monkeypatch.setattr(Stbp, "on_train_batch_end", poison)
    assert "a weight is NaN or infinite in epoch 1" in bad(command(tmp_path, "fp32"), capsys)
    assert not (run_folder(tmp_path, "fp32") / "last.ckpt").exists()


def test_damaged_files_are_named(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(parent, tmp_path)
    model = run_folder(folder, "fp32") / "model.safetensors"
    content = model.read_bytes()
    model.write_bytes(content[:-7])
    assert "model.safetensors" in bad(command(folder, "binary"), capsys)
    assert "model.safetensors" in bad(["inspect", str(model)], capsys)
    model.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
    assert "model.safetensors" in bad(["inspect", str(model)], capsys)
    model.write_bytes(content)
    assert main(["inspect", str(model)]) == 0

    row = folder / "rows" / f"{RunKey(CELL, 'fp32', 0, 'smoke')}.json"
    text = row.read_text()
    row.unlink()
    last = run_folder(folder, "fp32") / "last.ckpt"
    whole = last.read_bytes()
    good = model.read_bytes()
    model.unlink()
    flipped = [
        whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]
        for at in range(0, len(whole), len(whole) // 12)
    ]
    for damaged in (whole[: len(whole) // 2], b"", b"PK\3\4"):
        last.write_bytes(damaged)
        assert "last.ckpt is damaged" in bad(command(folder, "fp32"), capsys)
    refused = 0
    for damaged in flipped:  # a byte of the padding between records changes nothing
        last.write_bytes(damaged)
        if main(command(folder, "fp32")) == 2:
            assert "last.ckpt is damaged" in capsys.readouterr().err
            refused += 1
        else:
            assert json.loads(row.read_text())["correct"] == json.loads(text)["correct"]
            row.unlink()
    assert refused >= len(flipped) - 2
    last.write_bytes(whole)
    (selected,) = run_folder(folder, "fp32").glob("selected-*.safetensors")
    content = bytearray(selected.read_bytes())
    content[-3] ^= 1
    selected.write_bytes(bytes(content))
    assert f"{selected.name} is damaged" in bad(command(folder, "fp32"), capsys)
    assert not row.exists()
    model.write_bytes(good)
    row.write_text(text.replace('"method"', '"methud"'))
    assert row.name in bad(command(folder, "fp32"), capsys)


def test_network_with_too_few_layers(capsys: pytest.CaptureFixture[str]) -> None:
    from repro.cbp.layers import choose_layers
    from repro.errors import UserError

    with pytest.raises(UserError, match="no layer is left to quantise"):
        choose_layers(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)))


def test_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from repro.methods.stbp import Stbp

    plain = Stbp.loss

    def poisoned(self: Stbp, train: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = plain(self, train, labels)
        return loss * float("nan") if self.current_epoch == 2 else loss

    monkeypatch.setattr(Stbp, "loss", poisoned)
    line = bad(command(tmp_path, "fp32"), capsys)
    assert "the loss is nan in epoch 3" in line
    last = torch.load(run_folder(tmp_path, "fp32") / "last.ckpt", weights_only=True)
    assert len(last["callbacks"]["History"]["epochs"]) == 2
    assert all(torch.isfinite(t).all() for t in last["state_dict"].values())
    assert not (tmp_path / "rows").exists()


def test_folder_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.run_folder.RELEASE", 0.1)
    with RunFolder(run_folder(tmp_path, "fp32")).locked():
        assert "in use by another process" in bad(command(tmp_path, "fp32"), capsys)


@pytest.mark.parametrize(
    ("cell", "data"),
    [(CELL, "digits_dvs_sim"), (find_cell("surrogate", "cifar10_dvs"), "digits")],
    ids=str,
)
def test_another_data_set_is_not_mixed_in(
    cell: Cell, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = bad(command(tmp_path, "fp32", f"--data={data}", cell=cell), capsys)
    assert f"data is {data}: a run of {cell} at the smoke tier reads" in line
    assert not list(tmp_path.iterdir())


def test_reproduce_goes_on_without_a_cell_that_has_no_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def no_data(spec: RunSpec, places: Places) -> Row:
        tried.append(str(spec.key.cell))
        raise DataError(f"{spec.key.cell.dataset} is absent")

    monkeypatch.setattr("repro.run.lifecycle.run", no_data)
    words = ["reproduce", "--tier=paper", "--jobs=1", f"--runs={tmp_path}", f"--rows={tmp_path}"]
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results" / "paper.csv", tmp_path / "results")
    assert main([*words, f"--results={tmp_path / 'results'}"]) == 1
    cells = [cell for cell in ALL_CELLS if (cell, "paper") in RECIPES]
    assert sorted(tried) == sorted(map(str, cells))  # once: its other runs have no data either
    assert len({name.split("/")[0] for name in tried[:4]}) == 4, "methods start apart"
    told = capsys.readouterr().err
    for cell in cells:
        assert f"cbp-qsnn: {cell} was not run: {cell.dataset} is absent" in told


def test_another_recipe_is_not_mixed_in(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(parent, tmp_path)
    changed = [*command(folder, "fp32"), "--lr=0.123"]
    assert "another recipe" in bad(changed, capsys)
    shutil.rmtree(folder / "rows")
    assert "another recipe" in bad(changed, capsys)
    folder = copy(parent, tmp_path)
    assert "decay differ" in bad([*command(folder, "binary"), "--decay=0.5"], capsys)


def test_the_same_seed_repeats_and_another_differs(parent: Path, tmp_path: Path) -> None:
    key = RunKey(CELL, "fp32", 0, "smoke")
    recipe = StbpRecipe(cbp=RECIPES[CELL, "smoke"].cbp, **only_row(parent, "fp32").recipe)
    again = run(RunSpec(key, recipe), Places(tmp_path / "runs", tmp_path / "rows"))
    assert again.correct == only_row(parent, "fp32").correct
    assert again.accuracy_last == only_row(parent, "fp32").accuracy_last
    other = dataclasses.replace(key, seed=1)
    places = Places(tmp_path / "runs", tmp_path / "rows")
    assert run(RunSpec(other, recipe), places).correct != again.correct


def test_export_and_inspect(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(parent, tmp_path)
    assert main(command(folder, "binary")) == 0
    for epoch in ("selected", "last"):
        out = tmp_path / f"{epoch}.safetensors"
        words = ["export", str(run_folder(folder, "binary")), f"--out={out}", f"--epoch={epoch}"]
        capsys.readouterr()
        assert main(words) == 0
        printed = capsys.readouterr().out
        assert "-a, +a" in printed
        assert main(["inspect", str(out)]) == 0
        assert capsys.readouterr().out == printed
    assert "is not a run folder" in bad(["export", str(tmp_path / "nowhere")], capsys)
    last = run_folder(folder, "binary") / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint["callbacks"]["History"]["selected_sha256"]
    torch.save(checkpoint, last)
    line = bad(["export", str(run_folder(folder, "binary"))], capsys)
    assert "another version of this program" in line


def test_wandb_offline_logs_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert main([*command(tmp_path, "fp32"), "--wandb=offline", "--epochs=1"]) == 0
    logged = list(run_folder(tmp_path, "fp32").rglob("*.wandb"))
    assert len(logged) == 1
    # W&B's own process writes, and may lag behind finish().
    wait_for(lambda: b"memory/packed_bytes" in logged[0].read_bytes(), "the summary is written")
    assert b"val/accuracy" in logged[0].read_bytes()


def test_config_and_row_tell_the_recipe(parent: Path) -> None:
    config = json.loads((run_folder(parent, "fp32") / "config.json").read_text())
    row = only_row(parent, "fp32")
    assert config["recipe"] == row.recipe
    assert config["recipe_hash"] == row.recipe_hash
    assert row.recipe["width"] == 0.03125
