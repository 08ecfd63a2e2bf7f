"""The first commands on a GPU: they name what exists, fail one by one, and end in time."""

from pathlib import Path

import pytest
from clock import PATIENCE, Clock
from paths import ROOT

from benchmarks import gpu_first
from benchmarks.gpu_first import BATCHES, SECONDS, TESTS, Command, commands, run_all
from benchmarks.train_step import CASES


def test_every_method_is_measured_and_every_test_exists(tmp_path: Path) -> None:
    wanted = commands(tmp_path)
    assert [command.name for command in wanted][1:] == [f"train_step_{name}" for name in BATCHES]
    assert set(BATCHES) == set(CASES)
    assert all((ROOT / "tests" / name).exists() for name in TESTS)
    assert wanted[0].seconds < SECONDS < sum(command.seconds for command in wanted) + 60


def test_a_failure_and_a_slow_command_do_not_stop_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(gpu_first, "time", clock)
    taken = {"bad": 1.0, "slow": 60.0, "good": 2.0, "late": 60.0}

    def run(command: Command, out: Path, seconds: float) -> str:
        clock.sleep(min(taken[command.name], seconds))
        if taken[command.name] > seconds:
            return f"ended after {seconds:.0f} s"
        return "FAILED with 3" if command.name == "bad" else "done"

    monkeypatch.setattr(gpu_first, "run", run)
    limits = {"bad": 60.0, "slow": 5.0, "good": 60.0, "late": 60.0, "never": 60.0}
    wanted = [Command(name, (), seconds) for name, seconds in limits.items()]
    assert run_all(wanted, tmp_path / "out", 20) == 4
    said = [line.partition(" (")[0] for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "bad: FAILED with 3",
        "slow: ended after 5 s",
        "good: done",
        "late: ended after 12 s",
        "never: no time left",
    ]


def test_how_a_command_ended_and_what_it_said(tmp_path: Path) -> None:
    bad = Command("bad", ("-c", "print('hello'); raise SystemExit(3)"), 0)
    assert gpu_first.run(bad, tmp_path, PATIENCE).startswith("FAILED with 3, ")
    assert (tmp_path / "bad.txt").read_text() == "hello\n"
    good = Command("good", ("-c", "print('fine')"), 0)
    assert gpu_first.run(good, tmp_path, PATIENCE).startswith("done, ")
    assert (tmp_path / "good.txt").read_text() == "fine\n"
    slow = Command("slow", ("-c", "import time; time.sleep(600)"), 0)
    assert gpu_first.run(slow, tmp_path, 0.1) == "ended after 0 s"
