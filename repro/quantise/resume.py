"""The state after every epoch of a training that is not ours, so that it can be resumed exactly."""

import sys
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from repro.cbp.callback import Cbp
from repro.run.checkpoint import random_states, set_random_states
from repro.run.history import require_finite


class KeepLast(Callback):
    """Saves a checkpoint after every epoch, the states of the random numbers in it."""

    def __init__(self, path: Path, cbp: Cbp) -> None:
        """Keep where to save, and whose figures to print."""
        self.path, self.cbp = path, cbp
        self._states: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random numbers of the checkpoint, before batches are drawn."""
        if self._states is not None:
            set_random_states(self._states)
            self._states = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; place this callback behind ``Cbp``."""
        figures, epoch = self.cbp.report, trainer.current_epoch
        require_finite(figures["cbp/lagrangian"], pl_module, epoch, self.path.parent)
        trainer.save_checkpoint(self.path, weights_only=False)
        if not sys.stderr.isatty():
            print(
                f"epoch {epoch + 1}/{trainer.max_epochs}  "
                f"lagrangian {figures['cbp/lagrangian']:.4g}  CFS {figures['cbp/cfs']:.3g}  "
                f"g {figures['cbp/g']:.0f}",
                flush=True,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the random numbers."""
        return random_states()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until the training starts."""
        self._states = state_dict
