"""The shortened tier differs from the published recipes in schedule and arithmetic, no more."""

import dataclasses

import pytest
from made_rows import make_row, right

from repro.cells import CELLS, Cell, RunKey
from repro.recipes.paper_short import shorten
from repro.recipes.shipped import RECIPES, find_recipe
from repro.report.claims import claims_table
from repro.report.tier_rows import TierRows

SHORT = [cell for cell in CELLS if (cell, "paper_short") in RECIPES]


def test_the_five_image_cells_have_it() -> None:
    assert [str(cell) for cell in SHORT] == [
        *("tssl_bp/cifar10", "stbp/cifar10", "stbp/cifar100"),
        *("snn_calibration/cifar10", "snn_calibration/cifar100"),
    ]


@pytest.mark.parametrize("cell", SHORT, ids=str)
def test_only_schedule_and_arithmetic_differ(cell: Cell) -> None:
    paper, short = (dataclasses.asdict(find_recipe(cell, t)) for t in ("paper", "paper_short"))  # type: ignore[arg-type]
    inner, shorter = paper.pop("cbp"), short.pop("cbp")
    assert {name for name in paper if paper[name] != short[name]} <= {
        *("epochs", "lr_step", "matmul", "gain")
    }
    assert {name for name in inner if inner[name] != shorter[name]} == {
        *("epochs", "p_max", "arithmetic")
    }
    assert (5 * short["epochs"], 5 * shorter["epochs"]) == (paper["epochs"], inner["epochs"])
    assert ("gain" in paper and short["gain"] > paper["gain"]) == (cell.method == "stbp")
    assert shorter["p_max"] == 4


def test_what_does_not_divide_is_rounded_up() -> None:
    recipe = dataclasses.replace(find_recipe(SHORT[0], "paper"), epochs=7, lr_step=1)
    assert (shorten(recipe).epochs, shorten(recipe).lr_step) == (2, 1)


def test_runs_of_the_tier_have_their_name_and_their_words() -> None:
    key = RunKey(SHORT[0], "binary", 0, "paper_short")
    assert str(key) == "tssl_bp-cifar10-binary-paper_short-s0"
    assert "--tier paper_short" in key.command()
    row = make_row(right(9), right(10), tier="paper_short")
    table = claims_table(TierRows([row], "paper_short"))
    assert any("by rule, not tuned" in note for note in table.notes)
