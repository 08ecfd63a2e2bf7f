"""How latent weights gather at the levels: a histogram per quantised layer and epoch.

A weight is counted relative to the scale of its layer, so that levels lie at -1, 0 and 1 whatever
the layer. Those of all level sets are at the middle of a bin.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from repro.cbp.layers import prepared_layers
from repro.errors import reading
from repro.files import write_atomically
from repro.run_folder import RunFolder
from repro.tracking.logger import Logger, log_histograms

REACH: Final = 3  # bins reach from -3 to 3 scales
PER_SCALE: Final = 16  # bins
BINS: Final = 2 * REACH * PER_SCALE + 1
EDGE: Final = REACH + 0.5 / PER_SCALE  # outer edge of the outermost bins
CHUNK: Final = 1 << 22  # weights at a time; a float32 counts whole numbers to 2^24
CENTRES: Final = tuple((index - REACH * PER_SCALE) / PER_SCALE for index in range(BINS))
CSV_COLUMNS: Final = ("epoch", "layer", "weights", *(f"{centre:g}" for centre in CENTRES))


def histogram(weight: Tensor, scale: Tensor) -> Tensor:
    """Return how many weights lie in each bin of ``weight / scale``, ``[BINS]`` int64 on the CPU.

    Bins are ``1 / PER_SCALE`` wide, their centres `CENTRES`; a weight beyond the outermost is in
    none, so the sum may be less than the number of weights.

    Args:
        weight: Latent weights, any shape.
        scale: Scale a of their layer, above 0; or ``[C]``, one for each output channel.

    >>> counts = histogram(torch.tensor([0.5, 0.5, -0.5, 9.0]), torch.tensor(0.5))
    >>> {CENTRES[index]: int(counts[index]) for index in counts.nonzero().flatten()}
    {-1.0: 1, 1.0: 2}
    """
    weight, edge = weight.detach(), EDGE
    if scale.dim():
        weight = weight / scale.reshape(-1, *[1] * (weight.dim() - 1))
    else:
        edge *= float(scale)
    counts = torch.zeros(BINS, dtype=torch.int64)
    for part in torch.split(weight.flatten(), CHUNK):
        counts += torch.histc(part.float(), BINS, -edge, edge).cpu().long()
    return counts


class LatentHistograms(Callback):
    """Record histograms before the first epoch and after each; place it behind ``Cbp``.

    They are in the checkpoint, so that a resumed run continues the same table; one that an older
    version of this code began has none of the epochs before.

    Attributes:
        epochs: Which epochs were recorded: 0 before the first one, then from 1.
        counts: Histograms ``[layers, BINS]`` int64 of each.
    """

    def __init__(self, file: Path, told: Logger = False) -> None:
        """Keep the CSV file to write, and the W&B logger that is told as well, if any."""
        self.file = file
        self.told = told
        self.epochs: list[int] = []
        self.counts: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the pre-trained weights."""
        if not self.epochs and trainer.current_epoch == 0:
            self._record(0, trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the epoch; of several processes all do, and the first one writes."""
        self._record(trainer.current_epoch + 1, trainer, pl_module)

    def _record(self, epoch: int, trainer: Trainer, module: LightningModule) -> None:
        layers = prepared_layers(module)
        if not layers:
            return
        found = [histogram(latent, q.scale) for latent, q in layers.values()]
        self.epochs.append(epoch)
        self.counts.append(torch.stack(found))
        if trainer.is_global_zero:
            names = [name.removeprefix("network.") for name in layers]
            sizes = [latent.numel() for latent, _ in layers.values()]
            write_atomically(self.file, self._table(names, sizes))
            log_histograms(self.told, dict(zip(names, self.counts[-1].tolist(), strict=True)), EDGE)

    def _table(self, names: Sequence[str], sizes: Sequence[int]) -> str:
        """Return everything recorded as CSV: one line per epoch and layer."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for epoch, counts in zip(self.epochs, self.counts, strict=True):
            for name, size, found in zip(names, sizes, counts.tolist(), strict=True):
                writer.writerow([epoch, name, size, *found])
        return text.getvalue()

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs and their histograms ``[epochs, layers, BINS]``."""
        return {"epochs": self.epochs, "counts": torch.stack(self.counts)} if self.counts else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the table of a checkpoint."""
        self.epochs = list(state_dict.get("epochs", ()))
        self.counts = list(state_dict.get("counts", ()))


@dataclass(frozen=True)
class Latent:
    """Histograms of a run.

    Attributes:
        epochs: 0 before the first one, then from 1; ascending.
        layers: Quantised layers by name.
        weights: Weights of each.
        counts: ``[epochs, layers, BINS]`` int64, see `histogram`.
    """

    epochs: tuple[int, ...]
    layers: tuple[str, ...]
    weights: tuple[int, ...]
    counts: Tensor


def read_latent(folder: Path) -> Latent | None:
    """Return the histograms of a run folder, or None where there are none.

    Raises:
        UserError: The file is damaged.
    """
    path = RunFolder(folder).histograms
    if not path.exists():
        return None
    wrong = (csv.Error, IndexError, RuntimeError, TypeError)
    with reading(path, "delete it, and the report is made without its histograms", *wrong):
        header, *lines = csv.reader(path.read_text("utf-8").splitlines())
        if tuple(header) != CSV_COLUMNS:
            raise ValueError("other columns than expected")
        numbers = [[int(epoch), int(size), *map(int, found)] for epoch, _, size, *found in lines]
        epochs = tuple(dict.fromkeys(line[0] for line in numbers))
        sizes = {line[1]: number[1] for line, number in zip(lines, numbers, strict=True)}
        counts = torch.tensor([line[2:] for line in numbers], dtype=torch.int64)
        shaped = counts.reshape(len(epochs), len(sizes), BINS)
        if [line[1] for line in lines] != list(sizes) * len(epochs):
            raise ValueError("epochs with other layers than the first one")
    return Latent(epochs, tuple(sizes), tuple(sizes.values()), shaped)
