"""``simulate``: recordings of a simulated event camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from tyro.conf import Positional, arg

from datamodules.catalogue import DATA_SETS
from repro.cli.parsing import parse

SIMULATED: Final = tuple(name for name, found in DATA_SETS.items() if found.simulated)


@dataclass(frozen=True)
class SimulateArguments:
    """Make recordings of a simulated event camera, in the files that the real data sets have.

    Runs make what they need by themselves; this command shows it, or spreads it over processes.

    Attributes:
        data_dir: Data sets; by default the variable CBP_DATA, else data. The recordings go to a
            folder of that name there; CIFAR-10 is read there.
        recordings_per_class: Of images; by default as many as the data set is described with.
        jobs: Processes.
        figure: PNG or SVG to draw: frames of every class over time.
    """

    name: Annotated[str, Positional, arg(help=f"{', '.join(SIMULATED)}.")]
    data_dir: Path | None = None
    recordings_per_class: int | None = None
    jobs: int = 1
    figure: Path | None = None


def command_simulate(arguments: Sequence[str]) -> int:
    """Simulate a data set and say in words what came of it."""
    chosen = parse(SimulateArguments, arguments)
    from datamodules.simulation.simulate import simulate_in_words

    print(simulate_in_words(**vars(chosen)))
    return 0
