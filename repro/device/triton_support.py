"""Whether Triton kernels can work on a tensor; where they cannot, plain PyTorch does."""

import functools
import os
import warnings
from importlib.util import find_spec
from typing import Final

import torch
from torch import Tensor

SWITCH: Final = "CBP_TRITON"  # environment variable; 0 leaves everything to plain PyTorch


def takes_triton(tensor: Tensor) -> bool:
    """Return whether Triton kernels are used for a tensor: it is on a GPU where they compile."""
    return tensor.device.type == "cuda" and _compiles(tensor.device)


@functools.cache
def _compiles(device: torch.device) -> bool:
    """Return whether Triton is there and can compile a kernel, which takes a C compiler, too.

    What keeps it from that is said once; runs continue without, slower.
    """
    if os.environ.get(SWITCH) == "0" or find_spec("triton") is None:
        return False
    from repro.device import triton_probe

    try:
        triton_probe.run(device)
    except Exception as error:  # compilers fail in every way; all mean the same
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        warnings.warn(
            f"Triton does not compile here, plain PyTorch is used: {reason}", stacklevel=2
        )
        return False
    return True
