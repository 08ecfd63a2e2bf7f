"""numba's compiler with a cache where there is a place for one."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Return the function compiled, from the cache if it is there.

    Where neither the installation nor a cache of the user can be written, as in a container whose
    user has no home, it is compiled in every process.
    """
    compiler: Any = njit
    try:
        compiled: Function = compiler(cache=True)(function)
    except RuntimeError:  # no locator available
        compiled = compiler(function)
    return compiled
