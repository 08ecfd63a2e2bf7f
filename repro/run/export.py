"""From a run folder to a packed weight file."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from safetensors.torch import load
from torch import Tensor

from repro import packing
from repro.cbp.layers import convert_state
from repro.errors import UserError
from repro.provenance import commit_in_words
from repro.run.checkpoint import SafeCheckpointIO
from repro.run.history import History
from repro.run_folder import RunFolder

Epoch = Literal["selected", "last"]


def export(folder: Path, out: Path, epoch: Epoch = "selected") -> Path:
    """Write the packed file of a run and return its path.

    Args:
        folder: Run folder with at least one finished epoch.
        out: File to write; an existing one is replaced.
        epoch: The epoch picked on validation, or the last one.

    Raises:
        UserError: ``folder`` is not a run folder, or a file in it is damaged.
    """
    place = RunFolder(folder)
    config, whole = place.config, place.model
    if not config.exists():
        raise UserError(f"{folder} is not a run folder: config.json is missing")
    try:
        description = json.loads(config.read_text("utf-8"))
        named = {"run": description["key"], "recipe_hash": description["recipe_hash"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{config} is damaged ({error}): delete the folder, run again") from error
    if description.get("trained") is False and whole.exists():  # a conversion has no epochs
        packing.pack(out, *packing.unpack(whole), packing.metadata(whole))
        return out
    try:
        state, levels = convert_state(read_latent(place, epoch))
    except KeyError as error:
        raise UserError(
            f"{folder} was written by another version of this program ({error} is missing): "
            "export with that version, or delete the folder and run again"
        ) from error
    packing.pack(out, state, levels, {**named, "epoch": epoch, "commit": commit_in_words()})
    return out


def read_latent(place: RunFolder, epoch: Epoch) -> dict[str, Tensor]:
    """Return the network's state dict of an epoch, latent weights and levels included."""
    last = place.checkpoint
    if not last.exists():
        raise UserError(f"{last} is missing: no epoch of this run is finished; run it first")
    checkpoint = SafeCheckpointIO().load_checkpoint(last)
    state = {name.removeprefix("network."): t for name, t in checkpoint["state_dict"].items()}
    if epoch == "last":
        return state
    history = History(place, None)
    history.load_state_dict(checkpoint["callbacks"]["History"])
    path = place.selected(history.selected["epoch"])
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != history.selected_sha256:
        raise UserError(
            f"{path} is {'damaged' if content else 'missing'}: delete {place.path} and run again"
        )
    selected = load(content)  # in an order that changes from call to call
    return {name: selected[name] for name in state}
