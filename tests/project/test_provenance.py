"""Which code runs: from git, or from a stamp where the files travelled without it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from repro.errors import UserError
from repro.provenance import STAMP, git_state, write_stamp


def git(folder: Path, *arguments: str) -> None:
    named = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *named, *arguments], check=True, capture_output=True)


def test_git_state_sees_changes_except_below_results(tmp_path: Path) -> None:
    assert git_state(tmp_path) == ("unknown", True)
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) == ("unknown", True)  # no commit yet
    code, results = tmp_path / "code.py", tmp_path / "results" / "row.json"
    results.parent.mkdir()
    code.write_text("1")
    results.write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    sha, dirty = git_state(tmp_path)
    assert len(sha) == len("da39a3ee5e6b4b0d3255bfef95601890afd80709")
    assert not dirty
    results.write_text("2")
    (results.parent / "new.json").write_text("2")
    assert git_state(tmp_path) == (sha, False)
    (tmp_path / "untracked.py").write_text("2")
    assert git_state(tmp_path) == (sha, True)
    assert git_state(results.parent) == ("unknown", True)  # not the top of the checkout


def checkout(folder: Path) -> Path:
    """A checkout whose code and results have a commit each."""
    (folder / "repro").mkdir(parents=True)
    (folder / "results").mkdir()
    (folder / ".gitignore").write_text(f"{STAMP}\n__pycache__/\n")
    (folder / "repro" / "a.py").write_text("1")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "code")
    return folder


def commit_of_code(folder: Path) -> str:
    sha, dirty = git_state(folder)
    assert not dirty
    return sha


def test_a_commit_of_results_alone_leaves_the_code_what_it_was(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    first = commit_of_code(folder)
    (folder / "results" / "row.json").write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "results")
    assert commit_of_code(folder) == first
    (folder / "repro" / "a.py").write_text("2")
    git(folder, "commit", "-q", "-a", "-m", "code")
    assert commit_of_code(folder) != first


def test_a_copy_without_git_knows_its_commit_by_the_stamp(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "checkout")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".git"))
    assert git_state(copy) == ("unknown", True)
    write_stamp(folder, copy / STAMP)
    assert git_state(copy) == (commit_of_code(folder), False)
    (copy / "repro" / "__pycache__").mkdir()
    (copy / "repro" / "__pycache__" / "a.pyc").write_bytes(b"1")
    assert git_state(copy) == (commit_of_code(folder), False)
    (copy / "repro" / "b.py").write_text("1")
    assert git_state(copy) == (commit_of_code(folder), True)
    (copy / STAMP).write_text("{")
    assert git_state(copy) == ("unknown", True)


def test_no_stamp_of_a_changed_tree(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "checkout")
    (folder / "repro" / "a.py").write_text("3")
    with pytest.raises(UserError, match="has changes"):
        write_stamp(folder, tmp_path / STAMP)
    assert not (tmp_path / STAMP).exists()
