"""Sweeps without an account: the runs that W&B's sweep files name, in order.

``plan`` puts parents before children, ``Sweep`` decides what may start and notes what ended. How a
run's process is started, watched and stopped is left to an `Engine`: `repro.sweep.local_engine` on
this machine, `repro.sweep.ray_engine` on a Ray cluster.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from tqdm import tqdm

from repro.interrupts import ending_like_ctrl_c
from repro.sweep.plan import Run

LOST: Final = ("failed", "skipped")
# Looked at so often, in seconds, whether a run has ended.
POLL: Final = 0.1


@dataclass(frozen=True)
class Outcome:
    """What became of a run that was started.

    Attributes:
        run: The run.
        failed: Whether it failed.
        remark: How long it took, or what went wrong, for the user.
    """

    run: Run
    failed: bool
    remark: str


class Engine(Protocol):
    """Makes runs at the same time; knows nothing of parents or of what is there."""

    def start(self, run: Run) -> bool:
        """Start a run, or return False if there is no room for it now."""

    def collect(self) -> list[Outcome]:
        """Return the runs that ended since the last call; do not wait."""

    def stop(self) -> None:
        """Stop the runs under way, if any, and leave nothing running."""


@dataclass
class Sweep:
    """A sweep under way.

    Attributes:
        runs: What ``plan`` gave.
        engine: Makes them.
        say: Takes one line about a run that ended.
        ended: What became of the runs so far, by run folder: ``done``, ``there already``,
            ``failed`` or ``skipped``.
    """

    runs: Sequence[Run]
    engine: Engine
    say: Callable[[str], None] = print
    ended: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing runs yet."""
        self._waiting = list(self.runs)
        self._folders = {run.place.path for run in self.runs}

    def run(self) -> None:
        """Run what is not there yet, children of a failed run left out.

        An interrupt stops the runs under way before it is passed on.
        """
        try:
            while True:
                self._start_ready()
                for outcome in self.engine.collect():
                    state = "failed" if outcome.failed else "done"
                    self._end(outcome.run, state, outcome.remark)
                if len(self.ended) == len(self.runs):
                    return
                time.sleep(POLL)
        finally:
            self.engine.stop()

    def _start_ready(self) -> None:
        """Start waiting runs whose parents have ended, as many as the engine has room for."""
        for run in list(self._waiting):
            parent = self._parent_state(run)
            if parent == "open":
                continue
            if parent in LOST:
                assert run.parent is not None
                self._end(run, "skipped", f"{run.parent.path.name}, its parent, {parent}")
            elif run.is_done:
                self._end(run, "there already")
            elif not self.engine.start(run):
                continue
            self._waiting.remove(run)

    def _parent_state(self, run: Run) -> str:
        """Return what became of the parent: ``open`` before it ended, ``outside`` of no sweep."""
        if run.parent is None or run.parent.path not in self._folders:
            return "outside"
        return self.ended.get(run.parent.path, "open")

    def _end(self, run: Run, state: str, remark: str = "") -> None:
        """Note and say what became of a run."""
        self.ended[run.place.path] = state
        self.say(f"{run.name}: {state}" + f" ({remark})" * bool(remark))

    def in_words(self) -> str:
        """Return how many runs ended how.

        >>> from repro.sweep.local_engine import LocalEngine
        >>> Sweep([], LocalEngine(1)).in_words()
        '0 runs: nothing to do'
        """
        states = list(self.ended.values())
        counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
        noun = "run" if len(states) == 1 else "runs"
        return f"{len(states)} {noun}: {', '.join(counts) or 'nothing to do'}"


def run_sweep(runs: Sequence[Run], engine: Engine) -> int:
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

    sweep = Sweep(runs, engine, say)
    with bar, ending_like_ctrl_c():
        sweep.run()
    print(sweep.in_words(), flush=True)
    return int(any(state in LOST for state in sweep.ended.values()))
