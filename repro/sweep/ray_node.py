"""A run of a sweep on a node of a Ray cluster; what there is to do there needs no Ray."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from datamodules.processes import PARENT
from repro.provenance import ROOT, code_checksum
from repro.sweep.local_engine import stop_processes, trouble_of
from repro.sweep.sweep import POLL

SHARED: Final = (
    "all nodes need the folder in which the sweep was started at the same path, on a shared file "
    "system (docs/clusters.md)"
)
# So long, in seconds, a file server may hold the lock of a node that died: NFS says 90 at most.
LEASE: Final = 120.0


@dataclass(frozen=True)
class Job:
    """What a node must know to make a run.

    Attributes:
        words: What stands behind ``python -m repro``.
        root: Folder in which the sweep was started, in full.
        folder: Run folder, as seen from there.
        code: Checksum of the code that started the sweep.
        variables: Environment variables to set.
    """

    words: tuple[str, ...]
    root: Path
    folder: Path
    code: str
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Ended:
    """What a node says of a run that ended there.

    Attributes:
        node: Name of the machine and start of the id that Ray gave the node.
        seconds: How long it took.
        trouble: What went wrong; empty if nothing did.
    """

    node: str
    seconds: float
    trouble: str


def make_on_node(job: Job, node_id: str) -> Ended:
    """Make a run on this node: the same process as on a single machine, with the same ``log.txt``.

    Ctrl-C, which is how Ray cancels, reaches the run.

    Args:
        job: The run.
        node_id: Id that Ray gave the node, in hex.
    """
    started = time.monotonic()
    trouble = missing_here(job) or make(job)
    node = f"{socket.gethostname()}, node {node_id[:8]}"
    return Ended(node, time.monotonic() - started, trouble)


def missing_here(job: Job) -> str:
    """Return what this node lacks to make the run; empty if nothing."""
    if not job.root.is_dir():
        return f"{job.root} is not there: {SHARED}"
    if code_checksum(ROOT) != job.code:
        return f"{ROOT} has other code than the sweep was started with: {SHARED}"
    return ""


def make(job: Job) -> str:
    """Make the run; return what went wrong."""
    folder = job.root / job.folder
    folder.mkdir(parents=True, exist_ok=True)
    wait_until_free(folder)
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "repro", *job.words],
            cwd=job.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # What Ray ends by force (its worker, when memory is short or the sweep is gone) must
            # take the run along.
            env={**os.environ, **job.variables, PARENT: str(os.getpid())},
        )
    try:
        while process.poll() is None:
            time.sleep(POLL)
    finally:
        stop_processes([process])
    return trouble_of(process.returncode, folder / "log.txt")


def wait_until_free(folder: Path) -> None:
    """Wait for the lock of a run folder: on a node that has died it may outlive its process."""
    with contextlib.suppress(Timeout), FileLock(folder / ".lock").acquire(timeout=LEASE):
        pass  # one that is in use all the same is named by the run itself
