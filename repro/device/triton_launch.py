"""How Triton kernels are launched: a program works on `BLOCK` elements, nothing is fused."""

from functools import partial
from typing import Any, Final

import triton

BLOCK: Final = 1024  # elements of a program
LAUNCH: Final[dict[str, Any]] = {"num_warps": 4, "enable_fp_fusion": False}


def programs(elements: int) -> int:
    """Return how many programs so many elements take."""
    return int(triton.cdiv(elements, BLOCK))


def on_grid(kernel: Any, elements: int) -> Any:  # noqa: ANN401  (Triton ships no types)
    """Return a kernel that, when called with its other arguments, runs on so many elements."""
    return partial(kernel[(programs(elements),)], BLOCK=BLOCK, **LAUNCH)
