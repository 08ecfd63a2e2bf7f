"""The step benchmark on narrow networks: it runs, does what a run does, and gradients agree."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import speed_page, threshold_search, train_step
from benchmarks.measure import growth_of_call, peak_memory
from benchmarks.train_step import CASES, FORMS, OurStep, batch, main, our_module, plain_step
from repro.cbp.callback import Cbp
from repro.cbp.layers import LATENT
from repro.cbp.settings import Arithmetic

NARROW = {
    "stbp": (4, 1 / 32),
    "tssl_bp": (5, 1 / 16),
    "snn_calibration": (6, 1 / 16),
    "surrogate": (3, 1 / 8),
}
every_network = pytest.mark.parametrize("network", list(CASES))
# So narrow networks have weights beyond the published bound.
pytestmark = pytest.mark.filterwarnings("ignore:the bound of the latent weights")


def narrow(network: str, size: int = 4) -> tuple[Tensor, Tensor]:
    """A batch for the narrow network."""
    return batch(network, NARROW[network][0], size)


def our_step(network: str, arithmetic: Arithmetic | None = "float32") -> OurStep:
    return OurStep(network, *NARROW[network], arithmetic)


def after_a_step(network: str, ours: OurStep) -> dict[str, Tensor]:
    """Plain names and values of the parameters that a step changed."""
    before = {name: p.detach().clone() for name, p in ours.module.named_parameters()}
    ours.step(*narrow(network))
    return {
        name.replace(LATENT, ".weight"): parameter
        for name, parameter in ours.module.named_parameters()
        if not torch.equal(before[name], parameter)
    }


def test_every_network_is_on_the_page_and_has_aims() -> None:
    assert set(CASES) == set(NARROW) == set(speed_page.NETWORKS) == set(speed_page.AIMS)


# After one ascent multipliers are so small that beside a TSSL-BP gradient of 10 nothing is seen.
@pytest.mark.parametrize("ascents", ["one", "many"])
@every_network
def test_gradients_equal_the_plain_ways(network: str, ascents: str) -> None:
    ours, plain = our_step(network), plain_step(network, *NARROW[network])
    recipe = CASES[network].recipe.cbp
    assert ours.cbp is not None
    with torch.no_grad():
        for name, multiplier in ours.cbp.rule.multipliers.items():
            assert multiplier.any()
            if ascents == "many":
                multiplier.div_(recipe.multiplier_lr)
                plain.multipliers[name.removeprefix("network.")].div_(recipe.multiplier_lr)
    found, expected = ours.gradients(*narrow(network)), plain.gradients(*narrow(network))
    quantised = {f"{name}.weight" for name in plain.multipliers}
    assert set(found) == (quantised if recipe.train == "quantised" else set(expected))
    for name, gradient in found.items():
        scale = float(expected[name].abs().max())
        assert scale > 0, f"{name} proves nothing"
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-4 * scale)


@every_network
def test_a_narrow_plain_network_trains(network: str) -> None:
    plain = plain_step(network, *NARROW[network])
    one, two = (plain.step(*narrow(network)) for _ in range(2))
    assert math.isfinite(one)
    assert one != two


@pytest.mark.parametrize("arithmetic", ["float32", "spikes_bf16"])
@every_network
def test_steps_are_those_of_a_run(network: str, arithmetic: Arithmetic, tmp_path: Path) -> None:
    module = our_module(network, *NARROW[network], "binary")
    cbp = Cbp("binary", settings=replace(CASES[network].recipe.cbp, arithmetic=arithmetic))
    batches: DataLoader[Any] = DataLoader([narrow(network), narrow(network, 3)], batch_size=None)  # type: ignore[arg-type]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        callbacks=[cbp],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, batches, batches)
    ours = our_step(network, arithmetic)
    ours.step(*narrow(network))
    one = {name: p.detach().clone() for name, p in ours.module.named_parameters()}
    ours.step(*narrow(network, 3))
    for name, parameter in ours.module.named_parameters():
        assert torch.equal(parameter, module.get_parameter(name)), name
        assert not parameter.requires_grad or not torch.equal(parameter, one[name]), name
    assert ours.cbp is not None
    assert ours.cbp.end_epoch()["lagrangian"] == cbp.report["cbp/lagrangian"]


@every_network
def test_with_and_without_cbp_the_same_weights_train(network: str) -> None:
    with_cbp, without = our_step(network), our_step(network, None)
    trained = after_a_step(network, with_cbp)
    assert set(trained) == set(control := after_a_step(network, without))
    assert any(not torch.equal(trained[name], control[name]) for name in trained)
    assert len(trained) == sum(p.requires_grad for p in without.module.parameters())


def in_this_process(target: str, kwargs: Mapping[str, object]) -> int:
    """At least 1 byte, since the peak may lie behind; four processes a network take a minute."""
    return max(1, growth_of_call(target, json.loads(json.dumps(kwargs))))


@pytest.mark.parametrize(
    "network",
    ["stbp", *(pytest.param(name, marks=pytest.mark.slow) for name in CASES if name != "stbp")],
)
def test_the_benchmark_runs_and_writes_its_figures(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_step, "peak_memory", in_this_process)
    words = ["train_step", f"--network={network}", "--batch", "2", "--time-steps", "2"]
    words += ["--width", str(1 / 32), "--repeats", "1", f"--out={tmp_path / 'step.json'}"]
    monkeypatch.setattr("sys.argv", words)
    assert main() == 0
    result = json.loads((tmp_path / "step.json").read_text())
    assert result["network"] == network
    (step,) = result["steps"]
    assert set(step["seconds"]) == set(step[speed_page.MEMORY]) == {"plain", *FORMS}
    page = speed_page.figures(tmp_path)
    assert f"### {speed_page.NETWORKS[network]}: " in page
    assert "| spikes_bf16 |" in page

    monkeypatch.setattr("sys.argv", [*words, "--ours-only"])
    assert main() == 0
    assert "1 rounds: CBP adds" in speed_page.figures(tmp_path)


@pytest.mark.slow
def test_a_step_is_measured_in_a_process_of_its_own() -> None:
    narrow = {"network": "tssl_bp", "time_steps": 2, "width": 1 / 32, "size": 2}
    assert peak_memory("benchmarks.train_step:our_steps", {**narrow, "arithmetic": "float32"}) > 0


@every_network
def test_batch_and_time_steps_are_the_networks_own(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train_step", f"--network={network}"])
    chosen = train_step.arguments()
    full = {"stbp": (10, 8), "tssl_bp": (10, 5), "snn_calibration": (4, 32)}
    full["surrogate"] = (2, 16)
    assert ((*chosen.batch, chosen.time_steps), chosen.width) == (full[network], 1.0)


def test_a_threshold_search_is_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["threshold_search", "--batch", "2", "--width", "0.03", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", [*words, f"--out={tmp_path / 'search.json'}"])
    assert threshold_search.main() == 0
    page = speed_page.figures(tmp_path)
    assert "### Threshold search of VGG16: " in page
    assert "| one pass | " in page


def test_the_speed_page_holds_the_committed_figures() -> None:
    page = (speed_page.ROOT / "docs" / "speed.md").read_text("utf-8")
    results = speed_page.ROOT / "benchmarks" / "results"
    assert speed_page.figures(results) in page
    assert speed_page.summary(results) in page
