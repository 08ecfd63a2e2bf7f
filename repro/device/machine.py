"""The device that computes: its name, its clock, its memory."""

import platform
import sys
import time
from pathlib import Path
from typing import Final

import torch


def device_time() -> float:
    """Return the monotonic time, s, when all that was given to the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def evaluation_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


STATUS: Final = Path("/proc/self/status")


def peak_resident() -> int:
    """Return the greatest resident set of this process so far, in bytes; 0 on Windows."""
    if STATUS.exists():  # ru_maxrss of a child starts with its parent's on Linux
        line = next(x for x in STATUS.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024  # the kernel gives KiB
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_in_words(devices: int) -> str:
    """Return the device that Lightning chose, by name, and how many of it."""
    if torch.cuda.is_available():
        several = f"{devices} x " if devices > 1 else ""
        return f"{several}{torch.cuda.get_device_name()}"
    several = f"{devices} processes of " if devices > 1 else ""
    return f"CPU {platform.machine()}, {several}{torch.get_num_threads()} threads"
