"""``python -m repro`` and ``cbp-qsnn``: a process of the command line."""

import os
import signal


def start() -> int:
    """Run the command that this process was given; return its exit code."""
    heeds = signal.getsignal(signal.SIGINT) != signal.SIG_IGN  # unlike in a shell's background
    if heeds:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # quiet
    from datamodules.processes import PARENT, end_with
    from repro.interrupts import end_or_raise

    if parent := os.environ.pop(PARENT, None):
        end_with(int(parent))
    if parent or heeds:
        signal.signal(signal.SIGINT, end_or_raise)
    try:
        from repro.cli import main

        return main()
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the interpreter's end would show tracebacks


if __name__ == "__main__":
    raise SystemExit(start())
