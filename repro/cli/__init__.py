"""The command line: a file per command group, and `main`."""

from repro.cli.dispatch import main

__all__ = ["main"]
