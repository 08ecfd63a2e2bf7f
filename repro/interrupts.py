"""What Ctrl-C, a request to end and a closed terminal do."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

INTERRUPTED: Final = "interrupted; the same command continues"
# What asks a process to end; Windows knows no closed terminal.
_REQUESTS: Final = ("SIGTERM", "SIGHUP")


def end_or_raise(number: int, frame: FrameType | None) -> None:
    """End this process where it imports, else raise KeyboardInterrupt.

    torch and others swallow exceptions in their imports, which take seconds, and continue.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, f"cbp-qsnn: {INTERRUPTED}\n".encode())
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


@contextmanager
def ending_like_ctrl_c() -> Iterator[None]:
    """Take a request to end, or a closed terminal, like Ctrl-C: runs under way are stopped.

    The first request counts: a cluster's scheduler sends one to every process of a job, and an
    agent passes its own on, while this process ends already.
    """
    numbers = [getattr(signal, name) for name in _REQUESTS if hasattr(signal, name)]

    def interrupt(number: int, frame: FrameType | None) -> None:
        for heard in numbers:
            signal.signal(heard, signal.SIG_IGN)
        raise KeyboardInterrupt

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        **dict.fromkeys(numbers, interrupt),
        signal.SIGINT: signal.default_int_handler,  # what is under way is stopped, imports or not
    }
    previous = {number: signal.getsignal(number) for number in handlers}
    for number, handler in previous.items():
        if handler != signal.SIG_IGN:  # nohup ignores a closed terminal
            signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
