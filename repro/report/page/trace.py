"""The trace of a run: epochs of its ``metrics.csv`` and histograms, read from its folder."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.errors import UserError
from repro.results.row import Row
from repro.run.latent_histograms import Latent, read_latent

METRICS: Final = (
    *("epoch", "train_loss", "val_accuracy", "test_accuracy", "lr", "lagrangian", "cfs", "g"),
    "ascended",
)
ABSENT: Final = "no run folder here: its epochs are not on this machine"
ANOTHER: Final = "no run folder here: the one of this name holds another run than the row"
Epochs = tuple[dict[str, float], ...]


@dataclass(frozen=True)
class Trace:
    """What is here of a run beside its row.

    Attributes:
        epochs: Figures of every epoch by the names of `METRICS`, as far as they are known.
        latent: Histograms of latent weights, if they were recorded.
        missing: Why there are no epochs, or empty.
    """

    epochs: Epochs = ()
    latent: Latent | None = None
    missing: str = ""


def read_trace(row: Row, runs: Path) -> Trace:
    """Return what the run folder of a row holds.

    A folder whose epochs end otherwise than the row says holds another run, and is not used.
    """
    folder = runs / str(row.key)
    if row.key.is_conversion:
        return Trace(missing="n/a: a conversion trains no epochs")
    epochs = read_epochs(folder / "metrics.csv")
    if not epochs:
        return Trace(missing=ABSENT)
    if len(epochs) != row.epochs_done or epochs[-1]["test_accuracy"] != row.accuracy_last:
        return Trace(missing=ANOTHER)
    latent = read_latent(folder)
    whole = latent is not None and latent.epochs[-1] == len(epochs)
    return Trace(epochs, latent if whole else None)


def read_epochs(path: Path) -> Epochs:
    """Return the epochs of a ``metrics.csv``, none if it is absent or empty.

    Raises:
        UserError: The file is damaged.
    """
    try:
        lines = list(csv.DictReader(path.read_text("utf-8").splitlines()))
        epochs = tuple(
            {name: float(line[name]) for name in METRICS if line.get(name) not in (None, "")}
            for line in lines
        )
        if not all({"epoch", "test_accuracy"} <= epoch.keys() for epoch in epochs):
            raise ValueError("epoch or test_accuracy is missing")
    except FileNotFoundError:
        return ()
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it, and the report is made without its curves"
        ) from error
    return epochs
