"""What lies in a run folder, who holds it, and the one answer to whether its run is done."""

import glob
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock, Timeout

from repro.errors import UserError
from repro.files import clear_unfinished

# So long, in seconds, what was killed may take to let go of its folder, its children included.
RELEASE: Final = 10.0

State = Literal["nothing", "row", "done", "other recipe"]


class _File:
    """A path in a run folder."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, place: "RunFolder", kind: type) -> Path:
        return place.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, and the file of its row.

    Attributes:
        path: The folder.
        row: File of the row; somewhere else, so that rows can be kept alone.
    """

    path: Path
    row: Path = Path()

    config = _File("config.json")  # what the run was started with
    metrics = _File("metrics.csv")  # figures of every finished epoch
    histograms = _File("latent.csv")  # of the latent weights
    products = _File("products.json")  # how often products were dense or by events, last process
    checkpoint = _File("last.ckpt")  # state after the last finished epoch
    model = _File("model.safetensors")  # packed file of the run; there once it is trained
    failure = _File("failed.json")  # why the run cannot be made
    log = _File("log.txt")  # what the run's process printed

    @classmethod
    def of(cls, name: object, runs: Path, rows: Path) -> "RunFolder":
        """Return the place of a run by its name.

        Args:
            name: Name of the run, or its key.
            runs: Folder of run folders.
            rows: Folder of rows.
        """
        return cls(runs / str(name), rows / f"{name}.json")

    def selected(self, epoch: float) -> Path:
        """Weights after an epoch, from 0: each has a name of its own, so that none is mistaken."""
        return self.path / f"selected-{epoch:.0f}.safetensors"

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        if not self.metrics.is_file():
            return 0
        return max(0, len(self.metrics.read_bytes().splitlines()) - 1)

    @property
    def is_complete(self) -> bool:
        """Whether weights and row are there, whichever recipe made them."""
        return self.row.is_file() and self.model.exists()

    def state(self, recipe_hash: str) -> State:
        """Return how far the run of this recipe is.

        ``done`` with weights and row. ``row`` with the row alone, as in a fresh clone: the tables
        have it, children cannot start from it. ``other recipe`` where the row, with weights, is of
        another recipe or damaged.
        """
        if not self.row.is_file():
            return "nothing"
        try:
            same = json.loads(self.row.read_bytes())["recipe_hash"] == recipe_hash
        except (ValueError, KeyError, TypeError, RecursionError):
            same = False  # whoever reads the row says in one line what is wrong with it
        if not self.model.exists():
            return "row" if same else "nothing"
        return "done" if same else "other recipe"

    @contextmanager
    def locked(self, *outside: Path) -> Iterator[None]:
        """Hold the folder for this process alone; clear what a killed one left unfinished.

        Args:
            outside: Files elsewhere, beside the row, that only the holder writes.

        Raises:
            UserError: Another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=RELEASE)
        except Timeout:
            raise UserError(
                f"{self.path} is in use by another process: wait for it, or choose another --runs"
            ) from None
        try:
            clear_unfinished(self.path)
            for file in (self.row, *outside):
                clear_unfinished(file.parent, glob.escape(file.name))
            yield
        finally:
            lock.release()
