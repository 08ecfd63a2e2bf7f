"""Kernels after a fork: threads that stayed in the parent are neither waited for nor missed."""

import os
import subprocess
import sys

import pytest
from paths import ROOT

# Prints how the child and the grandchild that compute what the parent computed have ended.
PROGRAM = """
import os, sys
import numba, torch
from repro.cbp import cpu
from repro.device import compiled
from repro.neurons import scan
from repro.neurons.stbp import StbpNeuron

torch.set_num_threads(1)

def computed():
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(5000, generator=random)
    levels = torch.linspace(-1, 1, 3)
    grad, multiplier = torch.zeros(5000), torch.rand(5000, generator=random)
    numbers = [x.numpy() for x in (grad, weight, multiplier, levels)]
    sums = cpu.add_slope(*numbers, 0.5, 1.0)
    current = torch.randn(4, 5000, generator=random, requires_grad=True)
    spikes = scan.stbp(current, 4, StbpNeuron(0.25))
    spikes.sum().backward()
    assert 0 < spikes.mean() < 1 and current.grad.any() and grad.any()
    return [torch.from_numpy(sums), grad, spikes.detach(), current.grad]

def end(generation):
    if "threads" in sys.argv:
        compiled._lost_threads = False
    same = all(map(torch.equal, before, computed()))
    code = fork(generation - 1) if same and generation > 1 else int(not same)
    os._exit(code)

def fork(generations):
    child = os.fork()
    if child == 0:
        end(generations)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

before = computed()
assert numba.threading_layer() and not compiled._lost_threads
print(fork(2), numba.threading_layer())
"""


def forked(*words: str) -> tuple[int, str]:
    """Return the exit code of the forked process, and what numba made threads with."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    code, layer = done.stdout.split()
    return int(code), layer


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system knows no fork")
def test_kernels_compute_the_same_in_forked_processes() -> None:
    assert forked()[0] == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
def test_on_threads_a_forked_process_would_be_ended() -> None:
    code, layer = forked("threads")
    assert code != 0 or layer != "omp"
