"""Freed memory is kept: steps after the first take hardly any page faults, else all of them."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from repro.device.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(megabytes << 18) for megabytes in (64, 40, 64, 48)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(sum([faults() for _ in range(12)][-4:]))
"""
PAGES = 4 * ((64 + 40 + 64 + 48) << 20) // 4096  # of four steps


def faults_of_four_steps(word: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, word], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again() -> None:
    kept, given_back = faults_of_four_steps("keep"), faults_of_four_steps("leave")
    assert given_back > PAGES / 10  # huge pages would take fewer than one each
    assert kept < given_back / 2
