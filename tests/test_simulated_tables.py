"""Simulated data sets have cells, tables and a figure of their own; none is shared."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_rows import make_row, right

from repro.cells import CELLS, SIMULATED, RunKey, find_cell
from repro.report.figure import accuracy_against_memory_figure
from repro.report.linear_model import LinearModel
from repro.report.publish import generate, simulated_tables, tier_tables
from repro.results.row import Row
from repro.results.rows import write_row

SIM, REAL = SIMULATED[1], find_cell("surrogate", "cifar10_dvs")
LINEAR = LinearModel("cifar10_dvs_sim", 100, 20, 1e-3, 0.4, 0.35, "2b")


@pytest.fixture
def rows() -> list[Row]:
    """A simulated pair with 12 and 11 right of 20, and a real one with 15 and 14."""
    simulated = [
        replace(row, data="cifar10_dvs_sim")
        for row in (make_row(right(12), cell=SIM), make_row(right(11), right(12), SIM))
    ]
    return [*simulated, make_row(right(15), cell=REAL), make_row(right(14), right(15), REAL)]


def test_names_differ_from_the_real_ones() -> None:
    assert not {cell.dataset for cell in SIMULATED} & {cell.dataset for cell in CELLS}
    assert [cell.simulated for cell in (*CELLS, *SIMULATED)] == [False] * 9 + [True] * 2
    assert find_cell("surrogate", "cifar10_dvs_sim") == SIM
    assert str(RunKey(SIM, "binary", 0, "desk")) == "surrogate-cifar10_dvs_sim-binary-desk-s0"


def test_tables_of_the_paper_have_no_simulated_row(rows: list[Row]) -> None:
    tables = tier_tables(rows, (), "desk", None, [LINEAR])
    text = "\n".join(table.to_markdown() for table in tables.values())
    assert "75.00 (n 1)" in text
    assert "_sim" not in text
    assert "60.00 (n 1)" not in text


def test_tables_of_simulated_events_have_no_other_row(rows: list[Row]) -> None:
    tables = simulated_tables(rows, "desk", None, [LINEAR])
    assert all("simulated events" in table.title for table in tables.values())
    text = "\n".join(table.to_markdown() for table in tables.values())
    assert "60.00 (n 1)" in text
    assert "75.00 (n 1)" not in text
    assert "published" not in tables["simulated_accuracy"].header[-1]
    assert {line[0] for line in tables["simulated_accuracy"].lines} == set(map(str, SIMULATED))
    assert "comparable with nothing published" in text
    assert "events by pixel and polarity of cifar10_dvs_sim" in text
    assert simulated_tables(rows, "smoke", None) == {}
    assert simulated_tables(rows[2:], "desk", None) == {}


def test_they_are_written_apart(rows: list[Row], tmp_path: Path) -> None:
    for row in rows:
        write_row(row, tmp_path / "rows")
    (tmp_path / "linear_cifar10_dvs_sim_desk.json").write_text(json.dumps(vars(LINEAR)))
    written = {path.name for path in generate(rows, (), tmp_path)}
    assert {"simulated_desk.md", "simulated_accuracy_desk.csv"} <= written
    assert "accuracy_against_memory_simulated_desk.svg" in written
    assert "linear model" in (tmp_path / "simulated_desk.md").read_text()
    assert "linear model" not in (tmp_path / "accuracy_desk.md").read_text()
    alone = {path.name for path in generate(rows[2:], (), tmp_path / "alone")}
    assert not [name for name in alone if "simulated" in name]


def test_no_figure_shows_both(rows: list[Row], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="simulated and real data in one figure"):
        accuracy_against_memory_figure(rows, tmp_path / "both.svg")


def test_the_four_cells_that_were_not_run_say_what_they_need() -> None:
    notes = "\n".join(tier_tables([], (), "paper", None)["accuracy"].notes)
    for dataset in ("dvs128_gesture", "cifar10_dvs", "imagenet"):
        assert f"Not run, {dataset}: " in notes
    ran = [make_row(right(15), cell=REAL)]
    assert "Not run, cifar10_dvs:" not in "\n".join(
        tier_tables(ran, (), "desk", None)["accuracy"].notes
    )
