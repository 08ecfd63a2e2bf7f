"""Tags: a run is tagged with a table exactly if that table has a number of it."""

from dataclasses import replace

import pytest
from made_rows import family

from repro.cells import BEYOND, CELLS, SIMULATED, Cell, RunKey, find_cell
from repro.recipes.spec import RunSpec
from repro.report.publish import tier_tables
from repro.report.tier_rows import TierRows
from repro.results.row import Row
from repro.table import Table
from repro.tracking.tags import tables_of, tags_of

STBP = find_cell("stbp", "cifar10")


def tables(rows: list[Row]) -> dict[str, Table]:
    tiers = [TierRows(rows, "desk", cells) for cells in (CELLS, SIMULATED, BEYOND)]
    made = [tier_tables(tier, {}) for tier in tiers if tier.rows or not tier.prefix]
    return {name: table for each in made for name, table in each.items()}


def shown(rows: list[Row]) -> dict[str, str]:
    """The cells of each table, without marks such as that of a missing parent."""
    return {name: str([list(line) for line in t.lines]) for name, t in tables(rows).items()}


@pytest.mark.parametrize("cell", [*CELLS, *SIMULATED, *BEYOND], ids=str)
def test_a_table_that_is_not_among_the_tags_does_not_change_with_the_row(cell: Cell) -> None:
    numbers = {"ann": 17, "fp32": 16, "fp32_control": 15, "binary": 14, "ternary": 13}
    rows = family(cell, **{name: numbers[name] for name in cell.precisions})
    whole = shown(rows)
    for row in rows:
        rest = shown([other for other in rows if other is not row])
        changed = {
            name
            for name in whole
            if "¶" not in rest.get(name, "") and whole[name] != rest.get(name)
        }
        assert changed <= set(tables_of(row.key)), row.key
        own = {name for name in tables_of(row.key) if whole[name] != rest.get(name)}
        assert own == set(tables_of(row.key)), row.key


def test_ablations_own_recipes_and_simulated_events_are_apart() -> None:
    spec = RunSpec.shipped(RunKey(STBP, "binary", 0, "desk"))
    assert tags_of(spec, None)[:2] == ["desk", "binary"]
    assert "table:claims" in tags_of(spec, None)
    assert tags_of(spec, "window")[2:] == ["ablation", "ablation:window"]
    own = replace(spec, recipe=replace(spec.recipe, width=0.5))
    assert tags_of(own, None)[2:] == ["own-recipe"]
    cell = find_cell("surrogate", "cifar10_dvs_sim")
    found = tags_of(RunSpec.shipped(RunKey(cell, "fp32", 0, "desk")), None)
    assert found[2] == "simulated"
    assert all(tag.startswith("table:simulated_") for tag in found[3:])
