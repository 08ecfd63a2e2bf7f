"""What the Triton scans share: ``[T, N]`` views of memory, and how kernels are launched.

The kernels compute what the plain scans compute, operation by operation; a product and a sum are
never fused (`repro.device.triton_launch`), so that spikes are the same to the last bit. One program
works on a block of neurons, over all time steps. Potentials are float32, also where currents come
in 16 bits, and float64 for float64.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


def real_of(tensor: Tensor) -> torch.dtype:
    """Return the type that potentials have."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def triton_type(dtype: torch.dtype) -> Any:  # noqa: ANN401  (Triton ships no types)
    """Return Triton's name of float32 or float64."""
    return tl.float64 if dtype == torch.float64 else tl.float32


@triton.jit
def divide(a, b, REAL: tl.constexpr):  # noqa: ANN001, ANN201
    """Return the quotient, correctly rounded: Triton's own is not, in float32."""
    if tl.float32 == REAL:
        return tl.div_rn(a, b)
    else:
        return a / b


@triton.jit
def arctan_slope(distance, alpha, REAL: tl.constexpr):  # noqa: ANN001, ANN201
    """Return ``(alpha / 2) / (1 + (pi / 2 * alpha * distance)^2)``."""
    half_pi = tl.full((), 1.5707963267948966, REAL)
    scaled = half_pi * alpha * distance
    return divide(alpha / 2, 1 + scaled * scaled, REAL)


@triton.jit
def clamp(x, low, high):  # noqa: ANN001, ANN201
    """Return the nearest number from low to high; NaN stays, unlike in tl.clamp."""
    x = tl.where(x < low, low, x)
    return tl.where(x > high, high, x)
