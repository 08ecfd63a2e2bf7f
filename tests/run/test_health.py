"""A training that cannot learn says so early: silent layers, dead gradients, a loss that stands."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from repro.build import build, make_data
from repro.cells import RunKey, find_cell
from repro.errors import UserError
from repro.recipes.fields import StbpRecipe
from repro.recipes.smoke import STBP_DIGITS
from repro.recipes.spec import RunSpec
from repro.run import health
from repro.run.health import Health
from repro.run.training import make_trainer

STBP = find_cell("stbp", "cifar10")


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, gain: float, strict: bool) -> None:
    """Four steps of a narrow network; it is told after the third."""
    monkeypatch.setattr(health, "STEPS", 3)
    sizes = {"train_images": 80, "val_images": 10, "test_images": 10, "batch_size": 20}
    recipe: StbpRecipe = replace(STBP_DIGITS, width=1 / 16, gain=gain, lr=1e-4, **sizes)  # type: ignore[arg-type]
    torch.manual_seed(0)
    spec = RunSpec(RunKey(STBP, "fp32", 0, "smoke"), recipe)
    more = {"logger": False, "enable_progress_bar": False, "callbacks": [Health(strict)]}
    trainer = make_trainer(spec, folder, max_epochs=1, **more)
    trainer.fit(build(STBP, recipe, 10, "pretrain"), datamodule=make_data(recipe, 0, None))


def test_a_silent_network_ends_a_strict_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="it does not learn") as caught:
        trained(tmp_path, monkeypatch, gain=0.2, strict=True)
    line = str(caught.value)
    silent = re.search(r"no neuron fires behind ([\w., ]*)", line)
    assert silent is not None
    assert {"conv7", "fc3"} <= set(silent[1].split(", "))
    dead = re.search(r"no gradient reaches ([\w., ]*)", line)
    assert dead is not None
    assert "fc3.weight" in dead[1].split(", "), "what it reads is silent"
    assert "the loss stands at" in line


def test_elsewhere_it_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path, monkeypatch, gain=0.2, strict=False)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("cbp-qsnn: after 3 steps no neuron fires behind ")


def test_a_network_that_fires_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path, monkeypatch, gain=2.5, strict=True)
    assert capsys.readouterr().err == ""
