"""Rows of a tier: grouped in the paper's order, and marked with what weakens them only."""

from dataclasses import replace

import pytest
from made_rows import family, make_row, other_recipe, right
from reading import desk

from repro.cells import BEYOND, CELLS, SIMULATED
from repro.recipes.shipped import RECIPES
from repro.recipes.spec import shipped_hash
from repro.report.tier_rows import MARKS, TierRows, all_tiers, current_hashes
from repro.results.row import Row

SIM, VGG = SIMULATED[0], CELLS[-1]


def test_groups_keep_the_tier_the_papers_order_and_the_seeds() -> None:
    rows = [
        make_row(right(1), cell=CELLS[3]),
        make_row(right(1), cell=CELLS[-1], precision="ann"),
        make_row(right(1), cell=CELLS[-1]),
        make_row(right(1), seed=2),
        make_row(right(1), seed=1),
        make_row(right(1), tier="paper"),
    ]
    found = {name: [row.seed for row in group] for name, group in desk(rows).groups.items()}
    assert list(found.items()) == [
        ((CELLS[1], "fp32"), [1, 2]),
        ((CELLS[3], "fp32"), [0]),
        ((CELLS[-1], "ann"), [0]),
        ((CELLS[-1], "fp32"), [0]),
    ]


def test_every_mark_appears_with_its_reason_only() -> None:
    parent, child = make_row(right(15)), make_row(right(14), right(15))
    hashes = {str(child.key): child.recipe_hash}

    def found(
        *group: Row, rows: tuple[Row, ...] = (parent,), current: dict[str, str] | None = None
    ) -> str:
        return desk([*rows, *group], hashes if current is None else current).marks(group)

    assert found(child) == ""
    assert found(child, current={str(child.key): "other"}) == " †"
    assert found(child, current={}) == " †"  # no such recipe any more
    assert found(replace(child, git_dirty=True)) == " ‡"
    assert found(child, rows=()) == " ¶"
    assert found(child, rows=(make_row(right(16)),)) == " ¶"
    as_many = make_row(~right(5))  # the parent has as many right, but other images
    assert found(child, rows=(as_many,)) == " ¶"
    assert found(child, rows=(make_row(right(15), seed=1),)) == " ¶"
    assert found(child, rows=(make_row(right(30, of=40)),)) == " ¶"
    later = make_row(right(15), seed=1, recipe={"time_steps": 8})
    assert (
        found(parent, later, current={str(r.key): r.recipe_hash for r in (parent, later)}) == " ◇"
    )
    assert set(MARKS) == set("†‡◇¶▽‖△")
    other = replace(child, **other_recipe(time_steps=9))  # of another precision: no "◇"
    dirty = replace(parent, git_dirty=True)
    assert desk([parent, child], {}).marks([other], [dirty]) == " †‡"
    assert desk([parent, child]).marks([child], [parent]) == ""


def test_seeds_that_read_different_data_are_marked() -> None:
    rows = [make_row(right(15), seed=seed) for seed in (0, 1)]
    assert desk(rows).marks(rows) == ""
    for other in ({"data_checksum": "4d"}, {"data": "digits"}):
        assert desk(rows).marks([rows[0], replace(rows[1], **other)]) == " ▽"


def test_levels_at_another_scale_than_the_papers_are_marked() -> None:
    parent, child = make_row(right(15)), make_row(right(14), right(15))
    assert child.precision == "binary"
    for scale, mark in (("layer", ""), ("layer_rms", " ‖"), ("channel", " ‖")):
        recipe = other_recipe(cbp={"scale": scale})
        assert desk([parent, child]).marks([replace(child, **recipe)]) == mark
        assert desk([parent, child]).marks([replace(parent, **recipe)]) == ""  # no levels


def test_an_ann_that_has_changed_marks_what_was_quantised_below_its_conversion() -> None:
    ann = make_row(right(15), cell=VGG, precision="ann")
    spiking = make_row(right(14), right(15), VGG, precision="fp32")
    binary = make_row(right(13), right(14), VGG)

    def found(*rows: Row) -> list[str]:
        return [desk(rows).marks([row]) for row in (spiking, binary)]

    assert found(ann, spiking, binary) == ["", ""]
    assert found(spiking, binary) == [" ¶", " ¶"]
    other = make_row(~right(5), cell=VGG, precision="ann")  # as many right, but other images
    assert found(other, spiking, binary) == [" ¶", " ¶"]
    changed = make_row(right(12), right(15), VGG, precision="fp32")
    assert desk([ann, changed, binary]).marks([binary]) == " ¶"


def test_tiers_and_simulated_events_share_no_row() -> None:
    rows = [make_row(right(1)), make_row(right(1), tier="paper"), make_row(right(1), cell=SIM)]
    rows.append(make_row(right(1), cell=BEYOND[0]))
    found = {tier.scope: tier.rows for tier in all_tiers(rows) if tier.rows}
    assert found == {
        "paper tier": (rows[1],),
        "desk tier": (rows[0],),
        "simulated events, desk tier": (rows[2],),
        "real event recordings, beyond the paper, desk tier": (rows[3],),
    }
    assert TierRows(rows, "desk", SIMULATED).prefix == "simulated_"


def test_a_recipe_that_is_gone_makes_its_rows_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, rows = CELLS[2], family(fp32=15, binary=14)
    monkeypatch.setattr(
        "repro.recipes.spec.RECIPES",
        {name: recipe for name, recipe in RECIPES.items() if name[0] != gone},
    )
    hashes = current_hashes([*rows, make_row(right(3), cell=gone)])
    assert hashes == {str(row.key): shipped_hash(row.key) for row in rows}
