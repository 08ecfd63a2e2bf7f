"""Rows out of a W&B project: one per run, the newest; what is left out is said."""

from types import SimpleNamespace
from typing import Any

import pytest
from made_rows import make_row, other_recipe, right

from repro.cli import main
from repro.errors import UserError
from repro.recipes.spec import RunSpec
from repro.results.row import Row
from repro.results.rows import row_to_text
from repro.tracking.project_rows import choose, read_wandb_rows


def run(row: Row | None, number: int, **changes: Any) -> SimpleNamespace:
    summary = {} if row is None else {"row": row_to_text(row)}
    name = "stbp-cifar10-fp32-desk-s0" if row is None else str(row.key)
    fields = {"name": name, "id": f"id{number}", "state": "finished", "config": {}}
    return SimpleNamespace(**fields | {"summary": summary} | changes)


def test_rows_come_whole_and_sorted() -> None:
    parent, child = make_row(right(15)), make_row(right(14), right(15))
    found = choose([run(parent, 0), run(child, 1)])
    assert found.rows == [child, parent]  # binary before fp32
    assert found.notes == []


def test_of_two_runs_the_newer_one_counts() -> None:
    old, new = make_row(right(15)), make_row(right(12))
    for order in ([old, new], [new, old]):
        found = choose([run(row, number) for number, row in enumerate(order)])
        assert found.rows == [order[1]]
        assert found.notes == [f"{old.key} has run twice: id0 is left out, id1 is newer."]


def test_what_has_no_row_is_said() -> None:
    found = choose([run(None, 3, state="failed")])
    assert found.rows == []
    assert found.notes == ["stbp-cifar10-fp32-desk-s0 (id3) is failed and has no row."]


def test_ablations_are_no_runs_of_the_tables() -> None:
    row = make_row(right(15))
    found = choose([run(row, 0), run(row, 1, config={"ablation": "window"})])
    assert found.rows == [row]
    assert found.notes == [f"{row.key} (id1) is of the ablation window: no run of the tables."]


def test_a_run_that_only_brought_a_model_is_no_hole() -> None:
    found = choose([run(None, 0, config={"model_of": "id1"}), run(make_row(right(15)), 1)])
    assert (len(found.rows), found.notes) == (1, [])


@pytest.mark.parametrize(
    ("better", "worse", "why"),
    [
        ({}, {"git_dirty": True}, "of a tree without changes"),
        ({"shipped": True}, {"git_dirty": False}, "of today's recipe"),
        ({"shipped": True, "git_dirty": True}, {}, "of today's recipe"),
    ],
)
def test_today_s_recipe_and_a_clean_tree_go_before_what_is_newer(
    better: dict[str, Any], worse: dict[str, Any], why: str
) -> None:
    def of(changes: dict[str, Any]) -> Row:
        key = make_row(right(15)).key
        shipped = RunSpec.shipped(key)
        fields = {name: value for name, value in changes.items() if name != "shipped"}
        fields |= other_recipe(**shipped.values) if changes.get("shipped") else {}
        return make_row(right(15), **fields)

    for order in ([better, worse], [worse, better]):
        found = choose([run(of(changes), number) for number, changes in enumerate(order)])
        assert found.rows == [of(better)]
        kept, left = f"id{order.index(better)}", f"id{order.index(worse)}"
        assert found.notes == [
            f"{found.rows[0].key} has run twice: {left} is left out, {kept} is {why}."
        ]


def test_a_damaged_row_is_named() -> None:
    broken = run(None, 7, summary={"row": '{"method": 1'})
    with pytest.raises(UserError, match=r"the row of .* \(id7\) is damaged"):
        choose([broken])


@pytest.mark.parametrize("project", ["", "cbp-qsnn", "a/b/c", "/cbp-qsnn"])
def test_a_project_has_an_entity_and_a_name(project: str) -> None:
    with pytest.raises(UserError, match="name it <entity>/<project>"):
        read_wandb_rows(project)


def test_another_source_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "--from=mlflow:x"]) == 2
    assert "give rows or wandb:<entity>/<project>" in capsys.readouterr().err
