"""The pages on new data sets and methods, followed word by word in a copy of the packages."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import commands, follow, patched, read
from paths import ROOT
from test_architecture import violations

PAGES = {
    "docs/adding_a_data_set.md": ("stbp/blobs", 3),
    "docs/adding_a_method.md": ("spike_sum/digits", 7),
}
# Every command in one process: torch is loaded once.
RUN_ALL = """
import shlex, sys
from repro.cli import main
for line in sys.argv[1:]:
    code = main(shlex.split(line)[3:])
    assert code == 0, line
"""


@pytest.mark.parametrize(
    "page",
    ["docs/adding_a_data_set.md", pytest.param("docs/adding_a_method.md", marks=pytest.mark.slow)],
)
def test_a_newcomer_follows_the_page(page: str, tmp_path: Path) -> None:
    cell, count = PAGES[page]
    half_written = shutil.ignore_patterns("*.pyc.*", "*.tmp.*")  # by tests beside this one
    for package in ("repro", "datamodules"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=half_written)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results" / "paper.csv", tmp_path / "results")

    files = set(follow(read(page), tmp_path))
    assert len(files) == count
    for path in files:
        name = ".".join(path.relative_to(tmp_path).with_suffix("").parts)
        assert violations(name, ast.parse(path.read_text("utf-8"))) == []
    for check in (["check"], ["format", "--check"]):
        run(tmp_path, "-m", "ruff", *check, "--no-cache", *map(str, files))

    lines = commands(read(page))
    assert all(line.startswith("python -m repro ") for line in lines)
    run(tmp_path, "-c", RUN_ALL, *lines)
    method, dataset = cell.split("/")
    rows = {path.stem for path in (tmp_path / "results" / "rows").iterdir()}
    precisions = [shlex.split(line)[-1] for line in lines if " run " in line]
    assert precisions == ["fp32", "fp32_control", "binary"]
    assert rows == {f"{method}-{dataset}-{precision}-smoke-s0" for precision in precisions}

    (table,) = re.findall(r"`(results/smoke/\w+\.md)`", read(page))
    shown = (tmp_path / table).read_text("utf-8").splitlines()
    line = next(line for line in shown if line.startswith(f"| {cell} "))
    assert len(re.findall(r"\d+\.\d+ \(n 1\)", line)) == len(rows)


def run(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,  # the copy comes first, before what is installed
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_that_changes_what_is_not_there_is_found() -> None:
    assert patched("a\nb\n", " a\n+c\n") == "a\nc\nb\n"
    assert patched("a\nb\n", "-a\n+c\n") == "c\nb\n"
    for diff in (" c\n+d\n", " b\n a\n+c\n"):
        with pytest.raises(AssertionError, match="not there once"):
            patched("a\nb\n", diff)
