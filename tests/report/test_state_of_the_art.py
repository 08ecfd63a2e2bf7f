"""Our rows stand beside the published numbers of rivals; what the choice of the epoch adds."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_rows import family, other_recipe
from paths import ROOT
from reading import column, desk, line

from repro.cells import find_cell
from repro.errors import UserError
from repro.report.comparison import comparison_table
from repro.report.state_of_the_art import state_of_the_art_table

RIVALS = ROOT / "results" / "rivals.csv"
VGG, STBP = find_cell("snn_calibration", "cifar10"), find_cell("stbp", "cifar10")


def test_the_best_cell_of_every_data_set_stands_beside_the_rivals() -> None:
    rows = [
        *family(VGG, images=100, ann=90, fp32=80, binary=70),
        *family(STBP, images=100, fp32=80, binary=75),
    ]
    table = state_of_the_art_table([desk(rows)], RIVALS)
    ours = line(table, "1 bit", "this suite, desk tier")
    assert ours["CIFAR-10 %"] == "75.00"
    assert ours["CIFAR-100 %"] == "not run"
    assert (ours["network"], ours["epoch picked on"]) == (STBP.network, "validation")
    assert column(table, "method").count("CBP-QSNN, 2023, reproduced here") == 1
    assert len(table.lines) == len(
        RIVALS.read_text().splitlines()
    )  # a header there, a line of ours
    none = state_of_the_art_table([desk([])], RIVALS)
    assert len(none.lines) == len(table.lines) - 1


def test_marks_stand_at_our_numbers() -> None:
    rows = family(STBP, images=100, fp32=80, binary=75)
    rms = [
        replace(row, **other_recipe(cbp={"scale": "layer_rms"}))
        if row.precision == "binary"
        else row
        for row in rows
    ]
    table = state_of_the_art_table([desk(rms)], RIVALS)
    assert line(table, "1 bit", "this suite, desk tier")["CIFAR-10 %"] == "75.00 ‖"
    assert any(note.startswith("‖ the levels") for note in table.notes)


def test_a_foreign_file_of_rivals_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rivals.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="other columns"):
        state_of_the_art_table([], path)
    with pytest.raises(UserError, match="restore it from git"):
        state_of_the_art_table([], tmp_path / "none.csv")


def test_what_the_choice_by_test_images_adds_has_a_column() -> None:
    rows = family(STBP, images=100, fp32=80, binary=75)
    lucky = [
        replace(row, accuracy_best_test=row.accuracy_selected + 0.02 * (row.precision == "binary"))
        for row in rows
    ]
    table = comparison_table(desk(lucky))
    name = "best test epoch minus picked"
    assert line(table, str(STBP), "binary")[name] == "+2.00"
    assert line(table, str(STBP), "FP32")[name] == "0.00"
    assert (
        "adds 1.00 points to the epoch picked on validation, 2.00 at most, over 2"
        in (table.notes[0])
    )
