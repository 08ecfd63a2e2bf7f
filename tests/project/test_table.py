"""A table of text reads back from every form, and fits a terminal."""

import csv
import io
from dataclasses import replace

import pytest

from repro.table import Table


def test_markdown_is_aligned_and_csv_reads_back() -> None:
    table = Table("Title", ("a", "long name"), (("x|y", "1,5"), ("z", "")), ("A note.",))
    lines = table.to_markdown().splitlines()
    assert lines[0] == "## Title"
    assert lines[2:6] == [
        "| a    | long name |",
        "| ---- | --------- |",
        "| x\\|y | 1,5       |",
        "| z    |           |",
    ]
    assert lines[-1] == "A note."
    listed = replace(table, notes=("A note.", "* One.", "* Two.", "Another."))
    assert listed.to_markdown().endswith("\nA note.\n\n* One.\n* Two.\n\nAnother.\n")
    assert list(csv.reader(io.StringIO(table.to_csv()))) == [
        ["a", "long name"],
        ["x|y", "1,5"],
        ["z", ""],
    ]
    with pytest.raises(ValueError, match="needs 2 cells"):
        replace(table, lines=(("x",),))


def test_a_terminal_gets_the_table_aligned_or_turned_on_its_side() -> None:
    table = Table("Title", ("name", "a", "b"), (("x", "1", "22"), ("yyy", "", "4")), ("A note.",))
    upright = ["name  a  b", "----  -  --", "x     1  22", "yyy      4"]
    wide = table.to_terminal(len(upright[1])).splitlines()
    assert wide == ["Title", "=====", *upright, "", "A note."]
    names = ("name", "a" * 9, "b" * 9)
    width = len("aaaaaaaaa  xx  yyy")
    many = replace(table, header=names, lines=(*table.lines, *table.lines))
    part = ["name       x   yyy", "---------  --  ---", "aaaaaaaaa  1", "bbbbbbbbb  22  4"]
    assert many.to_terminal(width).splitlines()[2:-2] == [*part, "", *part]
    assert many.to_terminal(1).count("name ") == len(many.lines)  # one line each sticks out
