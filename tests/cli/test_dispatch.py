"""How a process of the command line ends: by Ctrl-C, without a reader, on a full disk."""

import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from repro.cli import dispatch, main

INTERRUPTED = "cbp-qsnn: interrupted; the same command continues\n"
# In the place of torch: Ctrl-C comes while it is imported, and it swallows what Python raises.
SWALLOWS = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(600)
except BaseException:
    pass
"""
RUN = ["run", "--method=stbp", "--dataset=cifar10", "--precision=fp32", "--tier=smoke"]


def command(
    *words: str, variables: dict[str, str] | None = None, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process of its own, whose output is buffered unless a variable says so."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-m", "repro", *words],
        cwd=ROOT,
        env={**kept, **(variables or {})},
        text=True,
        check=False,
        **options,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals of its own")
def test_ctrl_c_while_libraries_are_imported_ends_at_once_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(SWALLOWS)
    variables = {"PYTHONPATH": str(tmp_path)}
    ended = command(*RUN, f"--runs={tmp_path}", variables=variables, capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", INTERRUPTED)


@pytest.mark.parametrize("words", [("cells",), ("--help",), ("run", "--help")])
@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_output_that_nobody_reads_ends_the_command_quietly(
    words: tuple[str, ...], variables: dict[str, str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as out:
        ended = command(*words, variables=variables, stdout=out, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_output_that_is_read_is_all_there() -> None:
    ended = command("cells", capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "stbp" in ended.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_output_that_cannot_be_written_is_told() -> None:
    with open("/dev/full", "wb") as full:
        ended = command("cells", stdout=full, stderr=subprocess.PIPE)
    said = "cbp-qsnn: standard output cannot be written: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (2, said)


def test_a_process_of_a_pool_that_is_killed_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(words: Any) -> int:
        raise BrokenProcessPool("A process in the process pool was terminated abruptly")

    monkeypatch.setitem(dispatch.COMMANDS, "cells", killed)
    assert main(["cells"]) == 2
    assert "terminated abruptly; the same command continues\n" in capsys.readouterr().err
