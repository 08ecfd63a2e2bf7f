"""Sweeps without an account: the runs that a W&B sweep file names, in order, on this machine.

``load`` reads and checks a file, ``expand`` gives the command lines that W&B's agent would start,
``plan`` puts parents before children, ``Sweep`` runs what is not there yet. Only a part of W&B's
format is read: grids over ``value`` and ``values``, as the files in ``sweeps/`` use it.
"""

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import yaml
from tqdm import tqdm

from repro.errors import UserError

Scalar = str | int | float | bool
KEYS: Final = ("name", "description", "project", "method", "metric", "parameters", "command")
START: Final = ("${interpreter}", "-m", "repro", "run")
ARGUMENTS: Final = "${args}"
LOST: Final = ("failed", "skipped")
# Looked at so often, in seconds, whether a run has ended.
POLL: Final = 0.1
# So long a stopped run may take to end, in seconds, before it is killed; it resumes either way.
PATIENCE: Final = 10.0


@dataclass(frozen=True)
class SweepFile:
    """A sweep file that was read and checked.

    Attributes:
        path: Where it is.
        command: Words of the command, its macros still in.
        grid: Values of each parameter, names in alphabetical order as W&B passes them.
    """

    path: Path
    command: tuple[str, ...]
    grid: Mapping[str, tuple[Scalar, ...]]


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        name: Its key, behind its folders in an ablation.
        words: What stands behind ``python -m repro`` to make it.
        recipe_hash: Hash of its recipe.
        folder: Its run folder; two runs of a sweep never share one.
        row: File of its row.
        parent: Run folder and row of the run it starts from; None if it starts from nothing.
        parent_command: Command that makes that run.
    """

    name: str
    words: tuple[str, ...]
    recipe_hash: str
    folder: Path
    row: Path
    parent: tuple[Path, Path] | None = None
    parent_command: str = ""

    @property
    def command(self) -> str:
        """The command line, for a person to copy."""
        return shlex.join(["python", "-m", "repro", *self.words])

    @property
    def is_done(self) -> bool:
        """Whether weights and row are there and of this recipe; the run would do nothing."""
        if not is_there(self.folder, self.row):
            return False
        try:
            found: dict[str, Any] = json.loads(self.row.read_text("utf-8"))
            return found.get("recipe_hash") == self.recipe_hash
        except (ValueError, AttributeError):
            return False  # the run says in one line what is wrong with the row


class Resolve(Protocol):
    """Gives the run that the words behind ``python -m repro`` name, parsed as ``run`` does."""

    def __call__(self, words: Sequence[str]) -> Run:
        """Return the run; UserError if the words are no command of ours."""


def is_there(folder: Path, row: Path) -> bool:
    """Return whether a run left both weights and row."""
    return row.exists() and (folder / "model.safetensors").exists()


def load(path: Path) -> SweepFile:
    """Return a checked sweep file.

    Raises:
        UserError: It is absent, no YAML, or no sweep that both W&B and this machine can run.
    """
    try:
        read = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict):
        raise UserError(f"{path} is no sweep file: give {', '.join(KEYS)}")
    if unknown := [str(key) for key in read if key not in KEYS]:
        raise UserError(f"{path}: unknown key {', '.join(unknown)}: one of {', '.join(KEYS)}")
    if not isinstance(read.get("project"), str):
        raise UserError(f"{path} has no project: W&B would file the sweep as uncategorized")
    if read.get("method") != "grid":
        raise UserError(f"{path}: method is {read.get('method')}: only grid names its runs")
    return SweepFile(path, _command(path, read.get("command")), _grid(path, read.get("parameters")))


def _command(path: Path, command: object) -> tuple[str, ...]:
    """Return the words of a command that starts our program and passes all parameters."""
    words = tuple(map(str, command)) if isinstance(command, list) else ()
    given = [word for word in words[len(START) :] if word != ARGUMENTS]
    wrong = [word for word in given if not re.fullmatch(r"--[^=]+=(?!.*\$\{).+", word)]
    if words[: len(START)] != START or words.count(ARGUMENTS) != 1 or wrong:
        raise UserError(
            f"{path}: command is {list(words)}: give {', '.join(START)}, then {ARGUMENTS} once and "
            "--name=value for the rest, without other macros"
        )
    return words


def _grid(path: Path, parameters: object) -> dict[str, tuple[Scalar, ...]]:
    """Return the values of each parameter, in alphabetical order of their names."""
    if not isinstance(parameters, dict) or not parameters:
        raise UserError(f"{path} has no grid: give parameters, each with value or values")
    grid = {}
    for name in sorted(map(str, parameters)):
        spec = parameters.get(name)
        if isinstance(spec, dict) and set(spec) == {"value"}:
            values = [spec["value"]]
        elif isinstance(spec, dict) and set(spec) == {"values"}:
            values = spec["values"] if isinstance(spec["values"], list) else []
        else:
            raise UserError(f"{path}: parameter {name} is {spec}: give value or values")
        for value in values:
            _require_scalar(path, name, value)
        if not values or len(set(map(str, values))) < len(values):
            raise UserError(f"{path}: parameter {name} is {spec}: list its values, each once")
        grid[name] = tuple(values)
    return grid


def _require_scalar(path: Path, name: str, value: object) -> None:
    """Raise a UserError for a value that W&B passes otherwise than it looks."""
    if not isinstance(value, str | int | float):
        raise UserError(f"{path}: parameter {name} has {value}: give words, numbers, True or False")
    if isinstance(value, str) and re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", value):
        raise UserError(
            f"{path}: parameter {name} has {value}, which YAML reads as a word: write 1.0e-3, "
            "with a point and a sign"
        )


def expand(file: SweepFile, settings: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the words behind ``python -m repro`` of every grid point, in W&B's order.

    Args:
        file: The sweep file.
        settings: Arguments of ``run`` that replace those of the file, by name without dashes.

    >>> command = ("${interpreter}", "-m", "repro", "run", "--wandb=online", "${args}")
    >>> file = SweepFile(Path("x.yaml"), command, {"seed": (0, 1), "tier": ("paper",)})
    >>> for words in expand(file, {"wandb": "off", "tier": "smoke"}):
    ...     print(*words)
    run --seed=0 --tier=smoke --wandb=off
    run --seed=1 --tier=smoke --wandb=off
    """
    grid = dict(file.grid)
    command = [word for word in file.command[3:] if _flag(word) not in settings]
    named = {name.replace("_", "-"): name for name in grid}
    for name, value in settings.items():
        if name in named:
            grid[named[name]] = (value,)
        else:
            command.append(f"--{name}={value}")
    expanded = []
    for values in itertools.product(*grid.values()):
        flags = [f"--{name}={value}" for name, value in zip(grid, values, strict=True)]
        at = command.index(ARGUMENTS)
        expanded.append((*command[:at], *flags, *command[at + 1 :]))
    return expanded


def _flag(word: str) -> str:
    """Return the name of ``--name=value``, with hyphens, or the empty text."""
    return word[2:].partition("=")[0].replace("_", "-") if word.startswith("--") else ""


def plan(files: Iterable[SweepFile], settings: Mapping[str, str], resolve: Resolve) -> list[Run]:
    """Return the runs of all files, each once, parents before children, else in their order.

    Raises:
        UserError: A command does not parse, two runs want one folder, or a parent is neither there
            nor in the files.
    """
    runs: dict[Path, Run] = {}
    for file in files:
        for words in expand(file, settings):
            try:
                run = resolve(words)
            except UserError as error:
                raise UserError(f"{file.path}: {error}") from error
            if runs.setdefault(run.folder, run).recipe_hash != run.recipe_hash:
                raise UserError(
                    f"{file.path} has two recipes for {run.folder}: add --ablation=NAME to its "
                    "command, which gives each recipe a folder"
                )
    for run in runs.values():
        if run.parent and run.parent[0] not in runs and not is_there(*run.parent):
            raise UserError(
                f"{run.name} starts from {run.parent[0].name}, neither there nor in the sweep: "
                f"{run.parent_command}"
            )
    return sorted(runs.values(), key=lambda run: _generation(run, runs))


def _generation(run: Run, runs: Mapping[Path, Run]) -> int:
    """Return how many runs of the sweep this one starts from: 0, 1 or 2."""
    if run.parent is None or run.parent[0] not in runs:
        return 0
    return 1 + _generation(runs[run.parent[0]], runs)


@dataclass
class Sweep:
    """A sweep under way.

    Attributes:
        runs: What ``plan`` gave.
        jobs: Runs at a time.
        say: Takes one line about a run that ended.
        ended: What became of the runs so far, by run folder: ``done``, ``there already``,
            ``failed`` or ``skipped``.
    """

    runs: Sequence[Run]
    jobs: int
    say: Callable[[str], None] = print
    ended: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing runs yet."""
        self._waiting = list(self.runs)
        self._processes: dict[Path, subprocess.Popen[bytes]] = {}
        self._started: dict[Path, float] = {}

    def run(self) -> None:
        """Run what is not there yet, children of a failed run left out.

        An interrupt stops the runs under way before it is passed on.
        """
        try:
            while self._waiting or self._processes:
                self._start_ready()
                self._collect()
                if self._processes:
                    time.sleep(POLL)
        finally:
            self._stop()

    def _start_ready(self) -> None:
        """Start waiting runs whose parents have ended, as many as may run at a time."""
        for run in list(self._waiting):
            parent = self._parent_state(run)
            if parent == "open":
                continue
            if parent in LOST:
                assert run.parent is not None
                self._end(run, "skipped", f"{run.parent[0].name}, its parent, {parent}")
            elif run.is_done:
                self._end(run, "there already")
            elif len(self._processes) < self.jobs:
                self._start(run)
            else:
                continue
            self._waiting.remove(run)

    def _parent_state(self, run: Run) -> str:
        """Return what became of the parent: ``open`` before it ended, ``outside`` of no sweep."""
        if run.parent is None or run.parent[0] not in {other.folder for other in self.runs}:
            return "outside"
        return self.ended.get(run.parent[0], "open")

    def _start(self, run: Run) -> None:
        """Start the run's process; what it prints is appended to ``log.txt`` in its folder."""
        run.folder.mkdir(parents=True, exist_ok=True)
        with (run.folder / "log.txt").open("ab") as log:
            self._processes[run.folder] = subprocess.Popen(
                [sys.executable, "-m", "repro", *run.words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(self.jobs),
                process_group=0,  # Ctrl-C reaches the sweep alone, which then stops its runs
            )
        self._started[run.folder] = time.monotonic()

    def _collect(self) -> None:
        """Say what became of the runs whose processes have ended."""
        for run in self.runs:
            process = self._processes.get(run.folder)
            if process is None or (code := process.poll()) is None:
                continue
            del self._processes[run.folder]
            if code == 0:
                seconds = time.monotonic() - self._started[run.folder]
                self._end(run, "done", f"{seconds:.0f} s")
            else:
                self._end(run, "failed", f"exit code {code}, {last_line(run.folder / 'log.txt')}")

    def _end(self, run: Run, state: str, remark: str = "") -> None:
        """Note and say what became of a run."""
        self.ended[run.folder] = state
        self.say(f"{run.name}: {state}" + f" ({remark})" * bool(remark))

    def _stop(self) -> None:
        """Interrupt the runs under way; kill those that do not end."""
        for process in self._processes.values():
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        try:
            for process in self._processes.values():
                process.wait(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            for process in self._processes.values():
                process.kill()
                process.wait()
        self._processes.clear()

    def in_words(self) -> str:
        """Return how many runs ended how.

        >>> Sweep([], 1).in_words()
        '0 runs: nothing to do'
        """
        states = list(self.ended.values())
        counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
        noun = "run" if len(states) == 1 else "runs"
        return f"{len(states)} {noun}: {', '.join(counts) or 'nothing to do'}"


def environment(jobs: int) -> dict[str, str]:
    """Return the variables of a run: the cores are divided among the jobs unless they say so."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    named = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**({name: threads for name in named} if jobs > 1 else {}), **os.environ}


def last_line(log: Path) -> str:
    """Return the last line that a run printed, and where the rest is."""
    lines = log.read_text("utf-8", errors="replace").splitlines()
    return f"{lines[-1].strip() if lines else 'it printed nothing'}; see {log}"


def run_sweep(runs: Sequence[Run], jobs: int) -> int:
    """Run a sweep under one bar on a terminal, else with a line per run; return its exit code."""
    on_terminal = sys.stderr.isatty()
    bar = tqdm(total=len(runs), unit="run", disable=not on_terminal)

    def say(line: str) -> None:
        states = list(sweep.ended.values())
        if not on_terminal:
            print(f"[{len(states)}/{len(runs)}] {line}", flush=True)
        elif states[-1] in LOST:
            bar.write(line, file=sys.stderr)
        bar.set_postfix_str(f"{states.count('failed')} failed", refresh=False)
        bar.update()

    sweep = Sweep(runs, jobs, say)
    with bar, ending_like_ctrl_c():
        sweep.run()
    print(sweep.in_words(), flush=True)
    return int(any(state in LOST for state in sweep.ended.values()))


@contextmanager
def ending_like_ctrl_c() -> Iterator[None]:
    """Take a request to end, or a closed terminal, like Ctrl-C: runs under way are stopped."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.getsignal(number) for number in numbers}
    for number, handler in previous.items():
        if handler != signal.SIG_IGN:  # nohup ignores a closed terminal
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
