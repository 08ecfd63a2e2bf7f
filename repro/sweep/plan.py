"""Which runs a sweep has, parents before children."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.errors import UserError
from repro.run_folder import RunFolder
from repro.sweep.sweep_file import SweepFile, expand


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        name: Its key, behind its folders in an ablation.
        words: What stands behind ``python -m repro`` to make it.
        recipe_hash: Hash of its recipe.
        place: Its run folder and row; two runs of a sweep never share one.
        parent: Those of the run it starts from; None if it starts from nothing.
        parent_command: Command that makes that run.
    """

    name: str
    words: tuple[str, ...]
    recipe_hash: str
    place: RunFolder
    parent: RunFolder | None = None
    parent_command: str = ""

    @property
    def command(self) -> str:
        """The command line, to be copied."""
        return shlex.join(["python", "-m", "repro", *self.words])

    @property
    def is_done(self) -> bool:
        """Whether weights and row are there and of this recipe; the run would do nothing."""
        return self.place.state(self.recipe_hash) == "done"


# Gives the run that the words behind ``python -m repro`` name, parsed as ``run`` does.
Resolve = Callable[[Sequence[str]], Run]


def plan(files: Iterable[SweepFile], settings: Mapping[str, str], resolve: Resolve) -> list[Run]:
    """Return the runs of all files, each once, parents before children, else in their order.

    Raises:
        UserError: A command does not parse, two runs need the same folder, or a parent is neither
            there nor in the files.
    """
    runs: dict[Path, Run] = {}
    for file in files:
        for words in expand(file, settings):
            try:
                run = resolve(words)
            except UserError as error:
                raise UserError(f"{file.path}: {error}") from error
            if runs.setdefault(run.place.path, run).recipe_hash != run.recipe_hash:
                raise UserError(
                    f"{file.path} has two recipes for {run.place.path}: add --ablation=NAME to its "
                    "command, which gives each recipe a folder"
                )
    for run in runs.values():
        if run.parent and run.parent.path not in runs and not run.parent.is_complete:
            raise UserError(
                f"{run.name} starts from {run.parent.path.name}, neither there nor in the sweep: "
                f"{run.parent_command}"
            )
    return sorted(runs.values(), key=lambda run: _generation(run, runs))


def _generation(run: Run, runs: Mapping[Path, Run]) -> int:
    """Return how many runs of the sweep this one starts from: 0, 1 or 2."""
    if run.parent is None or run.parent.path not in runs:
        return 0
    return 1 + _generation(runs[run.parent.path], runs)
