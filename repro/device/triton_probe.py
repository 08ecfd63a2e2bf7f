"""The smallest Triton kernel: it shows whether kernels compile and run on a device."""

import torch
import triton
import triton.language as tl

SIZE = 16


@triton.jit
def _count(numbers, SIZE: tl.constexpr):  # noqa: ANN001, ANN202
    at = tl.arange(0, SIZE)
    tl.store(numbers + at, at)


def run(device: torch.device) -> None:
    """Compile the kernel and run it.

    Raises:
        RuntimeError: It did not count; whatever the compiler raises where it fails.
    """
    numbers = torch.zeros(SIZE, dtype=torch.int32, device=device)
    _count[(1,)](numbers, SIZE=SIZE)
    if numbers.tolist() != list(range(SIZE)):
        raise RuntimeError(f"a kernel that counts to {SIZE} gave {numbers.tolist()}")
