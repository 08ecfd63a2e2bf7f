"""What a run remembers of its epochs: ``metrics.csv``, the selected weights, a safe checkpoint."""

import hashlib
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from safetensors.torch import save

from repro.cbp.callback import PhaseCallback
from repro.errors import DivergedError
from repro.files import write_atomically
from repro.methods.base import SpikingModule
from repro.provenance import commit_in_words
from repro.run_folder import RunFolder
from repro.table import csv_text

Epoch = dict[str, float]


class History(Callback):
    """One line of figures per epoch, and the weights of the epoch that validation picks.

    Everything is in the checkpoint, so that a resumed run continues the same table.

    Attributes:
        epochs: Figures of every finished epoch.
        seconds: Wall time spent in training so far, interruptions not counted, s.
        commits: Commits whose code trained, in order; more than one after a resume elsewhere.
        selected_sha256: Checksum of the file with the selected weights.
    """

    def __init__(self, place: RunFolder, cbp: PhaseCallback | None) -> None:
        """Keep the run folder, and the callback to read CBP's figures from."""
        self.place, self.cbp = place, cbp
        self.epochs: list[Epoch] = []
        self.seconds = 0.0
        self.commits: list[str] = []
        self.selected_sha256 = ""
        self._mark = 0.0
        self._lr = 0.0

    @property
    def selected(self) -> Epoch:
        """The epoch with the best validation accuracy, the first of equals."""
        return max(self.epochs, key=lambda epoch: epoch["val_accuracy"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; note which code trains."""
        self._mark = time.monotonic()
        commit = commit_in_words()
        if commit not in self.commits:
            self.commits.append(commit)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the learning rate before schedulers and Algorithm 1 change it for the next epoch."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the epoch and write ``last.ckpt``; place this callback after ``Cbp``.

        Of several processes all record, so that they stop alike, and the first one writes.
        """
        assert isinstance(pl_module, SpikingModule)
        now = time.monotonic()
        self.seconds, self._mark = self.seconds + now - self._mark, now
        losses = pl_module.mean_loss()
        # A membrane that is NaN never fires, and the loss of a silent network is finite.
        require_finite(losses, pl_module, trainer.current_epoch, self.place.path)
        epoch: Epoch = {
            "epoch": trainer.current_epoch,
            "train_loss": losses,
            "val_accuracy": pl_module.accuracy["val"],
            "test_accuracy": pl_module.accuracy["test"],
            "lr": self._lr,
        }
        if self.cbp is not None:
            epoch |= {name.removeprefix("cbp/"): v for name, v in self.cbp.report.items()}
        epoch["seconds"] = self.seconds
        self.epochs.append(epoch)
        path = self.place.selected(self.selected["epoch"])
        if trainer.is_global_zero:
            if self.selected is epoch:
                self.selected_sha256 = save_selected(pl_module, path)
            write_atomically(self.place.metrics, csv_text(list(epoch), self.epochs))
        trainer.save_checkpoint(self.place.checkpoint, weights_only=False)  # all meet in it
        if trainer.is_global_zero:
            for older in set(self.place.path.glob("selected-*.safetensors")) - {path}:
                older.unlink()
            if not sys.stderr.isatty():
                print(in_words(epoch, trainer.max_epochs), flush=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the table, the clock, the commits and the checksum of the selected weights."""
        return {
            "epochs": self.epochs,
            "seconds": self.seconds,
            "commits": self.commits,
            "selected_sha256": self.selected_sha256,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the table of a checkpoint."""
        self.epochs, self.seconds = list(state_dict["epochs"]), state_dict["seconds"]
        self.commits = list(state_dict["commits"])
        self.selected_sha256 = state_dict["selected_sha256"]


def in_words(epoch: Epoch, epochs: int | None) -> str:
    """Return the epoch's line for a log that nobody watches."""
    line = (
        f"epoch {epoch['epoch'] + 1:.0f}/{epochs}  loss {epoch['train_loss']:.4f}  "
        f"val {100 * epoch['val_accuracy']:.2f} %  test {100 * epoch['test_accuracy']:.2f} %"
    )
    if "cfs" in epoch:
        line += f"  lagrangian {epoch['lagrangian']:.4g}  CFS {epoch['cfs']:.3g}"
        line += f"  g {epoch['g']:.0f}"
    return f"{line}  {epoch['seconds']:.0f} s"


def save_selected(module: SpikingModule, path: Path) -> str:
    """Save the network's latent weights and levels; return the file's SHA-256."""
    state = {name: t.detach().cpu().contiguous() for name, t in module.network.state_dict().items()}
    content = save(state)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def require_finite(loss: float, module: LightningModule, epoch: int, folder: Path) -> None:
    """Refuse an epoch, from 0, before its checkpoint replaces the last good one in the folder.

    Raises:
        DivergedError: The loss or a weight is NaN or infinite.
    """
    wrong = "" if math.isfinite(loss) else f"the loss is {loss}"
    if not bool(torch.stack([torch.isfinite(p).all() for p in module.parameters()]).all()):
        wrong = wrong or "a weight is NaN or infinite"
    if wrong:
        raise DivergedError(
            f"{wrong} in epoch {epoch + 1}: lower the learning rate; the last good checkpoint is "
            f"kept in {folder}"
        )
