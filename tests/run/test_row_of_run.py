"""What a row says of the levels and of the learning rate's drop."""

from dataclasses import replace

import pytest
import torch
from made_rows import make_row, right

from repro.cbp.levels import LEVELS, LayerLevels
from repro.cbp.settings import CbpSettings
from repro.run.row_of_run import lr_drop, mean_scale

SETTINGS = CbpSettings(multiplier_lr=1e-3)


def epochs(*g: int) -> list[dict[str, float]]:
    """Epochs of a warm-up and a cosine: the rate rises, then falls, whatever g does."""
    rates = [1e-5, 1e-3, 5e-4, 1e-4]
    return [{"epoch": n, "g": each, "lr": rates[n]} for n, each in enumerate(g)]


def test_the_drop_is_told_by_g() -> None:
    assert lr_drop(epochs(1, 10, 20, 30), SETTINGS) == 3
    assert lr_drop(epochs(1, 20, 30, 40), SETTINGS) == 2
    assert lr_drop(epochs(1, 2, 3, 20), SETTINGS) is None  # in the last epoch: none begins with it
    assert lr_drop(epochs(1, 20, 30, 40), replace(SETTINGS, lr_drop_at_g=0)) is None
    assert lr_drop(epochs(1, 20, 30, 40), replace(SETTINGS, window=False)) is None


def test_the_scale_is_the_mean_over_quantised_weights() -> None:
    state = {"a": torch.zeros(30), "b": torch.zeros(10), "c": torch.zeros(99)}
    levels = {
        name: LayerLevels(LEVELS["binary"], scale) for name, scale in (("a", 0.1), ("b", 0.5))
    }
    assert mean_scale(state, levels) == pytest.approx(0.2)
    assert mean_scale(state, {}) is None


def test_the_relative_score_needs_the_scale() -> None:
    row = make_row(right(8), right(9))
    assert row.cfs_relative is None
    scaled = replace(row, level_scale=0.5, cfs_last=0.03)
    assert scaled.cfs_relative == pytest.approx(0.03)
