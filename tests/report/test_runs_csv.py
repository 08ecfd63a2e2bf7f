"""All runs as plain numbers: every field as the row has it, columns that do not move."""

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from made_rows import make_row, right
from paths import ROOT

from repro.report.runs_csv import HEADER, LEFT_OUT, runs_csv
from repro.results.row import Row
from repro.results.rows import read_rows

RESULTS = ROOT / "results"
CSVS = sorted(RESULTS.glob("*.csv"))


def read(text: str) -> list[dict[str, str]]:
    """Every line as strictly as a data frame wants it: as many fields as columns, all named once.

    Raises:
        ValueError: Otherwise.
    """
    header, *lines = csv.reader(io.StringIO(text), strict=True)
    if len(set(header)) != len(header) or not all(name.strip() == name != "" for name in header):
        raise ValueError(f"columns {header}")
    return [dict(zip(header, line, strict=True)) for line in lines]


@pytest.mark.parametrize("path", CSVS, ids=lambda path: path.stem)
def test_committed_tables_load(path: Path) -> None:
    assert read(path.read_text("utf-8"))


@pytest.mark.parametrize("text", ["a,a\n1,2\n", "a,b\n1\n", ",b\n1,2\n", 'a,b\n1,"2\n'])
def test_what_does_not_load_is_found(text: str) -> None:
    with pytest.raises((ValueError, csv.Error)):
        read(text)


def test_tables_have_the_same_columns_at_every_tier() -> None:
    headers: dict[str, set[str]] = {}
    for path in CSVS:
        name, _, tier = path.stem.rpartition("_")
        if tier in ("paper", "desk") and name != "conversion":  # a column per step that was taken
            header = path.read_text("utf-8").splitlines()[0]
            headers.setdefault(name, set()).add(header)
    assert [name for name, found in headers.items() if len(found) > 1] == []
    assert "accuracy" in headers


def test_numbers_are_those_of_the_rows() -> None:
    # `make reproduce` adds rows of the smoke tier, which runs.csv leaves out.
    rows = [row for row in read_rows(RESULTS / "rows") if row.key.tier != "smoke"]
    lines = read((RESULTS / "runs.csv").read_text("utf-8"))
    assert [line["run"] for line in lines] == sorted(str(row.key) for row in rows)
    by_name = {str(row.key): row for row in rows}
    for line in lines:
        row = by_name[line["run"]]
        for name in HEADER[1:-1]:
            value = getattr(row, name)
            assert line[name] == ("" if value is None else str(value)), (line["run"], name)
        assert line["stale"] in ("True", "False")


def test_every_plain_field_is_a_column() -> None:
    fields = {field.name for field in dataclasses.fields(Row)}
    assert set(HEADER) - {"run", "stale"} == fields - set(LEFT_OUT)
    row = make_row(right(15), device='a, "quoted"\nCPU')
    (line,) = read(runs_csv([row], {str(row.key): "other"}))
    assert (line["device"], line["stale"]) == (row.device, "True")
    assert read(runs_csv([row], {str(row.key): row.recipe_hash}))[0]["stale"] == "False"
    assert read(runs_csv([row]))[0]["stale"] == ""
