"""Simulated data sets have cells, tables and a figure of their own; none is shared."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_rows import family, make_row, right
from reading import PAPER, desk

from repro.cells import CELLS, SIMULATED, RunKey, find_cell
from repro.report.linear_model import LinearModel
from repro.report.publish import publish, tier_tables
from repro.report.tier_rows import TierRows
from repro.results.row import Row

SIM, REAL = SIMULATED[1], find_cell("surrogate", "cifar10_dvs")
LINEAR = LinearModel("cifar10_dvs_sim", 100, 20, 1e-3, 0.4, 0.35, "2b")


@pytest.fixture
def rows() -> list[Row]:
    """A simulated pair with 12 and 11 right of 20, and a real one with 15 and 14."""
    simulated = [replace(r, data="cifar10_dvs_sim") for r in family(SIM, fp32=12, binary=11)]
    return [*simulated, *family(REAL, fp32=15, binary=14)]


def test_names_differ_from_the_real_ones() -> None:
    assert not {cell.dataset for cell in SIMULATED} & {cell.dataset for cell in CELLS}
    assert [cell.simulated for cell in (*CELLS, *SIMULATED)] == [False] * 9 + [True] * 2
    assert find_cell("surrogate", "cifar10_dvs_sim") == SIM
    assert str(RunKey(SIM, "binary", 0, "desk")) == "surrogate-cifar10_dvs_sim-binary-desk-s0"


def test_tables_of_the_paper_have_no_simulated_row(rows: list[Row]) -> None:
    tables = tier_tables(desk(rows), {}, [LINEAR])
    text = "\n".join(table.to_markdown() for table in tables.values())
    assert "75.00 (n 1)" in text
    assert "_sim" not in text
    assert "60.00 (n 1)" not in text


def test_tables_of_simulated_events_have_no_other_row(rows: list[Row]) -> None:
    tables = tier_tables(TierRows(rows, "desk", SIMULATED), {}, [LINEAR])
    assert all("simulated events" in table.title for table in tables.values())
    text = "\n".join(table.to_markdown() for table in tables.values())
    assert "60.00 (n 1)" in text
    assert "75.00 (n 1)" not in text
    assert "published" not in tables["simulated_accuracy"].header[-1]
    assert {line[0] for line in tables["simulated_accuracy"].lines} == set(map(str, SIMULATED))
    assert "comparable with nothing published" in text
    assert "events by pixel and polarity of cifar10_dvs_sim" in text


def test_they_are_written_apart(rows: list[Row], tmp_path: Path) -> None:
    for results in (tmp_path, tmp_path / "alone"):
        results.mkdir(exist_ok=True)
        (results / "paper.csv").write_bytes(PAPER.read_bytes())
    (tmp_path / "linear_cifar10_dvs_sim_desk.json").write_text(json.dumps(vars(LINEAR)))
    publish(rows, tmp_path, None)
    assert (tmp_path / "simulated_accuracy_desk.csv").exists()
    assert (tmp_path / "accuracy_against_memory_simulated_desk.svg").exists()
    assert "linear model" in (tmp_path / "simulated_desk.md").read_text()
    assert "linear model" not in (tmp_path / "accuracy_desk.md").read_text()
    publish(rows[2:], tmp_path / "alone", None)
    assert not list((tmp_path / "alone").glob("*simulated*"))


def test_the_four_cells_that_were_not_run_say_what_they_need() -> None:
    notes = "\n".join(tier_tables(TierRows([], "paper"), {})["accuracy"].notes)
    for dataset in ("dvs128_gesture", "cifar10_dvs", "imagenet"):
        assert f"Not run, {dataset}: " in notes
    ran = tier_tables(desk([make_row(right(15), cell=REAL)]), {})["accuracy"]
    assert "Not run, cifar10_dvs:" not in "\n".join(ran.notes)
