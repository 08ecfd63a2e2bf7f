"""The step benchmark on a narrow network: it runs, and both ways give the same gradients."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import speed_page
from benchmarks.train_step import OurStep, batch, main, plain_step

NARROW = 1 / 32


def test_gradients_equal_the_plain_ways() -> None:
    images, labels = batch(4)
    ours, plain = OurStep(4, NARROW, "float32"), plain_step(4, NARROW)
    ours.backward(images, labels)
    assert ours.multipliers is not None
    ours.multipliers.add_slopes_()
    expected = plain.gradients(images, labels)
    for name, parameter in ours.network.named_parameters():
        gradient = expected[name.replace("parametrizations.weight.original", "weight")]
        scale = float(gradient.abs().max())
        assert scale > 0, f"{name} proves nothing"
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-4 * scale)


def test_the_benchmark_runs_and_writes_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "step.json"
    words = ["train_step", "--batch", "2", "--time-steps", "2", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", [*words, f"--width={NARROW}", f"--out={out}"])
    assert main() == 0
    (step,) = json.loads(out.read_text())["steps"]
    assert set(step["seconds"]) == {"plain", "float32 without CBP", "float32", "spikes_bf16"}
    assert all(size > 0 for size in step["peak memory, bytes above the imports"].values())


def test_the_speed_page_holds_the_committed_figures() -> None:
    page = (speed_page.ROOT / "docs" / "speed.md").read_text("utf-8")
    assert speed_page.figures(speed_page.ROOT / "benchmarks" / "results") in page
