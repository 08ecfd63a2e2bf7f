"""Whether a tensor fills its memory without gaps."""

from collections.abc import Sequence

from torch import Tensor


def is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor fills its memory without gaps or overlaps, in any order of axes."""
    return _is_dense(tensor.shape, tensor.stride())


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Return whether the strides fill one block of memory, each element once."""
    expected = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True
