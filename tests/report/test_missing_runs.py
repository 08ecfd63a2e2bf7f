"""Missing runs are those of the grid without a row, and their commands make them."""

import shlex

from made_rows import make_row, right

from repro.cells import CELLS, RunKey, find_cell
from repro.cli.run import parse_run
from repro.recipes.shipped import RECIPES
from repro.report.missing_runs import missing_in_words, missing_runs

STBP = find_cell("stbp", "cifar10")
ROWS = [make_row(right(15), seed=seed) for seed in (0, 2)]


def test_every_run_of_the_grid_is_there_or_missing() -> None:
    missing = missing_runs(ROWS, "desk")
    wanted = {
        RunKey(cell, precision, seed, "desk")
        for cell, tier in RECIPES
        if tier == "desk"
        for precision in cell.precisions
        for seed in (0, 2)
    }
    assert set(missing) | {row.key for row in ROWS} == wanted
    assert len(missing) == len(wanted) - len(ROWS)
    assert not {row.key for row in ROWS} & set(missing)


def test_parents_come_before_children() -> None:
    missing = missing_runs(ROWS, "desk")
    for number, key in enumerate(missing):
        assert key.parent() not in missing[number:]


def test_a_tier_without_rows_has_no_holes() -> None:
    assert missing_runs(ROWS, "paper") == []
    assert missing_in_words(ROWS, "paper") == ""


def test_the_commands_name_the_runs() -> None:
    head, *commands = missing_in_words(ROWS, "desk").splitlines()
    assert head.startswith(f"{len(commands)} of the desk tier's runs are missing")
    named = [parse_run(shlex.split(command)[4:])[1].key for command in commands]
    assert named == missing_runs(ROWS, "desk")
    assert {key.cell for key in named} <= {cell for cell, _ in RECIPES}
    assert CELLS[1] in {key.cell for key in named}
