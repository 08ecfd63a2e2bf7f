"""``view``: what is in a recording of events."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from datamodules.catalogue import DATA_SETS
from repro.cli.parsing import DATA, parse
from repro.errors import UserError
from repro.table import Table


@dataclass(frozen=True)
class ViewArguments:
    """Say what is in a recording of events, or in one of every class of a data set, and draw it.

    Attributes:
        what: A recording (.npy, .bin of N-MNIST, .aedat of a DVS128, .aedat4, .dat), or the name of
            a data set.
        number: Of a data set: which recording of every class, from 0.
        steps: Frames over time.
        figure: PNG or SVG of the frames, or a GIF that moves.
    """

    what: Annotated[str, Positional]
    number: int = 0
    steps: int = 10
    figure: Annotated[Path | None, arg(metavar="FILE")] = None
    data_dir: Annotated[Path | None, DATA] = None

    def __post_init__(self) -> None:
        """Refuse what no recording has."""
        if self.number < 0 or self.steps < 1:
            raise UserError(f"number is {self.number}, steps is {self.steps}: give 0 and 1 or more")


def command_view(arguments: Sequence[str]) -> int:
    """Say in words what is in a recording, and draw it."""
    chosen = parse(ViewArguments, arguments)
    from datamodules.view import draw, require_picture, view_data_set, view_file

    if chosen.figure is not None:
        require_picture(chosen.figure)
    if chosen.what in DATA_SETS:
        title, viewed = view_data_set(chosen.what, chosen.number, chosen.data_dir)
    else:
        title, viewed = chosen.what, [view_file(Path(chosen.what))]
    words = [one.in_words(chosen.steps) for one in viewed]
    lines = [(one.name, *said.values()) for one, said in zip(viewed, words, strict=True)]
    table = Table(f"In {chosen.steps} frames", ("recording", *words[0]), tuple(lines))
    # A single one always on its side: a line for every word.
    width = shutil.get_terminal_size().columns if len(viewed) > 1 else 1
    print(f"{title}\n\n{table.to_terminal(width)}")
    if chosen.figure is not None:
        draw(viewed, chosen.steps, chosen.figure)
        print(f"Drawn in {chosen.figure}: orange where it grew brighter, blue where darker")
    return 0
