"""What is committed under results and in README is what the rows make; nobody edited it."""

import shutil
from pathlib import Path

import pytest
from paths import ROOT

from repro.report.headline import read_headline
from repro.report.publish import publish
from repro.results.rows import read_rows

GENERATED = ("*.md", "*.csv", "*.tex", "*.svg")
READ = {"paper.csv", "rivals.csv"}  # published numbers are read, not written


def test_committed_tables_and_figures_are_generated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    shutil.copytree(ROOT / "results", results)
    shutil.copy(ROOT / "README.md", tmp_path)
    names = sorted(path.name for pattern in GENERATED for path in results.glob(pattern))
    for name in READ:
        names.remove(name)
    for name in names:
        (results / name).unlink()
    publish(read_rows(results / "rows"), results, None, study=read_headline(results / "rows"))
    for name in names:
        same = (results / name).read_bytes() == (ROOT / "results" / name).read_bytes()
        assert same, f"results/{name} is not what the rows make: run make tables"
    written = sorted(path.name for pattern in GENERATED for path in results.glob(pattern))
    assert set(written) - READ == set(names), "run make tables and commit what is new"
    made, committed = ((folder / "README.md").read_text() for folder in (tmp_path, ROOT))
    assert made == committed, "the table in README is not what the rows make: run make tables"
    assert f"{results / 'accuracy_desk.md'}" in capsys.readouterr().out
