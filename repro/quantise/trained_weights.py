"""Trained weights from whatever file a person has, without running pickled code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from repro import packing
from repro.errors import UserError, in_words


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in a file.

    Args:
        path: A checkpoint of Lightning (its ``state_dict``), a state dict that ``torch.save``
            wrote, a safetensors file, or a packed file.

    Raises:
        UserError: The file is absent or damaged, holds no state dict, or needs pickled code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is no file: give trained weights, .ckpt, .pt or .safetensors")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives fail in every way
        raise UserError(
            f"{path} cannot be read without running pickled code, or is damaged: save the weights "
            f"with safetensors.torch.save_file(model.state_dict(), FILE) ({in_words(error)[:120]})"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(f"{path} holds no state dict, but a {type(content).__name__}")
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            is_packed = (file.metadata() or {}).get("format") == packing.FORMAT
        return packing.unpack(path)[0] if is_packed else load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no safetensors file, or damaged: {in_words(error)}") from error


def load_into(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict, every tensor of it.

    Raises:
        UserError: Names or shapes differ.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        wrong = " ".join(str(error).split())[:300]
        raise UserError(f"{source} does not fit the model: {wrong}") from error
