"""Commands killed at random moments and repeated end as if nothing had happened (`make torture`).

A repeat may be killed again, as often as chance will have it. After every kill no process may be
left and every file must be whole; the last repeat must leave what an unkilled command leaves, bit
for bit but for its times, and nothing else. Sources must not change meanwhile: results name the
commit and whether there are changes.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import torch
import yaml
from clock import wait_for
from paths import ROOT
from safetensors import safe_open

from repro.campaign.transfer import unpack

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

PROGRAM: Final = Path(__file__).parent / "small_command.py"
SIGNALS: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MARK: Final = "CBP_TORTURE"  # environment variable that tells the processes of a folder
FP32, BINARY = (f"stbp-cifar10-{precision}-smoke-s0" for precision in ("fp32", "binary"))
RUN: Final = ("run", "--method=stbp", "--dataset=cifar10", "--tier=smoke", "--runs=runs")
SWEPT: Final = {
    **{"method": "stbp", "dataset": "cifar10", "tier": "smoke", "seed": 0, "width": 1 / 32},
    **{"time_steps": 2, "train_images": 200, "val_images": 50, "test_images": 100, "epochs": 2},
    **{"cbp.epochs": 2},
}
# Tables with rows refuse to become empty, so the finished folder has no list of other rows' runs.
NOT_ROWS: Final = shutil.ignore_patterns("rows", "runs.csv", "models", "logs")
LATE: Final = 2 * 3600  # s; more than a temporary file is waited for


@dataclass(frozen=True)
class Case:
    """A command to kill.

    Attributes:
        kills: How often.
        words: The command, run in a folder of its own.
        inputs: What that folder holds before, of the finished runs.
        children: Whether it starts processes that are killed, too.
    """

    kills: int
    words: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    children: bool = False


CASES: Final = {
    "run": Case(14, (*RUN, "--rows=rows", "--precision=fp32")),
    "run after its parent": Case(
        14, (*RUN, "--rows=rows", "--precision=binary"), (f"runs/{FP32}", f"rows/{FP32}.json")
    ),
    "quantise": Case(
        18,
        (
            *("quantise", "--model=small_network:Model", "--data=small_network:Data"),
            *("--epochs=4", "--ends", "--out=small.safetensors"),
        ),
    ),
    "tables": Case(12, ("tables", "--rows=rows", "--results=results"), ("rows", "results")),
    "sweep": Case(
        12, ("sweep", "sweep.yaml", "--jobs=1", "--runs=runs", "--rows=rows"), children=True
    ),
    "campaign": Case(
        12,
        (
            *("campaign", "--tier=smoke", "--seeds", "0", "--cells", "stbp/cifar10"),
            *("--runs=runs", "--rows=rows", "--out=out"),
        ),
    ),
    "export": Case(9, ("export", f"runs/{BINARY}", "--out=a.safetensors"), (f"runs/{BINARY}",)),
    "pack": Case(
        9, ("pack", f"runs/{BINARY}/model.safetensors", "b.safetensors"), (f"runs/{BINARY}",)
    ),
}


@dataclass
class Folder:
    """Where a command is run, and the processes that this starts."""

    path: Path
    case: Case
    figures: Counter[str] = field(default_factory=Counter)

    def start(self) -> "subprocess.Popen[str]":
        kept = {n: value for n, value in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
        return subprocess.Popen(
            [sys.executable, PROGRAM, *self.case.words],
            cwd=self.path,
            env={**kept, "PYTHONPATH": str(ROOT), MARK: str(self.path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # A shell starts what runs in the background with Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def processes(self) -> dict[int, list[str]]:
        """Living processes of this folder and their words, by id."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:  # it has ended, or is no process
                continue
            if f"{MARK}={self.path}".encode() in variables and state != "Z":
                found[int(entry.name)] = words
        return found

    def require_whole_files(self) -> None:
        for path in files(self.path):
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".ckpt":
                torch.load(path, weights_only=True)
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
                    assert [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118


def files(folder: Path, pattern: str = "*") -> list[Path]:
    """Files of a folder but those under way, whose names say so."""
    return sorted(
        p for p in folder.rglob(pattern) if p.is_file() and (p.suffix != ".tmp") == (pattern == "*")
    )


def without_times(value: Any) -> Any:
    """A JSON value without what the clock wrote, and without checksums over it."""
    if isinstance(value, dict):
        timed = ("wall_seconds", "seconds", "checksum")
        return {name: without_times(each) for name, each in value.items() if name not in timed}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def result(folder: Path) -> dict[str, Any]:
    """What a command has left: rows, weights, tables; not its logs and its state."""
    found: dict[str, Any] = {}
    packed = folder / "out"
    if packed.exists():  # archives of files that hold times
        with tempfile.TemporaryDirectory() as taken:
            unpack(packed, Path(taken, "runs"), Path(taken, "rows"))
            found["out"] = result(Path(taken))
    for path in files(folder):
        name = str(path.relative_to(folder))
        if packed in path.parents:
            continue
        if path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text()))
        elif path.suffix in (".safetensors", ".md", ".tex", ".csv", ".svg", ".yaml"):
            timed = path.name == "metrics.csv"
            found[name] = path.read_bytes() if not timed else len(path.read_text().splitlines())
    return found


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an FP32 run, its binary child, their rows and tables."""
    path = tmp_path_factory.mktemp("finished")
    shutil.copytree(ROOT / "results", path / "results", ignore=NOT_ROWS)
    for name in ("run", "run after its parent"):
        process = Folder(path, CASES[name]).start()
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return path


@pytest.fixture
def fresh(finished: Path, tmp_path: Path) -> Iterator[Callable[[Case], Folder]]:
    """Makes folders with the inputs of a case."""
    made = []

    def make(case: Case) -> Folder:
        path = tmp_path / str(len(made))
        path.mkdir()
        for name in case.inputs:
            source, target = finished / name, path / name
            target.parent.mkdir(exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        parameters: dict[str, Any] = {name: {"value": value} for name, value in SWEPT.items()}
        parameters["precision"] = {"values": ["fp32", "binary"]}
        command = ["${interpreter}", "-m", "repro", "run", "${args}"]
        content: dict[str, Any] = {"project": "cbp-qsnn", "method": "grid", "command": command}
        content |= {"metric": {"name": "test/accuracy", "goal": "maximize"}}
        content["parameters"] = parameters
        (path / "sweep.yaml").write_text(yaml.safe_dump(content))
        made.append(Folder(path, case))
        return made[-1]

    yield make
    for folder in made:
        for process in folder.processes():
            os.kill(process, signal.SIGKILL)


def interrupt(folder: Folder, seconds: float, chance: random.Random) -> bool:
    """Run the command and kill it, or a process that it started; return whether it was killed.

    Args:
        folder: Where.
        seconds: An unkilled command takes about so long.
        chance: Picks moment, signal and process.
    """
    moment, number = chance.uniform(0.1, 1) * seconds, chance.choice(SIGNALS)
    process = folder.start()
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        runs = [at for at, words in folder.processes().items() if "run" in words[:5]]
        is_child = folder.case.children and runs and chance.random() < 0.3
        try:
            os.kill(chance.choice(runs) if is_child else process.pid, number)
        except ProcessLookupError:  # the run has just ended
            is_child = True
        else:
            folder.figures[signal.Signals(number).name] += 1
            folder.figures["of them a child"] += bool(is_child)
        _, errors = process.communicate()
        assert "Traceback" not in errors, errors
        if not is_child:
            assert process.returncode in (0, 130, -number), errors
        wait_for(lambda: not folder.processes(), "no process is left")
        folder.require_whole_files()
        return True
    assert process.returncode == 0, process.communicate()[1]
    process.communicate()
    return False


@pytest.mark.parametrize("name", CASES)
def test_killed_and_repeated_ends_as_if_unkilled(
    name: str, fresh: Callable[[Case], Folder], capsys: pytest.CaptureFixture[str]
) -> None:
    case, chance, figures = CASES[name], random.Random(name), Counter[str]()
    whole, started = fresh(case), time.monotonic()
    process = whole.start()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    seconds = time.monotonic() - started
    expected, inputs = result(whole.path), result(fresh(case).path)
    assert expected != inputs, "the command must do something"

    while sum(figures[number.name] for number in SIGNALS) < case.kills:
        folder = fresh(case)
        folder.figures = figures
        figures["commands"] += 1
        done = False
        while not done and sum(figures[number.name] for number in SIGNALS) < case.kills:
            began = time.monotonic()
            done = not interrupt(folder, seconds, chance)
            if done:
                seconds = time.monotonic() - began  # other work on the machine comes and goes
            for left in files(folder.path, "*.tmp"):
                os.utime(left, (time.time() - LATE,) * 2)
                figures["temporary files of killed ones"] += 1
        last = folder.start()
        _, errors = last.communicate()
        assert last.returncode == 0, errors
        assert result(folder.path) == expected
        assert not folder.processes()
        figures["temporary files left"] += len(files(folder.path, "*.tmp"))
        with capsys.disabled():
            told = ", ".join(f"{number} {what}" for what, number in figures.items())
            print(f"\n{name}, {seconds:.0f} s unkilled: {told}", flush=True)
    assert figures["temporary files left"] == 0
