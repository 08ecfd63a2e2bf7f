"""Level indices of 1 to 8 bits, packed densely, on the CPU: to values, back, and their maximum.

Bit ``j`` of index ``k`` is bit ``k * bits + j`` of the stream, lowest bit of a byte first
(``docs/packed_format.md``). One pass over memory, all threads.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from repro.device.compiled import kernel

CHUNK = 1 << 14  # indices a thread works on at a time; a multiple of 8, so chunks meet at bytes

Array = npt.NDArray[Any]


@kernel(inline="always")
def _index(codes: Array, bits: int, k: int) -> Any:  # noqa: ANN401
    """Return index ``k``; it may lie across two bytes."""
    bit = k * bits
    index = codes[bit >> 3] >> (bit & 7)
    if (bit & 7) + bits > 8:
        index |= codes[(bit >> 3) + 1] << (8 - (bit & 7))
    return index & ((1 << bits) - 1)


@kernel(parallel=True)
def decode(codes: Array, bits: int, values: Array, out: Array) -> None:
    """Fill ``out`` ``[N]`` with ``values[index]``; every index must be below ``len(values)``.

    Args:
        codes: uint8, ``[(N * bits + 7) // 8]``.
        bits: Bits an index, 1 to 8.
        values: ``[L]``, of the type of ``out``.
        out: Filled.
    """
    n = out.size
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        for k in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n)):
            out[k] = values[_index(codes, bits, k)]


@kernel(parallel=True)
def encode(indices: Array, bits: int, codes: Array) -> None:
    """Fill ``codes`` from ``indices`` ``[N]``, uint8 and below ``2 ** bits``."""
    n = indices.size
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        here = slice(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n))
        codes[here.start * bits // 8 : (here.stop * bits + 7) // 8] = 0
        for k in range(here.start, here.stop):
            bit = k * bits
            codes[bit >> 3] |= np.uint8((indices[k] << (bit & 7)) & 255)
            if (bit & 7) + bits > 8:
                codes[(bit >> 3) + 1] |= np.uint8(indices[k] >> (8 - (bit & 7)))


@kernel(parallel=True)
def greatest(codes: Array, bits: int, n: int) -> int:
    """Return the greatest of the first ``n`` indices, -1 if there is none."""
    chunks = (n + CHUNK - 1) // CHUNK
    found = np.full(chunks, -1, np.int64)
    for chunk in prange(chunks):
        for k in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, n)):
            found[chunk] = max(found[chunk], np.int64(_index(codes, bits, k)))
    return -1 if chunks == 0 else found.max()
