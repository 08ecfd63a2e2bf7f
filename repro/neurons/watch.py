"""Who wants to see the spikes of the neurons while a network runs; nobody, by default.

Neurons are functions, so a module's hooks do not reach them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

See = Callable[[Tensor, int], None]
_SEE: ContextVar[See | None] = ContextVar("see", default=None)


@contextmanager
def watching(see: See) -> Iterator[None]:
    """Call ``see(spikes, states)`` for every layer of neurons that runs in this block.

    Args:
        see: Gets the spikes ``[T, B, ...]``, which it must not change, and how many numbers a
            neuron keeps from step to step.
    """
    token = _SEE.set(see)
    try:
        yield
    finally:
        _SEE.reset(token)


def is_watched() -> bool:
    """Return whether someone wants to see spikes."""
    return _SEE.get() is not None


def fired(spikes: Tensor, states: int = 1) -> Tensor:
    """Return the spikes ``[T, B, ...]``, shown to whoever watches."""
    if (see := _SEE.get()) is not None:
        see(spikes.detach(), states)
    return spikes
