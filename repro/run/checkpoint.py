"""Checkpoints that are whole or absent, read back without running pickled code."""

import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from repro.errors import UserError
from repro.files import replacing


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or absent, and read back without running pickled code."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401  (Lightning's signature)
    ) -> None:
        """Write it beside the old one, then put it in its place."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = lambda storage, _: storage,  # noqa: ANN401
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Return the checkpoint, every checksum in it verified.

        Raises:
            UserError: The file is truncated or damaged.
        """
        path = Path(path)
        try:
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"checksum of {damaged}")
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            missing = {"state_dict", "callbacks", "loops"} - set(checkpoint)
            if missing:
                raise ValueError(f"no {', '.join(sorted(missing))} in it")
        except Exception as error:  # a damaged archive fails in every way; all mean the same
            wrong = " ".join(str(error).split())[:120] or type(error).__name__
            raise UserError(
                f"{path} is damaged ({wrong}): delete it, and the same command starts anew"
            ) from error
        return checkpoint


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
