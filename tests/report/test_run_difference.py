"""What differs between two runs: every field, none twice, and the answers paired."""

import dataclasses
from pathlib import Path

import pytest
from made_rows import make_row, other_recipe, right

from repro.cli import main
from repro.report.run_difference import GROUPS, differences, differences_in_words
from repro.results.row import Row
from repro.results.rows import write_row

ONE = make_row(right(15), **other_recipe(cbp={"lr": 0.1, "clip": "value"}, width=0.5))
OTHER = make_row(right(12), seed=1, **other_recipe(cbp={"lr": 0.2, "clip": "value"}, gain=2.0))


def test_a_line_for_every_field_that_differs() -> None:
    found = differences(ONE, OTHER)
    assert found["run"] == [("seed", 0, 1)]
    assert found["recipe"] == [
        ("recipe.cbp.lr", 0.1, 0.2),
        ("recipe.width", 0.5, "-"),
        ("recipe.gain", "-", 2.0),
    ]
    assert ("accuracy_file", 0.75, 0.6) in found["figures"]
    assert "code" not in found
    assert differences(ONE, ONE) == {}


def test_every_field_of_a_row_is_compared_or_follows_from_others() -> None:
    named = [name for fields in GROUPS.values() for name in fields]
    assert len(named) == len(set(named))
    follow = {
        *("recipe_hash", "epochs", "accuracy_best_test", "epoch_best_test", "weights"),
        *("quantised_weights", "fp32_bytes", "everything_bytes", "difference_from_parent"),
        *("parent_only_right", "child_only_right", "mcnemar_p", "correct", "cfs_selected"),
        *("g_selected", "firing_rates"),
    }
    assert {field.name for field in dataclasses.fields(Row)} == {*named, *follow}


def test_answers_are_paired_where_the_images_are_the_same() -> None:
    text = differences_in_words(ONE, OTHER)
    assert "answers: -15.00 points, no more than chance explains" in text
    assert "right in the first only 3, in the second only 0" in text
    assert "not compared" in differences_in_words(ONE, make_row(right(12), data_checksum="9d"))
    assert "nothing differs" in differences_in_words(ONE, ONE)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (write_row(row, tmp_path) for row in (ONE, OTHER))
    for words in ([first.stem, second.stem], [str(first), str(second)]):
        assert main(["diff", *words, f"--rows={tmp_path}"]) == 0
        assert "recipe.cbp.lr  0.1 -> 0.2" in capsys.readouterr().out
    assert main(["diff", first.stem, "nonesuch", f"--rows={tmp_path}"]) == 2
    assert "nonesuch: no such run in" in capsys.readouterr().err
