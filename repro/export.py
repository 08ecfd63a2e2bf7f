"""From a run folder to a packed weight file."""

import json
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from repro import packing
from repro.cbp.layers import convert_state
from repro.errors import UserError
from repro.history import SafeCheckpointIO
from repro.rows import git_state

Epoch = Literal["selected", "last"]


def export(folder: Path, out: Path, epoch: Epoch = "selected") -> Path:
    """Write the packed file of a run and return its path.

    Args:
        folder: Run folder with at least one finished epoch.
        out: File to write; an existing one is replaced.
        epoch: The epoch picked on validation, or the last one.

    Raises:
        UserError: ``folder`` is no run folder, or a file in it is damaged.
    """
    config = folder / "config.json"
    if not config.exists():
        raise UserError(f"{folder} is no run folder: config.json is missing")
    try:
        description = json.loads(config.read_text("utf-8"))
        named = {"run": description["key"], "recipe_hash": description["recipe_hash"]}
    except (ValueError, KeyError) as error:
        raise UserError(f"{config} is damaged ({error}): delete the folder, run again") from error
    state, levels = convert_state(read_latent(folder, epoch))
    sha, dirty = git_state(Path(__file__).parent.parent)
    commit = sha + ("+changes" if dirty else "")
    packing.pack(out, state, levels, {**named, "epoch": epoch, "commit": commit})
    return out


def read_latent(folder: Path, epoch: Epoch) -> dict[str, Tensor]:
    """Return the network's state dict of an epoch, latent weights and levels included."""
    path = folder / ("selected.safetensors" if epoch == "selected" else "last.ckpt")
    if not path.exists():
        raise UserError(f"{path} is missing: no epoch of this run is finished; run it first")
    if epoch == "last":
        state = SafeCheckpointIO().load_checkpoint(path)["state_dict"]
        return {name.removeprefix("network."): tensor for name, tensor in state.items()}
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): delete the folder, run again") from error
