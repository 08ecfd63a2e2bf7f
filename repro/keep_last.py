"""The state after every epoch of a training that is not ours, so that it can be resumed exactly."""

import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from repro.cbp.callback import Cbp
from repro.errors import DivergedError
from repro.history import SafeCheckpointIO


class KeepLast(Callback):
    """Saves a checkpoint after every epoch, the states of the random numbers in it."""

    def __init__(self, path: Path, cbp: Cbp) -> None:
        """Keep where to save, and whose figures to print."""
        self.path, self.cbp = path, cbp
        self._states: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the random numbers of the checkpoint, before batches are drawn."""
        if self._states is not None:
            set_random_states(self._states)
            self._states = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; place this callback behind ``Cbp``.

        Raises:
            DivergedError: The Lagrangian or a weight is no number; the last good state stays.
        """
        figures = self.cbp.report
        good = all(bool(torch.isfinite(p).all()) for p in pl_module.parameters())
        if not good or not math.isfinite(figures["cbp/lagrangian"]):
            raise DivergedError(
                f"weights or loss are no numbers in epoch {trainer.current_epoch + 1}: lower the "
                f"learning rate; the last good state is kept in {self.path.parent}"
            )
        trainer.save_checkpoint(self.path, weights_only=False)
        if not sys.stderr.isatty():
            print(
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  "
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


def random_states() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's random numbers, in plain types."""
    # The legacy state: what transforms draw from.
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    assert isinstance(keys, np.ndarray)
    return {
        "python": random.getstate(),
        "numpy": (str(name), keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Restore what ``random_states`` returned; those of GPUs as far as there are as many."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(states["numpy"]))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


class PlainCheckpointIO(SafeCheckpointIO):
    """Checkpoints without the module's hyperparameters: any object, and made anew anyway."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401  (Lightning's signature)
    ) -> None:
        """Write what can be read back without pickled code."""
        kept = {key: value for key, value in checkpoint.items() if "hyper_parameters" not in key}
        super().save_checkpoint(kept, path, storage_options)
