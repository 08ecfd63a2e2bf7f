"""Trials: the fields in which they differ from the recipe that ships, best first, in a file."""

from dataclasses import asdict, replace
from pathlib import Path

from made_rows import family
from reading import column

from repro.recipes.spec import RunSpec
from repro.report.publish import publish
from repro.report.search import changes, search_table
from repro.results.row import Row
from repro.results.rows import read_ablation, write_row

ROOT = Path(__file__).parents[2]


def trials() -> list[Row]:
    """Two trials of pre-training: one as it ships but for its epochs, one at another rate."""
    found = []
    for epochs, lr, right in ((3, 5e-4, 12), (3, 0.25, 15)):
        (row,) = family(seed=9, fp32=right)
        spec = RunSpec.shipped(row.key)
        tried = RunSpec(row.key, replace(spec.recipe, epochs=epochs, lr=lr))
        fields = {"recipe": tried.values, "recipe_hash": tried.hash}
        fields["accuracy_val_selected"] = right / 20
        for name, value in fields.items():
            object.__setattr__(row, name, value)
        found.append(row)
    return found


def test_what_a_trial_changes_is_told_from_what_ships() -> None:
    shipped = RunSpec.shipped(trials()[0].key).recipe
    assert changes(trials()[0]) == {"epochs": 3}
    assert changes(trials()[1]) == {"epochs": 3, "lr": 0.25}
    table = search_table(trials())
    assert column(table, "validation %") == ["75.00", "60.00"]
    assert "lr 0.25" in table.lines[0][2]
    assert "lr" not in table.lines[1][2]
    assert asdict(shipped)["epochs"] != 3


def test_trials_are_published_beside_the_tables(tmp_path: Path) -> None:
    (tmp_path / "paper.csv").write_bytes((ROOT / "results/paper.csv").read_bytes())
    publish([], tmp_path, None)
    assert not (tmp_path / "search.md").exists()
    for row in trials():
        write_row(row, tmp_path / "search" / row.recipe_hash)
    assert len(read_ablation(tmp_path / "search")) == 2
    publish([], tmp_path, None)
    assert "lr 0.25" in (tmp_path / "search.md").read_text()
    assert (tmp_path / "search.csv").exists()
