"""Settings of the whole test session, made before torch is loaded; the stand-in of W&B's server."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb_cli import WandbCli
from wandb_standin import Standin

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does
for threads in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # networks of tests are tiny: threads would only wait

# A shell's background process ignores Ctrl-C, and what it starts does too; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def server() -> Iterator[Standin]:
    """The stand-in; nobody may ask it for more than it knows, or for another machine."""
    standin = Standin()
    yield standin
    standin.stop()
    assert standin.state.unknown == []
    assert standin.state.beyond == []


@pytest.fixture
def cli(server: Standin, tmp_path: Path) -> WandbCli:
    return WandbCli(server, tmp_path)
