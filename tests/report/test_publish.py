"""Tables and figures of ``results/``: the same files from the same rows."""

import shutil
from pathlib import Path

import pytest
from made_rows import family, make_row, right
from reading import PAPER

from repro.cells import CELLS, CELLS_BY_PREFIX, Cell
from repro.cli import main
from repro.errors import UserError
from repro.report.publish import publish, tier_tables
from repro.report.tier_rows import TierRows
from repro.results.rows import read_rows, write_row


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with the published numbers, a parent and its binary child."""
    folder = tmp_path / "results"
    for row in family(fp32=15, binary=14):
        write_row(row, folder / "rows")
    shutil.copy(PAPER, folder / "paper.csv")
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_rows_make_the_same_files_and_smoke_goes_apart(results: Path) -> None:
    shutil.rmtree(results / "rows")
    publish([], results, None)
    tables = ("accuracy", "claims", "control", "conversion", "comparison", "files")
    names = [f"{n}_{t}" for t in ("paper", "desk") for n in tables]
    expected = {f"{name}.{kind}" for name in [*names, "memory"] for kind in ("csv", "tex")}
    expected |= {"runs.csv", "paper.csv"}
    expected |= {"accuracy_paper.md", "accuracy_desk.md", "memory.md"}
    assert {path.name for path in results.iterdir()} == expected
    empty = (results / "accuracy_desk.md").read_text()
    rows = [*family(fp32=15, binary=14), make_row(right(3), tier="smoke", data="digits")]
    publish(rows, results, None)
    assert "digits" in (results / "smoke" / "accuracy_smoke.md").read_text()
    assert "](accuracy_against_memory_desk.svg)" in (results / "accuracy_desk.md").read_text()
    texts = contents(results)
    publish(rows, results, None)
    assert contents(results) == texts
    assert (results / "accuracy_desk.md").read_text() != empty
    publish([], results, None)
    assert not (results / "accuracy_against_memory_desk.svg").exists()


def test_a_tier_is_shown_in_the_terminal_with_its_own_cells_only(
    tmp_path: Path,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    publish(read_rows(results / "rows"), results, "desk")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 80  # the first is the summary, one paragraph
    text = "\n".join(lines)
    assert "Accuracy, desk tier" in text
    assert "Weight memory of the paper's networks" in text
    assert "stbp/cifar10" in text
    assert "vgg16" not in text
    assert text.count("Grade of a published number") == 1


def test_a_converted_cell_goes_through_the_whole_report(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = CELLS[-1]
    for row in family(cell, ann=18, fp32=15, fp32_control=16, binary=14):
        write_row(row, results / "rows")
    readme = results.parent / "README.md"
    readme.write_text("Ours\n<!-- table -->\nold\n<!-- /table -->\nend")
    publish(read_rows(results / "rows"), results, "desk")
    printed = capsys.readouterr().out
    assert "Conversion, desk tier" in printed
    text = readme.read_text()
    assert "old" not in text
    lines = text.splitlines()
    table = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert table == ["cell", "-" * len(table[1]), *map(str, CELLS)]
    assert sum(line.startswith("* ") for line in lines) == 5
    assert "CBP itself costs 10.00 points" in text


def test_an_ann_alone_is_no_figure_of_memory(tmp_path: Path, results: Path) -> None:
    for path in (results / "rows").iterdir():
        path.unlink()
    write_row(make_row(right(18), cell=CELLS[-1], precision="ann"), results / "rows")
    publish(read_rows(results / "rows"), results, None)
    assert not (results / "accuracy_against_memory_desk.svg").exists()


def test_tables_with_rows_never_become_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, rows = tmp_path / "results", tmp_path / "rows"
    for folder in (results, rows):
        folder.mkdir()
    shutil.copy(PAPER, results)
    words = ["tables", f"--results={results}", f"--rows={rows}"]
    assert main(words) == 0  # empty tables of no rows
    row = write_row(make_row(right(15)), rows)
    assert main(words) == 0
    row.unlink()
    before = contents(results)
    for _ in range(2):
        capsys.readouterr()
        assert main(words) == 2
        assert "no rows, and" in capsys.readouterr().err
        write_row(make_row(right(15), tier="smoke"), rows)
    assert contents(results) == before


def test_no_published_numbers_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"paper\.csv: No such file or directory: run in the project's folder"
    ):
        publish([], tmp_path, None)
    assert not list(tmp_path.iterdir())


def test_cells_beyond_the_paper_have_tables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    beyond = (Cell("stbp", "digits", "conv7fc3", 8),)
    monkeypatch.setitem(CELLS_BY_PREFIX, "beyond_", beyond)
    tables = tier_tables(TierRows([], "desk", beyond), {})
    assert list(tables) == [
        f"beyond_{name}" for name in ("accuracy", "control", "comparison", "files")
    ]
    table = tables["beyond_accuracy"]
    assert table.title == "Accuracy, beyond the paper, desk tier"
    assert [line[0] for line in table.lines] == ["stbp/digits"]
    assert "ublished" not in f"{table.header}"
    assert "simulated" not in f"{table.notes}"
