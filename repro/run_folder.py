"""What lies in a run folder, who holds it, and the one answer to whether its run is done."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock, Timeout

from repro.errors import UserError

# So long, in seconds, what was killed may take to let go of its folder, its children included.
RELEASE: Final = 10.0

State = Literal["nothing", "row", "done", "other recipe"]


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, and the file of its row.

    Attributes:
        path: The folder.
        row: File of the row; somewhere else, so that rows can be kept alone.
    """

    path: Path
    row: Path = Path()

    @classmethod
    def of(cls, name: object, runs: Path, rows: Path) -> "RunFolder":
        """Return the place of a run by its name.

        Args:
            name: Name of the run, or its key.
            runs: Folder of run folders.
            rows: Folder of rows.
        """
        return cls(runs / str(name), rows / f"{name}.json")

    @property
    def config(self) -> Path:
        """What the run was started with."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """Figures of every finished epoch."""
        return self.path / "metrics.csv"

    @property
    def histograms(self) -> Path:
        """Histograms of the latent weights."""
        return self.path / "latent.csv"

    @property
    def products(self) -> Path:
        """How often each layer's products were dense or by events, in the last process."""
        return self.path / "products.json"

    @property
    def checkpoint(self) -> Path:
        """State after the last finished epoch."""
        return self.path / "last.ckpt"

    @property
    def model(self) -> Path:
        """Packed file of the run; there once it is trained."""
        return self.path / "model.safetensors"

    def selected(self, epoch: float) -> Path:
        """Weights after an epoch, from 0: each has a name of its own, so that none is mistaken."""
        return self.path / f"selected-{epoch:.0f}.safetensors"

    @property
    def failure(self) -> Path:
        """Why the run cannot be made."""
        return self.path / "failed.json"

    @property
    def log(self) -> Path:
        """What the run's process printed."""
        return self.path / "log.txt"

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        if not self.metrics.is_file():
            return 0
        return max(0, len(self.metrics.read_text("utf-8").splitlines()) - 1)

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
            same = json.loads(self.row.read_text("utf-8"))["recipe_hash"] == recipe_hash
        except (ValueError, KeyError, TypeError):
            same = False  # whoever reads the row says in one line what is wrong with it
        if not self.model.exists():
            return "row" if same else "nothing"
        return "done" if same else "other recipe"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process alone; clear what a killed one left unfinished.

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
            for unfinished in self.path.glob(".*.tmp"):
                unfinished.unlink(missing_ok=True)
            yield
        finally:
            lock.release()
