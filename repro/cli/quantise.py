"""``quantise``: CBP on a network of the user's own."""

import shutil
from collections.abc import Sequence

from repro.cli.parsing import parse
from repro.quantise.arguments import QuantiseArguments


def command_quantise(arguments: Sequence[str]) -> int:
    """Quantise a user's own network and say in words what came of it."""
    chosen = parse(QuantiseArguments, arguments)
    from repro.interrupts import ending_like_ctrl_c
    from repro.quantise.job import quantise
    from repro.run.training import quiet_lightning

    quiet_lightning()
    with ending_like_ctrl_c():
        print(quantise(chosen, shutil.get_terminal_size((100, 24)).columns))
    return 0
