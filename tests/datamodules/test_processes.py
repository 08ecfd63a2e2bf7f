"""Processes end with the one that started them, whatever ends that."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paths import ROOT

# Both say which process is to end with the one that runs them, once it is prepared.
CHILD = """
import os, subprocess, sys
program = '''
import os, sys, time
from datamodules import processes
sys.platform = {platform!r}
processes.end_with(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(600)
'''
subprocess.run([sys.executable, "-c", program, str(os.getpid())])
"""
POOL = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from datamodules.processes import prepare_worker

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), prepare_worker, (os.getpid(),)) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""
PROGRAMS = {
    "Linux": CHILD.format(platform="linux"),
    "macOS": CHILD.format(platform="darwin"),
    "pool": POOL,
}


def is_alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_process_ends_with_the_killed_one_that_started_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAMS[name])
    parent = subprocess.Popen(
        [sys.executable, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent:
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.send_signal(signal.SIGKILL)
    while is_alive(child):  # else for ten minutes
        time.sleep(0.05)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_process_whose_parent_has_ended_before_ends_at_once(platform: str) -> None:
    program = (
        "import sys, time; from datamodules import processes; "
        f"sys.platform = {platform!r}; processes.end_with(2**30); time.sleep(600)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 1
