"""Plans: operations counted by hand, seconds for every kind of run, absent data named."""

import re
from pathlib import Path

import pytest

from datamodules.errors import DataError
from repro.build import make_data
from repro.campaign.estimate import count, estimate
from repro.cells import RunKey, find_cell
from repro.cli import main
from repro.recipes.shipped import find_recipe
from repro.recipes.spec import RunSpec
from repro.run.places import Places
from repro.run.training import make_module

STBP, VGG = find_cell("stbp", "cifar10"), find_cell("snn_calibration", "cifar10")


def test_operations_are_those_of_convolutions_and_linear_layers() -> None:
    key = RunKey(STBP, "fp32", 0, "smoke")
    recipe = find_recipe(STBP, "smoke")
    data = make_data(recipe, 0, None)
    data.setup("fit")
    module = make_module(RunSpec(key, recipe), 10, None)
    sizes = {"conv1": 32, "conv2": 16, "conv3": 16, "conv4": 8, "conv5": 8, "conv6": 8, "conv7": 4}
    forward = []
    for name, layer in module.network.named_children():
        places = sizes.get(name, 1) ** 2
        forward.append(2 * layer.weight.numel() * places)  # type: ignore[union-attr, operator]
    steps = recipe.time_steps
    # Forward, and backward to weights and input; the first layer sees the image once, and no
    # gradient goes on to the image.
    expected = 2 * forward[0] + 3 * steps * sum(forward[1:])
    assert count(module, data) == pytest.approx(expected, rel=1e-9)
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("precision", VGG.precisions)
def test_every_kind_of_run_has_an_estimate(precision: str) -> None:
    key = RunKey(VGG, precision, 0, "smoke")  # type: ignore[arg-type]
    found = estimate(RunSpec.shipped(key), Places())
    assert found.seconds > 0
    assert (found.epochs == 0) == (precision == "fp32")
    assert found.epoch_seconds * max(1, found.epochs) == found.seconds
    assert found.evaluated > 0


def test_a_plan_is_printed_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [f"--runs={tmp_path / 'runs'}", f"--rows={tmp_path / 'rows'}"]
    words = ["campaign", "--plan", "--tier=smoke", "--seeds", "0", "1", "--cells", "stbp/cifar10"]
    assert main([*words, *places]) == 0
    told = capsys.readouterr().out
    assert "What is left to run, measured on CPU" in told
    assert "stbp-cifar10-ternary-smoke-s1" in told
    assert re.search(r"Total \d+\.\d hours", told)
    assert not list(tmp_path.iterdir())


def test_absent_data_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> None:
        raise DataError("cifar10 is not there")

    monkeypatch.setattr("repro.campaign.estimate.estimate", nothing)
    words = ["campaign", "--plan", "--tier=desk", "--seeds", "7", "--cells", "stbp/cifar10"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "n/a: cifar10 is not there" in told
    assert told.count("n/a: ") == 1
