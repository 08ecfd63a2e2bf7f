"""The first commands on a GPU: they name what exists, fail one by one, and end in time."""

import time
from pathlib import Path

import pytest
from paths import ROOT

from benchmarks.gpu_first import BATCHES, SECONDS, TESTS, Command, commands, run_all
from benchmarks.train_step import CASES


def test_every_method_is_measured_and_every_test_exists(tmp_path: Path) -> None:
    wanted = commands(tmp_path)
    assert [command.name for command in wanted][1:] == [f"train_step_{name}" for name in BATCHES]
    assert set(BATCHES) == set(CASES)
    assert all((ROOT / "tests" / name).exists() for name in TESTS)
    assert wanted[0].seconds < SECONDS < sum(command.seconds for command in wanted) + 60


def test_a_failure_and_a_slow_command_do_not_stop_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [
        Command("bad", ("-c", "print('hello'); raise SystemExit(3)"), 60),
        Command("slow", ("-c", "import time; time.sleep(60)"), 1.1),
        Command("good", ("-c", "print('fine')"), 60),
        Command("late", ("-c", "import time; time.sleep(60)"), 60),
        Command("never", ("-c", "print('no')"), 60),
    ]
    start = time.monotonic()
    assert run_all(wanted, tmp_path / "out", 5) == 4
    assert time.monotonic() - start < 20
    said = capsys.readouterr().out.splitlines()
    assert "bad: FAILED with 3" in said[0]
    assert "slow: ended after 1 s" in said[1]
    assert "good: done" in said[2]
    assert "late: ended after" in said[3]
    assert "never: no time left" in said[4]
    assert (tmp_path / "out" / "bad.txt").read_text() == "hello\n"
    assert (tmp_path / "out" / "good.txt").read_text() == "fine\n"
