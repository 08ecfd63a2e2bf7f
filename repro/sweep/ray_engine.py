"""Runs of a sweep as tasks of a Ray cluster that is there; Ray chooses the nodes."""

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from repro.errors import UserError
from repro.provenance import ROOT, code_checksum
from repro.sweep.local_engine import PATIENCE
from repro.sweep.plan import Run
from repro.sweep.ray_node import SHARED, Ended, Job, make_on_node
from repro.sweep.sweep import Outcome

# A run whose node died starts again so often; each time it resumes from its last checkpoint.
RETRIES: Final = 3
# So long, in seconds, a file server may take to show here what a node has written.
LATE: Final = 60.0
# So long, in seconds, the head of a cluster may take to answer at all.
ANSWER: Final = 10.0
# Ray reads these when it is loaded. Without them it would start a run again without end that its
# memory monitor ended, try for ten minutes to reach a head that does not answer, and warn of GPUs
# that runs without one may see (`variables_of` hides them).
RAY_VARIABLES: Final = {
    "RAY_task_oom_retries": str(RETRIES),
    "RAY_NUM_REDIS_GET_RETRIES": "3",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Variables that begin so travel to the nodes.
TRAVELLING: Final = ("CBP_", "NUMBA_", "OMP_", "WANDB_")


@dataclass
class RayEngine:
    """Tasks of a Ray cluster, which is asked for when the first run starts.

    All runs that may start are handed over at once: queue, order and places are Ray's.

    Attributes:
        address: ``host:port`` of the cluster; None for the variable RAY_ADDRESS, else the cluster
            that this machine belongs to.
        cpus: Cores that a run takes.
        gpus: GPUs that a run takes; less than one is shared.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float = 0
    _ray: Any = None
    _code: str = ""
    _under_way: dict[Any, Run] = field(default_factory=dict)
    _late: dict[Path, tuple[Run, Ended, float]] = field(default_factory=dict)

    def start(self, run: Run) -> bool:
        """Hand a run to Ray; there is always room.

        Raises:
            UserError: Ray is not installed, or no cluster answers.
        """
        if self._ray is None:
            self._ray = connect(self.address)
            self._code = code_checksum(ROOT)
            self._warn_of_long_wait()
        variables = variables_of(self.cpus, self.gpus, os.environ)
        job = Job(run.words, Path.cwd(), run.place.path, self._code, variables)
        # What a run answers is not an exception, so that Ray repeats only what it has lost.
        task = self._ray.remote(task_of_ray).options(
            name=run.name, num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES
        )
        self._under_way[task.remote(job)] = run
        return True

    def _warn_of_long_wait(self) -> None:
        """Say that no node is large enough; a cluster that grows may get one."""
        sizes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(
            size.get("CPU", 0) >= self.cpus and size.get("GPU", 0) >= self.gpus for size in sizes
        ):
            has = ", ".join(f"{s.get('CPU', 0):g} and {s.get('GPU', 0):g}" for s in sizes)
            tqdm.write(
                f"cbp-qsnn: no node has the {self.cpus:g} CPUs and {self.gpus:g} GPUs of a run "
                f"(there are {has or 'no nodes'}): all runs wait until one joins",
                file=sys.stderr,
            )

    def collect(self) -> list[Outcome]:
        """Return what became of the runs whose tasks have ended and whose rows are here."""
        outcomes = []
        if self._under_way:
            tasks = list(self._under_way)
            ended, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)
            for task in ended:
                outcomes += self._outcome(self._under_way.pop(task), task)
        for run, said, since in list(self._late.values()):
            if not run.is_done and time.monotonic() < since + LATE:
                continue
            del self._late[run.place.path]
            remark = f"{said.seconds:.0f} s on {said.node}"
            if not run.is_done:
                remark = f"it ended well on {said.node}, but {run.place.row} is not here: {SHARED}"
            outcomes.append(Outcome(run, not run.is_done, remark))
        return outcomes

    def _outcome(self, run: Run, task: Any) -> list[Outcome]:  # noqa: ANN401  (a Ray reference)
        """Return what became of a run; nothing yet if only its files are to come."""
        try:
            said: Ended = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return [Outcome(run, True, trouble_of_ray(error))]
        if said.trouble:
            return [Outcome(run, True, f"on {said.node}: {said.trouble}")]
        self._late[run.place.path] = run, said, time.monotonic()
        return []

    def stop(self) -> None:
        """Take the runs that wait out of Ray's queue, interrupt those under way, and disconnect."""
        if self._ray is None:
            return
        tasks = list(self._under_way)
        try:
            for task in tasks:
                self._ray.cancel(task)
            if tasks:  # the nodes give their runs PATIENCE
                _, tasks = self._ray.wait(tasks, num_returns=len(tasks), timeout=PATIENCE + 5)
            for task in tasks:
                self._ray.cancel(task, force=True)
        finally:
            self._under_way.clear()
            self._ray.shutdown()
            self._ray = None


def task_of_ray(job: Job) -> Ended:
    """Make a run where Ray calls this."""
    import ray

    return make_on_node(job, ray.get_runtime_context().get_node_id())


def connect(address: str | None) -> Any:  # noqa: ANN401  (the module ray)
    """Connect to a cluster that is there; return the module ``ray``.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    for name, value in RAY_VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f"no Ray here ({error}): python -m pip install -c constraints.txt -e '.[ray]'"
        ) from error
    place = address or os.environ.get("RAY_ADDRESS") or "auto"
    when_asked_to_end = signal.getsignal(signal.SIGTERM)
    try:
        require_answer(place)
        ray.init(address=place, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises what it likes: other versions there are a RuntimeError
        raise UserError(
            f"no Ray cluster found at {place} ({' '.join(str(error).split())}): give --address "
            "host:port, from a machine of the cluster, or start one: ray start --head"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, when_asked_to_end)  # Ray puts its own in the place of ours
    return ray


def require_answer(place: str) -> None:
    """Raise an OSError if nothing listens there: Ray itself would try for minutes.

    Raises:
        ValueError: No host and port.
    """
    if place in ("auto", "local"):
        if place == "local":
            raise ValueError("local would start a cluster")
        return
    host, _, port = place.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError(f"{place} is not host:port")
    socket.create_connection((host, int(port)), ANSWER).close()


def variables_of(cpus: float, gpus: float, here: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a run on a node, where Ray has named the GPUs that it may use.

    There are as many threads as cores, unless they say so here. Where a run takes no GPU, Ray, by
    its version, lets it see none or all of them: none.

    >>> variables_of(2.0, 1.0, {"CBP_DATA": "/data", "OMP_NUM_THREADS": "4", "HOME": "/me"})
    {'OMP_NUM_THREADS': '4', 'NUMBA_NUM_THREADS': '2', 'CBP_DATA': '/data'}
    >>> variables_of(0.5, 0.0, {})
    {'OMP_NUM_THREADS': '1', 'NUMBA_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    """
    threads = str(max(1, int(cpus)))
    given = {name: value for name, value in here.items() if name.startswith(TRAVELLING)}
    blind = {} if gpus else {"CUDA_VISIBLE_DEVICES": ""}
    return {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads, **given, **blind}


def trouble_of_ray(error: Exception) -> str:
    """Return in a line why Ray gave a run up."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1] if lines else type(error).__name__
    if "No module named 'repro" in str(error):
        return f"a node cannot import repro: {SHARED}"
    if "died" in str(error) or "crashed" in str(error):
        return f"its worker or node died, after {RETRIES} retries at most: {lines[0]}"
    return f"Ray gave it up: {said}"
