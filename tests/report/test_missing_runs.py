"""Missing runs are those of the grid without a row, and their commands make them."""

import shlex
from pathlib import Path

from made_rows import make_row, right

from repro.campaign.campaign import Campaign
from repro.cells import BEYOND, CELLS, RunKey, find_cell
from repro.cli.campaign import CampaignArguments
from repro.cli.parsing import parse
from repro.cli.run import parse_run
from repro.recipes.shipped import RECIPES
from repro.report.missing_runs import SHOWN, missing_in_words, missing_runs

STBP = find_cell("stbp", "cifar10")
RUNS = Path("runs")
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


def test_a_seed_of_other_tables_is_not_missed() -> None:
    beyond = [make_row(right(15), cell=BEYOND[0], seed=seed) for seed in (0, 4)]
    seeds = {key.cell: set[int]() for key in missing_runs([*ROWS, *beyond], "desk")}
    for key in missing_runs([*ROWS, *beyond], "desk"):
        seeds[key.cell].add(key.seed)
    assert seeds[BEYOND[0]] == {0, 4}
    assert seeds[STBP] == {0, 2}
    assert seeds[find_cell("surrogate", "cifar10_dvs_sim")] == {0, 2, 4}  # no row yet


def test_parents_come_before_children() -> None:
    missing = missing_runs(ROWS, "desk")
    for number, key in enumerate(missing):
        assert key.parent() not in missing[number:]


def test_a_tier_without_rows_has_no_holes() -> None:
    assert missing_runs(ROWS, "paper") == []
    assert missing_in_words(ROWS, "paper") == ""


def test_the_first_runs_are_named_and_one_command_makes_them_all() -> None:
    missing = missing_runs(ROWS, "desk")
    head, *commands, rest, last = missing_in_words(ROWS, "desk").splitlines()
    assert head == f"{len(missing)} runs of the desk tier are missing:"
    named = [parse_run(shlex.split(command)[4:])[1].key for command in commands]
    assert named == missing[:SHOWN]
    assert rest == f"  and {len(missing) - SHOWN} more"
    chosen = parse(CampaignArguments, shlex.split(last.partition("python -m repro campaign ")[2]))
    cells = [find_cell(*name.split("/")) for name in chosen.cells]
    assert chosen.tier == "desk"
    assert set(missing) <= set(Campaign(cells, "desk", chosen.seeds, RUNS, RUNS, "").all_runs())
    assert set(cells) == {key.cell for key in missing} <= {cell for cell, _ in RECIPES}
    assert CELLS[1] in cells
