"""Checkpoints that are whole or absent, read back without running pickled code."""

import random
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from repro.errors import UserError, in_words
from repro.files import checksum, replacing, sha256

FORMAT: Final = 1  # of what the callbacks keep in a checkpoint


def load_verified(path: Path) -> Any:  # noqa: ANN401  (whatever was saved)
    """Return what ``torch.save`` wrote, without running pickled code, every checksum verified.

    Files that torch before 1.6 wrote have no checksums.

    Raises:
        Exception: It is damaged, or needs pickled code: of every kind.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":  # by which torch decides, too
            with zipfile.ZipFile(file) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"checksum of {damaged}")
    return torch.load(path, map_location="cpu", weights_only=True)


def seal(path: Path, archive: zipfile.ZipFile) -> bytes:
    """Return the comment of an archive that is a checkpoint of ours.

    It is a hash of `FORMAT`, of ``config.json`` and of the names, sizes and checksums within.

    Args:
        path: Of the checkpoint.
        archive: The checkpoint.
    """
    entries = [(entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist()]
    return checksum([FORMAT, sha256(path.with_name("config.json")), entries]).encode()


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or absent, read back by the run that wrote them and by no other.

    They are sealed (`seal`) together with the ``config.json`` beside them, which names the run and
    its numbers. So what is read back is what was written, and needs no further checks.
    """

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
            with zipfile.ZipFile(file, "a") as archive:
                archive.comment = seal(path, archive)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = lambda storage, _: storage,  # noqa: ANN401
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Return the checkpoint, every checksum in it verified.

        Raises:
            UserError: The file is damaged, or not of this run and version.
        """
        path = Path(path)
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.comment != seal(path, archive):
                    raise ValueError("of another run, or of another version of this program")
            checkpoint: dict[str, Any] = load_verified(path)
        except Exception as error:  # a damaged archive fails in every way; all mean the same
            raise UserError(
                f"{path} is damaged or not of this run ({in_words(error)[:120]}): delete it, and "
                "the same command starts anew"
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
