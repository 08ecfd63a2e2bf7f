"""Below which rate of spikes products by events are faster than PyTorch's dense ones.

``python -m benchmarks.event_rates`` writes the table that layers choose by
(``repro/products/choice.py``). One thread, and its processor time, not the clock: other work on the
machine then changes little. Time by events grows with the rate along a line, which two rates give.
"""

import json
import sys
import time
from collections.abc import Callable
from itertools import product
from typing import Final

import numba
import torch
from torch import Tensor

from benchmarks.measure import environment
from repro.files import write_atomically
from repro.products.choice import OUTPUTS, TABLE, entry
from repro.products.dense import convolve, weight_gradient
from repro.products.dispatch import pack, sum_of_events, unpack, weight_gradient_of_events
from repro.products.geometry import Geometry
from repro.products.spikes import PackedSpikes, word_bits

IMAGES: Final = 40  # all time steps together
SIDES: Final = {16: 32, 32: 16, 64: 16, 128: 8, 256: 8, 512: 4}  # of maps, by outputs
LOW, HIGH = 0.05, 0.25
ROUNDS: Final = 6


def seconds(call: Callable[[], object]) -> float:
    """Return the least processor time of some calls, s."""
    call()
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def break_even(dense: float, low: float, high: float) -> float:
    """Return the rate at which a line through two rates' seconds reaches the dense seconds.

    >>> break_even(0.3, 0.1, 0.2)
    0.45
    """
    slope = (high - low) / (HIGH - LOW)
    if slope <= 0:
        return 1.0 if low < dense else 0.0
    return round(min(1.0, max(0.0, LOW + (dense - low) / slope)), 3)


def measure(side: int, stride: int, outputs: int) -> dict[str, float]:
    """Return the break-even rate by product for a kernel and as many channels as outputs."""
    geometry = Geometry((side, side), (stride, stride), (side // 2, side // 2))
    maps = SIDES[outputs] if side > 1 else 1
    images = IMAGES if side > 1 else 10 * IMAGES
    weight = torch.randn(outputs, outputs, side, side).contiguous(memory_format=torch.channels_last)
    shape = tuple(weight.shape)
    times: dict[float, tuple[float, float]] = {}
    for rate in (LOW, HIGH):
        spikes = (torch.rand(images, outputs, maps, maps) < rate).float()
        numbers = spikes.contiguous(memory_format=torch.channels_last)
        packed = packed_of(numbers, word_bits(outputs, side * side))
        grad = torch.randn_like(convolve(numbers, weight, None, geometry))
        times[rate] = (
            seconds(lambda packed=packed: sum_of_events(packed, weight, geometry, None)),  # type: ignore[misc]
            seconds(
                lambda packed=packed, grad=grad: weight_gradient_of_events(  # type: ignore[misc]
                    grad, packed, geometry, shape
                )
            ),
        )
    dense = (
        seconds(lambda: convolve(numbers, weight, None, geometry)),
        seconds(lambda: dense_gradient(grad, packed, geometry, shape)),
    )
    names = ("forward", "weight gradient")
    return {n: break_even(dense[i], times[LOW][i], times[HIGH][i]) for i, n in enumerate(names)}


def packed_of(numbers: Tensor, bits: int) -> PackedSpikes:
    """Return spikes as bits in words of so many."""
    packed = pack(numbers, 1, bits)
    assert packed is not None
    return packed


def dense_gradient(
    grad: Tensor, packed: PackedSpikes, geometry: Geometry, shape: tuple[int, ...]
) -> Tensor:
    """Return the gradient as a layer that chooses dense computes it: bits are unpacked first."""
    return weight_gradient(grad, unpack(packed, grad.dtype), geometry, shape)


def main() -> int:
    """Measure all entries and write the table."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    table: dict[str, dict[str, float]] = {"forward": {}, "weight gradient": {}}
    for side, stride, outputs in product((1, 3), (1, 2), OUTPUTS):
        name = entry(Geometry((side, side), (stride, stride)), outputs)
        if (side, stride) == (1, 2):
            for which in table.values():
                which[name] = which[name.replace("stride 2", "stride 1")]
            continue
        for kind, rate in measure(side, stride, outputs).items():
            table[kind][name] = rate
            print(f"{name}, {kind}: events below {rate}", flush=True)
    result = {"environment": environment(), "rates": table}
    write_atomically(TABLE, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
