"""The trace of a run: epochs of its ``metrics.csv`` and histograms, read from its folder."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.errors import reading
from repro.results.row import Row
from repro.run.latent_histograms import Latent, read_latent
from repro.run_folder import RunFolder

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


def read_trace(row: Row, *folders: Path) -> Trace:
    """Return what the run folder of a row holds; the first of the folders that has one counts.

    A folder whose epochs end otherwise than the row says holds another run, and is not used.
    """
    if row.key.is_conversion:
        return Trace(missing="n/a: a conversion trains no epochs")
    places = [RunFolder(folder / str(row.key)) for folder in folders]
    place = next((place for place in places if place.metrics.exists()), places[0])
    epochs = read_epochs(place.metrics)
    if not epochs:
        return Trace(missing=ABSENT)
    if len(epochs) != row.epochs_done or epochs[-1]["test_accuracy"] != row.accuracy_last:
        return Trace(missing=ANOTHER)
    latent = read_latent(place.path)
    whole = latent is not None and latent.epochs[-1] == len(epochs)
    return Trace(epochs, latent if whole else None)


def read_epochs(path: Path) -> Epochs:
    """Return the epochs of a ``metrics.csv``, none if it is absent or empty.

    Raises:
        UserError: The file is damaged.
    """
    if not path.exists():
        return ()
    with reading(path, "delete it, and the report is made without its curves", csv.Error):
        epochs = tuple(
            {name: float(line[name]) for name in METRICS if line.get(name) not in (None, "")}
            for line in csv.DictReader(path.read_text("utf-8").splitlines())
        )
        if not all({"epoch", "test_accuracy"} <= epoch.keys() for epoch in epochs):
            raise ValueError("epoch or test_accuracy is missing")
        if not all(math.isfinite(value) for epoch in epochs for value in epoch.values()):
            raise ValueError("it holds NaN or an infinity")
    return epochs
