"""Command line: ``python -m repro COMMAND --help`` says what a command takes.

Dispatch only; torch is imported by the commands that use it.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from datamodules.errors import DataError
from repro.cli.campaign import command_campaign
from repro.cli.cells import command_cells
from repro.cli.packed import (
    command_costs,
    command_export,
    command_infer,
    command_inspect,
    command_nir,
)
from repro.cli.quantise import command_quantise
from repro.cli.reproduce import command_reproduce
from repro.cli.run import command_run
from repro.cli.simulate import command_simulate
from repro.cli.sweep import command_sweep
from repro.cli.tables import command_report, command_tables
from repro.errors import UserError

COMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "run": command_run,
    "sweep": command_sweep,
    "reproduce": command_reproduce,
    "campaign": command_campaign,
    "tables": command_tables,
    "report": command_report,
    "export": command_export,
    "inspect": command_inspect,
    "infer": command_infer,
    "costs": command_costs,
    "nir": command_nir,
    "quantise": command_quantise,
    "simulate": command_simulate,
    "cells": command_cells,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 with one line on standard error for what a user can fix."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Read when torch is loaded. Idle OpenMP threads that spin take the cores from those that work:
    # on a busy two-core machine a step took 6 times longer with them.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not words or words[0] in ("-h", "--help"):
        print("usage: python -m repro COMMAND [OPTIONS]; COMMAND --help lists its options\n")
        for name, command in COMMANDS.items():
            print(f"  {name:10} {(command.__doc__ or '').splitlines()[0]}")
        return 0
    try:
        if words[0] not in COMMANDS:
            raise UserError(f"unknown command {words[0]}: one of {', '.join(COMMANDS)}")
        return COMMANDS[words[0]](words[1:])
    except (UserError, DataError, OSError) as error:
        print(f"cbp-qsnn: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("cbp-qsnn: interrupted; the same command continues", file=sys.stderr)
        return 130
    return 2
