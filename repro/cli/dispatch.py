"""Command line: ``python -m repro COMMAND --help`` says what a command takes.

Dispatch only; torch is imported by the commands that use it.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Final

from datamodules.errors import DataError
from repro.cli.campaign import command_campaign
from repro.cli.cells import command_cells
from repro.cli.packed import (
    command_c,
    command_costs,
    command_export,
    command_infer,
    command_inspect,
    command_models,
    command_nir,
    command_qonnx,
)
from repro.cli.quantise import command_quantise
from repro.cli.reproduce import command_reproduce
from repro.cli.run import command_run
from repro.cli.simulate import command_simulate
from repro.cli.sweep import command_sweep
from repro.cli.tables import (
    command_diff,
    command_report,
    command_tables,
    command_wandb_report,
)
from repro.cli.view import command_view
from repro.errors import UserError, one_line
from repro.interrupts import INTERRUPTED

COMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "run": command_run,
    "sweep": command_sweep,
    "reproduce": command_reproduce,
    "campaign": command_campaign,
    "tables": command_tables,
    "report": command_report,
    "wandb-report": command_wandb_report,
    "diff": command_diff,
    "export": command_export,
    "models": command_models,
    "inspect": command_inspect,
    "infer": command_infer,
    "costs": command_costs,
    "nir": command_nir,
    "qonnx": command_qonnx,
    "c": command_c,
    "quantise": command_quantise,
    "simulate": command_simulate,
    "view": command_view,
    "cells": command_cells,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 with one line on standard error for what a user can fix.

    As of other programs it is 130 after Ctrl-C, and 141, quietly, where nobody reads the output.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Read when torch is loaded. Idle OpenMP threads that spin take the cores from those that work:
    # on a busy two-core machine a step took 6 times longer with them.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    code, said = 0, ""
    try:
        code = run_command(words)
    except BrokenPipeError:  # unbuffered output shows it here already
        code = 141
    except (UserError, DataError, OSError) as error:
        code, said = 2, one_line(error)
    except BrokenExecutor as error:  # a process was killed, for want of memory, say
        code, said = 2, f"{one_line(error)}; the same command continues"
    except KeyboardInterrupt:
        code, said = 130, INTERRUPTED
    except SystemExit as stop:  # of --help, or Lightning's answer to Ctrl-C
        if stop.code and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        code, said = (130, INTERRUPTED) if stop.code else (0, "")
    try:
        print(end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left in it
        if said in ("", one_line(error)):
            if isinstance(error, BrokenPipeError):
                return 141
            code, said = 2, f"standard output cannot be written: {error.strerror}"
    if said:
        with contextlib.suppress(OSError):
            print(f"cbp-qsnn: {said}", file=sys.stderr)
    return code


def run_command(words: Sequence[str]) -> int:
    """Return the exit code of a command, or of the list of all."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: python -m repro COMMAND [OPTIONS]; COMMAND --help lists its options\n")
        for name, command in COMMANDS.items():
            print(f"  {name:12} {(command.__doc__ or '').splitlines()[0]}")
        return 0
    if words[0] not in COMMANDS:
        raise UserError(f"unknown command {words[0]}: one of {', '.join(COMMANDS)}")
    return COMMANDS[words[0]](words[1:])
