"""Saved files: the measured size beside the computed one."""

from dataclasses import replace

from reading import desk, line

from repro.report.saved_files import file_table
from repro.results.row import Row


def test_the_measured_file_stands_beside_the_computed_bytes(seeds: list[Row]) -> None:
    rows = [replace(row, accuracy_selected=row.accuracy_file - 0.05) for row in seeds[:2]]
    ours = line(file_table(desk(rows)), "stbp/cifar10", "binary")
    assert (ours["computed bytes"], ours["file bytes"]) == ("420", "441")
    assert ours["deviation %"] == f"{100 * (441 / 420 - 1):+.2f}"
    assert ours["file minus run, points"] == "+5.00"
    assert line(file_table(desk(seeds[:2])), "stbp/cifar10", "FP32")["file minus run, points"] == (
        "0.00"
    )
    assert file_table(desk([])).lines[0][0] == "not run"
