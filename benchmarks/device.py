"""Where a benchmark measures: waiting for the device, its memory, and what of its peak is used."""

import gc
import time
from collections.abc import Callable
from typing import Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from repro.errors import UserError

PEAK: Final = 790e12  # FLOP/s; bfloat16 products that an H100 was seen to reach


def device_named(name: str) -> torch.device:
    """Return ``cpu`` or ``cuda``.

    Raises:
        UserError: There is no GPU.
    """
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("torch sees no GPU here: leave --device out")
    return device


def wait(device: torch.device) -> None:
    """Return when all that was given to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def waiting(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """Return the call, made to wait for the device."""

    def whole() -> None:
        call()
        wait(device)

    return whole


def in_words(device: torch.device) -> str | None:
    """Return a GPU's name and CUDA's version; None for the CPU, which is named anyway."""
    if device.type != "cuda":
        return None
    return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"


def peak_on_gpu(call: Callable[[], object]) -> int:
    """Return the greatest number of bytes that tensors take on the GPU while the call runs."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def operations(call: Callable[[], object]) -> int:
    """Return the floating-point operations of a call's convolutions and matrix products."""
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return int(counter.get_total_flops())


def seconds_of_host(call: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Return the least seconds after which a call returns, its work on the device not awaited.

    Near the seconds of the whole step, the step is bound by launches, and CUDA graphs would pay.
    """
    found = []
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    wait(device)
    return min(found)


def reachable() -> float:
    """Return the FLOP/s of a large float32 matrix product on the CPU here, the best of some."""
    a, b = torch.randn(2, 1024, 1024)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * 1024**3 / (time.perf_counter() - start))
    return best
