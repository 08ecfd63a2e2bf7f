"""Histograms of latent weights: against a slow count, over a training, and through their file."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from test_callback import Linear3, data

import repro.run.latent_histograms
from repro.cbp.callback import Cbp, Control
from repro.cbp.layers import prepared_layers
from repro.cbp.levels import LEVELS
from repro.errors import UserError
from repro.run.latent_histograms import (
    BINS,
    CENTRES,
    PER_SCALE,
    LatentHistograms,
    histogram,
    read_latent,
)


def counted_slowly(weight: torch.Tensor, scale: float) -> list[int]:
    """Every weight into the bin whose centre is nearest, if it is within half a bin."""
    counts = [0] * BINS
    for value in weight.flatten().tolist():
        distances = [abs(value / scale - centre) for centre in CENTRES]
        nearest = min(range(BINS), key=distances.__getitem__)
        counts[nearest] += distances[nearest] < 0.5 / PER_SCALE
    return counts


def test_weights_are_counted_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = 0.05 * torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(3))
    scale = torch.tensor(0.04)
    found = histogram(weight, scale)
    assert found.tolist() == counted_slowly(weight, float(scale))
    assert 0 < int(found.sum()) < weight.numel(), "some weights lie beyond the outermost bins"
    monkeypatch.setattr(repro.run.latent_histograms, "CHUNK", 10)
    assert torch.equal(histogram(weight, scale), found)
    assert not torch.equal(histogram(weight, 1.25 * scale), found)


def test_channels_may_have_a_scale_each() -> None:
    weight = 0.05 * torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(3))
    scales = torch.tensor([0.02, 0.04, 0.08])
    each = [counted_slowly(w, float(s)) for w, s in zip(weight, scales, strict=True)]
    expected = [sum(counts) for counts in zip(*each, strict=True)]
    assert histogram(weight, scales).tolist() == expected
    assert histogram(weight, scales[1]).tolist() != expected


def test_every_level_is_at_the_middle_of_a_bin() -> None:
    assert all(level in CENTRES for levels in LEVELS.values() for level in levels)


def train(folder: Path, cbp: Cbp, epochs: int = 2) -> tuple[Linear3, LatentHistograms]:
    module, histograms = Linear3(), LatentHistograms(folder / "latent.csv")
    callbacks: list[Callback] = [cbp, histograms]
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, data())
    return module, histograms


def test_a_training_leaves_its_histograms(tmp_path: Path) -> None:
    module, histograms = train(tmp_path, Cbp("binary", multiplier_lr=0.1))
    found = read_latent(tmp_path)
    assert found is not None
    assert found.epochs == (0, 1, 2)
    assert (found.layers, found.weights) == (("net.1",), (36,))
    ((latent, quantiser),) = prepared_layers(module).values()
    assert found.counts[-1, 0].tolist() == counted_slowly(latent, float(quantiser.scale))
    before = Linear3().net[1].weight.detach()
    scale = float(before.abs().mean())
    assert found.counts[0, 0].tolist() == counted_slowly(before, scale)
    assert not torch.equal(found.counts[0], found.counts[-1])

    other = LatentHistograms(tmp_path / "latent.csv")
    other.load_state_dict(histograms.state_dict())
    assert other.epochs == histograms.epochs
    assert torch.equal(torch.stack(other.counts), found.counts)


def test_without_levels_there_is_no_file(tmp_path: Path) -> None:
    _, histograms = train(tmp_path, Control("binary", multiplier_lr=0.1), epochs=1)
    assert not (tmp_path / "latent.csv").exists()
    assert histograms.state_dict() == {}
    assert read_latent(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [],
        lambda lines: ["epoch,layer", *lines[1:]],
        lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0]],
        lambda lines: [*lines[:-1], lines[-1].replace("net.1", "net.2")],
        lambda lines: [*lines[:-1], lines[-1].replace(",36,", ",many,")],
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, change: object) -> None:
    assert callable(change)
    train(tmp_path, Cbp("ternary", multiplier_lr=0.1), epochs=1)
    path = tmp_path / "latent.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(UserError, match=r"latent\.csv: .*delete it"):
        read_latent(tmp_path)
