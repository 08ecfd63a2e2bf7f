"""Kernels on threads; `make test` runs their form without."""

import os
import subprocess
import sys

import pytest
from paths import ROOT


@pytest.mark.slow
def test_what_holds_on_one_thread_holds_on_two() -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    folders = [f"tests/{name}" for name in ("cbp", "neurons", "packing", "products", "deploy")]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [*words, *folders], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
