"""Processes that end with the one that started them, also where that is killed."""

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Final

PARENT: Final = "CBP_PARENT_PROCESS"  # environment variable: id of the process to end with
_PR_SET_PDEATHSIG: Final = 1  # from Linux' prctl.h
_POLL: Final = 0.2  # s between two looks at the parent, elsewhere


def end_with(parent: int) -> None:
    """End this process when its parent has ended, however that was; at once if it has already.

    Linux does it by a signal, macOS shows it by another parent's id. On Windows nothing does.

    Args:
        parent: Id of the process that started this one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(1)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL)
    os._exit(1)


def prepare_worker(parent: int) -> None:
    """Make a process of a pool end with the one that started it, and leave Ctrl-C to that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
