"""TODO."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending_like_ctrl_c() -> Iterator[None]:
    """Take a request to end, or a closed terminal, like Ctrl-C: runs under way are stopped.

    The first request counts: a cluster's scheduler sends one to every process of a job, and an
    agent passes its own on, while this process ends already.
    """
    numbers = (signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: object) -> None:
        for heard in numbers:
            signal.signal(heard, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = {number: signal.getsignal(number) for number in numbers}
    for number, handler in previous.items():
        if handler != signal.SIG_IGN:  # nohup ignores a closed terminal
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
