"""Harness of the benchmarks: interleaved times, paired ratios, peak memory, environment.

Times are taken side by side in one process, because a machine's speed drifts; memory is taken in a
process of its own for each candidate, because a high-water mark never falls.
"""

import contextlib
import gc
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from repro.errors import UserError
from repro.provenance import git_state

STATUS: Final = Path("/proc/self/status")
CPU_FLAGS: Final = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16")
ALLOCATORS: Final = ("jemalloc", "tcmalloc", "mimalloc")
MALLOC_SETTINGS: Final = ("MALLOC_", "GLIBC_TUNABLES", "TCMALLOC_", "MIMALLOC_", "_RJEM_MALLOC")


class Ratio(NamedTuple):
    """Ratios of two candidates, one per round."""

    median: float
    low: float
    high: float


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    repeats: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of every call, by candidate; entry ``i`` is of round ``i``.

    A round calls every candidate once; the order rotates by one from round to round, so that none
    always follows the same neighbour. Garbage is collected before each call, outside its time. A
    candidate that works on a GPU must wait for it itself.

    Args:
        candidates: Name and function, at least one.
        repeats: Rounds that count, 1 and up.
        warmup: Rounds before them that do not.
        clock: Seconds so far, of wall time; ``time.process_time`` for those of the processor, all
            threads together, which other work on the machine changes less.

    Raises:
        UserError: Nothing to measure.
    """
    if not candidates or repeats < 1 or warmup < 0:
        raise UserError(
            f"{len(candidates)} candidates, {repeats} repeats and {warmup} warm-up rounds measure "
            "nothing: give at least 1, 1 and 0"
        )
    names = list(candidates)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            start = clock()
            candidates[name]()
            elapsed = clock() - start
            if turn >= warmup:
                seconds[name].append(elapsed)
    return seconds


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Return median, least and greatest ``a[i] / b[i]`` over the rounds.

    Args:
        a: Seconds by round, of the slower one if the ratio is to read as a speed-up.
        b: Seconds of the same rounds.

    Raises:
        UserError: No rounds, or not the same number of them.

    >>> paired_ratio([2.0, 6.0, 9.0], [1.0, 2.0, 2.0])
    Ratio(median=3.0, low=2.0, high=4.5)
    """
    if not a or len(a) != len(b):
        raise UserError(f"{len(a)} and {len(b)} rounds make no pairs: measure both in one call")
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def peak_memory(target: str, kwargs: Mapping[str, object] | None = None) -> int:
    """Return the bytes by which a call lifts the peak resident set of a fresh process.

    The process imports the target's module, reads its high-water mark of resident memory (VmHWM),
    calls the target once, and reads the mark again; the result is the difference. So counted is
    all that the call makes resident at once: tensors, allocator slack, library buffers, and
    libraries first loaded by the call. Not counted are the imports and GPU memory. ``ru_maxrss``
    would not do: a child starts with its parent's.

    Args:
        target: ``module:function``, importable from the present ``sys.path``.
        kwargs: Its keyword arguments; they must survive JSON.

    Raises:
        UserError: Not Linux, a target that is not there, or a target that failed.
    """
    if not STATUS.exists():
        raise UserError(f"no {STATUS} on {sys.platform}: measure peak memory on Linux")
    command = [sys.executable, "-m", __spec__.name, target, json.dumps(dict(kwargs or {}))]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else "no message"
        if done.returncode < 0:
            reason = f"killed by signal {-done.returncode}; 9 mostly means out of memory"
        raise UserError(f"{target} failed in its own process: {reason}")
    return int(done.stdout)


def high_water_mark() -> int:
    """Return the greatest resident set of this process so far, in bytes."""
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024  # the kernel gives KiB


def growth_of_call(target: str, kwargs: Mapping[str, object]) -> int:
    """Return the growth of this process's high-water mark in bytes; see ``peak_memory``."""
    module_name, _, function_name = target.partition(":")
    if not function_name:
        raise UserError(f"{target} names no function: write module:function")
    function = getattr(importlib.import_module(module_name), function_name)
    before = high_water_mark()
    function(**kwargs)
    return high_water_mark() - before


def environment() -> dict[str, object]:
    """Return what the numbers depend on, ready for JSON.

    Keys: ``cpu`` (model name), ``flags`` (those of ``CPU_FLAGS`` it has), ``cores`` (that this
    process may use), ``memory_bytes``, ``threads`` (PyTorch's), ``torch``, ``python``, ``malloc``
    (library and its settings in the environment variables), ``commit`` and ``dirty`` of the tree.
    """
    import torch

    cpu = _cpu_info()
    return {
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "flags": [flag for flag in CPU_FLAGS if flag in cpu.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "malloc": _malloc(),
        **dict(zip(("commit", "dirty"), git_state(Path(__file__).parents[1]), strict=True)),
    }


def _cpu_info() -> dict[str, str]:
    """Return the kernel's description of the first CPU; empty where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n", maxsplit=1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _malloc() -> str:
    """Return the allocator in use, ``glibc 2.36`` for example, and its settings."""
    maps = Path("/proc/self/maps")
    mapped = maps.read_text() if maps.exists() else ""
    library = next((name for name in ALLOCATORS if f"lib{name}" in mapped), None)
    settings = [
        f"{key}={value}"
        for key, value in sorted(os.environ.items())
        if key.startswith(MALLOC_SETTINGS)
    ]
    return " ".join([library or " ".join(platform.libc_ver()), *settings])


def _child() -> None:
    """Print the growth for ``peak_memory``; what the target prints goes to standard error."""
    target, kwargs = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        growth = growth_of_call(target, json.loads(kwargs))
    print(growth)


if __name__ == "__main__":
    _child()
