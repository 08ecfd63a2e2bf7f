"""Models to take home: kept beside the rows, listed, evaluated by name, and parents of new runs."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from paths import ROOT
from test_run import CELL, TINY, bad, command, run_folder

from repro.cells import RunKey, find_cell
from repro.cli import main
from repro.deploy.packed_run import open_cell
from repro.methods.base import predictions
from repro.report.page.trace import read_trace
from repro.results.row import unpack_correct
from repro.results.rows import read_row, read_rows
from repro.run import models

NAMES = {p: str(RunKey(CELL, p, 0, "smoke")) for p in ("fp32", "fp32_control", "binary")}
KEPT = sorted((ROOT / "results/models").rglob("*.safetensors"))
SPIKING = [path for path in KEPT if "-ann-" not in path.stem]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three finished runs."""
    folder = tmp_path_factory.mktemp("made")
    for precision in NAMES:
        assert main(command(folder, precision)) == 0
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone, in which commands run: rows, models and logs, but no run folders."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / "rows", models.ROWS)
    assert models.keep(models.rows_by_name(), made / "runs") == sorted(NAMES.values())
    return tmp_path


def test_what_is_kept(home: Path, made: Path) -> None:
    """Quantised networks and the parent; the control is to be had by running it."""
    kept = {path.stem: path for path in models.MODELS.iterdir()}
    assert set(kept) == {NAMES["fp32"], NAMES["binary"]}
    for precision in ("fp32", "binary"):
        original = run_folder(made, precision) / "model.safetensors"
        assert kept[NAMES[precision]].read_bytes() == original.read_bytes()
    for row in read_rows(models.ROWS):
        trace = read_trace(row, home / "runs", models.LOGS)
        assert len(trace.epochs) == row.epochs_done
        assert (trace.latent is not None) == (row.precision == "binary")


def test_the_list_says_what_a_model_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    row = read_row(models.ROWS / f"{NAMES['binary']}.json")
    assert (
        f"model:{NAMES['binary']}  {100 * row.accuracy_file:.2f} % of 100 test images, " in lines[0]
    )
    assert f"{row.file_bytes:,} bytes" in lines[0]
    assert last.startswith("2 models, ")
    (models.ROWS / f"{NAMES['binary']}.json").unlink()
    assert main(["models"]) == 0
    assert "no row of this file: do not use it" in capsys.readouterr().out


def test_the_smoke_tier_is_not_kept(
    home: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(models.MODELS)
    assert main(["models", "--keep", f"--runs={made / 'runs'}"]) == 0
    assert capsys.readouterr().out == "0 models, 0.0 MB\n"


def test_a_file_of_another_recipe_is_not_kept(made: Path, tmp_path: Path) -> None:
    rows = models.rows_by_name(made / "rows")
    for row in rows.values():
        object.__setattr__(row, "recipe_hash", "0" * len(row.recipe_hash))
    assert models.keep(rows, made / "runs", tmp_path / "m", tmp_path / "l") == []
    assert not list(tmp_path.iterdir())


def test_a_run_starts_from_a_kept_parent(home: Path, made: Path) -> None:
    """In a clone without run folders, and bit for bit as from the parent that was trained."""
    words = ["run", "--method=stbp", "--dataset=cifar10", "--tier=smoke", *TINY]
    assert main([*words, "--precision=binary", f"--parent=model:{NAMES['fp32']}"]) == 0
    file = home / "runs" / NAMES["binary"] / "model.safetensors"
    assert file.read_bytes() == (run_folder(made, "binary") / "model.safetensors").read_bytes()


def test_a_model_of_another_recipe_is_read_by_its_row(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The runs here are not of the recipe that ships, and an older model is not either."""
    row = read_row(models.ROWS / f"{NAMES['binary']}.json")
    assert main(["infer", f"model:{row.key}"]) == 0
    assert f"{100 * row.accuracy_file:.2f} %" in capsys.readouterr().out
    assert main(["costs", str((models.MODELS / f"{row.key}.safetensors").resolve())]) == 0
    (models.ROWS / f"{row.key}.json").unlink()
    assert "not the one of this version" in bad(["infer", f"model:{row.key}"], capsys)


def test_another_parent_is_converted_from_the_kept_ann_of_an_ablation(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cell = find_cell("snn_calibration", "cifar100")
    study = ["--ablation=headline", "--chain=ablation"]
    assert main(command(tmp_path / "made", "ann", *study, cell=cell)) == 0
    shutil.copytree("made/rows", models.ROWS)
    (name,) = models.keep(models.rows_by_name(), Path("made/runs"))
    assert name.startswith("headline/")
    assert not models.LOGS.exists()
    shutil.rmtree("made")
    assert main(["models"]) == 0
    assert f"model:{name}  " in capsys.readouterr().out
    tiny = command(tmp_path, "fp32", *study, f"--parent=model:{name}", cell=cell)
    assert main(tiny) == 0
    assert "converted from snn_calibration-cifar100-ann-smoke-s0" in capsys.readouterr().out


def test_names_that_are_not_there(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command_ in ("infer", "inspect", "costs", "nir"):
        line = bad([command_, "model:nothing"], capsys)
        assert "python -m repro models lists what is there" in line
    words = ["run", "--method=stbp", "--dataset=cifar10", "--precision=binary"]
    assert "no name of a model" in bad([*words, f"--parent={NAMES['fp32']}"], capsys)
    line = bad([*words, f"--parent=model:{NAMES['binary']}"], capsys)
    assert f"starts from {NAMES['fp32']}" in line
    assert not (home / "runs").exists()


def test_kept_models_take_30_mb_at_most() -> None:
    assert sum(path.stat().st_size for path in KEPT) < 30e6
    rows = models.rows_by_name(ROOT / "results/rows")
    for path in KEPT:
        name = path.relative_to(ROOT / "results/models").with_suffix("").as_posix()
        assert models.is_of(rows[name], path), name


@pytest.mark.data
@pytest.mark.parametrize("path", SPIKING, ids=lambda path: path.stem)
def test_a_kept_model_answers_as_its_row_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 200 test images, one by one."""
    monkeypatch.chdir(ROOT)
    row = read_row(models.ROWS / f"{path.stem}.json")
    cell = open_cell(Path(f"{models.PREFIX}{path.stem}"), 200, 100, Path(os.environ["CBP_DATA"]))
    network, _ = cell.load()
    torch.set_flush_denormal(True)
    with torch.no_grad():
        right = [predictions(network(images)) == labels for images, labels in cell.batches()]
    stated = unpack_correct(row.correct, row.test_images)[:200]
    assert torch.equal(torch.cat(right), torch.from_numpy(stated))
