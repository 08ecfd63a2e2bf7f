"""Runs of a sweep as processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from datamodules.processes import PARENT
from repro.sweep.plan import Run
from repro.sweep.sweep import Outcome

# So long a stopped run may take to end, in seconds, before it is killed; it resumes either way.
PATIENCE: Final = 10.0


@dataclass
class LocalEngine:
    """Processes of this machine; the cores are divided among them.

    Attributes:
        jobs: Runs at a time.
    """

    jobs: int
    _under_way: "dict[Path, tuple[Run, float, subprocess.Popen[bytes]]]" = field(
        default_factory=dict
    )

    def start(self, run: Run) -> bool:
        """Start the run's process; what it prints is appended to ``log.txt`` in its folder."""
        if len(self._under_way) >= self.jobs:
            return False
        run.place.path.mkdir(parents=True, exist_ok=True)
        with (run.place.log).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "repro", *run.words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment(self.jobs), PARENT: str(os.getpid())},
                process_group=0,  # Ctrl-C reaches the sweep alone, which then stops its runs
            )
        self._under_way[run.place.path] = run, time.monotonic(), process
        return True

    def collect(self) -> list[Outcome]:
        """Return what became of the runs whose processes have ended."""
        outcomes = []
        for run, started, process in list(self._under_way.values()):
            if process.poll() is None:
                continue
            del self._under_way[run.place.path]
            trouble = trouble_of(process.returncode, run.place.log)
            remark = trouble or f"{time.monotonic() - started:.0f} s"
            outcomes.append(Outcome(run, bool(trouble), remark))
        return outcomes

    def stop(self) -> None:
        """Interrupt the runs under way; kill those that do not end."""
        stop_processes([process for _, _, process in self._under_way.values()])
        self._under_way.clear()


def environment(jobs: int) -> dict[str, str]:
    """Return the variables of a run: the cores are divided among the jobs unless they say so."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    named = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**({name: threads for name in named} if jobs > 1 else {}), **os.environ}


def trouble_of(code: int, log: Path) -> str:
    """Return what went wrong with a run that ended with this exit code; empty if nothing did.

    The words are the last line that it printed, and where the rest is.
    """
    if code == 0:
        return ""
    lines = log.read_text("utf-8", errors="replace").splitlines()
    said = lines[-1].strip() if lines else "it printed nothing"
    return f"exit code {code}, {said}; see {log}"


def stop_processes(processes: "Collection[subprocess.Popen[bytes]]") -> None:
    """Interrupt processes; kill those that do not end."""
    for process in processes:
        process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    try:
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        for process in processes:
            process.kill()
            process.wait()
