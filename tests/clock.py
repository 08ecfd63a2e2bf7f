"""A clock that only moves when told: tests of what is timed, as fast or slow as the machine is."""

from collections.abc import Callable
from itertools import repeat
from time import sleep

PATIENCE = 300  # s: what a test waits for at most, however loaded the machine


class Clock:
    """Stands in for the module ``time`` where a module reads the clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait_for(there: Callable[[], bool], what: str) -> None:
    """Wait until something has happened."""
    for _ in repeat(None, 20 * PATIENCE):
        if there():
            return
        sleep(0.05)
    raise AssertionError(f"waited in vain until {what}")
