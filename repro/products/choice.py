"""Dense or by events: a table of measured rates, read by every layer; no clock is looked at.

``python -m benchmarks.event_rates`` writes ``event_rates.json``: for kernels of one place and of
3x3, stride 1 and 2, and numbers of outputs, the greatest rate of spikes at which touching spikes
alone took less time than PyTorch's dense product. A layer takes the entry of its kernel that is
nearest, and of as many outputs as it has or the next smaller number. So the choice follows from
shape and input, and a resumed run makes the same.
"""

import functools
import json
from pathlib import Path
from typing import Final, Literal

from repro.products.geometry import Geometry

Product = Literal["forward", "weight gradient"]
Way = Literal["dense", "events"]
TABLE: Final = Path(__file__).with_name("event_rates.json")
OUTPUTS: Final = (16, 32, 64, 128, 256, 512)


def choose(product: Product, geometry: Geometry, outputs: int, rate: float) -> Way:
    """Return how a product of spikes and real-valued numbers is computed on the CPU.

    Args:
        product: Which.
        geometry: How the kernel walks.
        outputs: O.
        rate: Spikes by number of the input.
    """
    known = max((size for size in OUTPUTS if size <= outputs), default=OUTPUTS[0])
    return "events" if rate < rates()[product][entry(geometry, known)] else "dense"


def entry(geometry: Geometry, outputs: int) -> str:
    """Return the name of an entry of the table.

    >>> entry(Geometry((3, 3), (2, 2)), 64)
    '3x3, stride 2, 64 outputs'
    """
    side = 1 if geometry.kernel == (1, 1) else 3
    return f"{side}x{side}, stride {min(2, max(geometry.stride))}, {outputs} outputs"


@functools.cache
def rates() -> dict[str, dict[str, float]]:
    """Return the table: product -> entry -> rate below which events are faster, 0 to 1."""
    table: dict[str, dict[str, float]] = json.loads(TABLE.read_text("utf-8"))["rates"]
    return table
