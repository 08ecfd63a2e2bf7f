"""What a user can mend is one line: file, reason, what to do."""

import errno
import os
from pathlib import Path

import pytest

from repro.cli import main
from repro.errors import UserError, one_line, reading
from repro.schema import Positive, parse, read

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("number", "file", "said"),
    [
        (errno.ENOENT, "runs/a", "runs/a: No such file or directory: check the path"),
        (errno.ENOSPC, None, "a file: No space left on device: make room"),
        (errno.EROFS, "a", "a: Read-only file system: choose a folder that can be written"),
        (errno.EIO, "a", "a: Input/output error: check the file and its folder"),
    ],
)
def test_an_error_of_the_system_names_file_reason_and_advice(
    number: int, file: str | None, said: str
) -> None:
    assert one_line(OSError(number, os.strerror(number), file)) == said


def test_a_line_has_an_end() -> None:
    told = one_line(UserError(f"no cell {'x' * 10**6}: one of a, b"))
    assert told.startswith("no cell xx")
    assert told.endswith("xx: one of a, b")
    assert len(told) < 1100


def test_codes_of_a_terminal_are_shown_and_not_obeyed() -> None:
    assert one_line(UserError("\x1b[2Jno such\nrun")) == r"\x1b[2Jno such\nrun"


def test_a_word_with_codes_reaches_the_terminal_harmless(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["\x1b]0;title\x07\n"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told[:-1].isprintable()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOF while parsing"),
        (b"{", "EOF while parsing"),
        (b"\xff", "Invalid JSON"),
        (DEEP.encode(), "recursion limit exceeded"),
        (b'{"a": 0}', "a is 0, expected greater than or equal to 1"),
        (b'{"a": 1e999}', "a is inf, expected a valid integer"),
        (b'{"a": %s}' % (b"9" * 5000), "Invalid JSON: number out of range"),
        (b'{"a": NaN}', "a is nan"),
        (b'{"a": true}', "a is True, expected a valid integer"),
        (b"[1]", "expected an object"),
    ],
)
def test_what_a_file_does_not_hold_is_said(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(path, dict[str, Positive], "delete it")
    told = str(caught.value)
    assert told.startswith(f"{path}: ")
    assert reason in told
    assert told.endswith(": delete it")
    assert len(told) < 500


def test_a_missing_file_is_said_and_an_own_error_passes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: No such file or directory: write it"):
        read(tmp_path / "none", int, "write it")
    with (
        pytest.raises(UserError, match=r"^said already$"),
        reading(tmp_path, "no remedy"),
    ):
        raise UserError("said already")
    assert parse('{"a": 1}', dict[str, Positive]) == {"a": 1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cells", "--frob"], "--frob"),
        (["campaign", "--time-budget", ""], "invalid duration ''"),
        (["campaign", "--kit", "nowhere"], "nowhere holds no kit"),
        (["campaign", "--limit", "0"], "limit is 0"),
        (["tables", "--rows", "results/row"], "results/row: no such folder"),
        (["export", "nowhere"], "nowhere is not a run folder"),
        (["inspect", "nowhere"], "nowhere: cannot read"),
    ],
)
def test_a_wrong_argument_is_one_line_and_changes_nothing(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_home_is_meant_where_the_shell_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for words in (["export", "~/run"], ["export", "x", "--out=~/a"], ["inspect", "~/file"]):
        assert main(words) == 2
        assert "~" not in capsys.readouterr().err
    assert main(["export", "~/run"]) == 2
    assert f"{tmp_path}/run is not a run folder" in capsys.readouterr().err
