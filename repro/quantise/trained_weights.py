"""Trained weights from whatever file a user has, without running pickled code."""

from collections.abc import Collection, Mapping
from itertools import product, takewhile
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from repro import packing
from repro.errors import UserError, in_words

# Under which a checkpoint holds the state dict of the model, the likeliest first.
USUAL_KEYS: Final = ("state_dict", "model_state_dict", "model", "net", "network", "weights")


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in a file.

    Args:
        path: A state dict that ``torch.save`` wrote, a checkpoint that holds one under one of
            `USUAL_KEYS` or as the only one (Lightning's are such), a safetensors file, or a packed
            file.

    Raises:
        UserError: The file is absent or damaged, holds no state dict, or needs pickled code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is missing: give trained weights, .ckpt, .pt or .safetensors")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives fail in every way
        raise UserError(
            f"{path} cannot be read without running pickled code, or is damaged: save the weights "
            f"with safetensors.torch.save_file(model.state_dict(), FILE) ({in_words(error)[:120]})"
        ) from error
    return _find_state(path, content)


def _find_state(path: Path, content: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the state dict that a checkpoint is, or holds under some key."""
    if _is_state(content):
        return dict(content)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}: give a state dict")
    found = {name: state for name, state in content.items() if _is_state(state)}
    if len(found) > 1:
        found = {name: found[name] for name in USUAL_KEYS if name in found} or found
    if not found or (len(found) > 1 and next(iter(found)) not in USUAL_KEYS):
        raise UserError(
            f"{path} holds {', '.join(map(str, content))[:200]}, and none or several of these are "
            f"state dicts: save the one of the model under one of {', '.join(USUAL_KEYS)}"
        )
    return dict(next(iter(found.values())))


def _is_state(value: object) -> bool:
    """Return whether it is a state dict: tensors by name."""
    named = isinstance(value, Mapping) and bool(value)
    return named and all(isinstance(t, Tensor) and isinstance(n, str) for n, t in value.items())  # type: ignore[attr-defined]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            is_packed = (file.metadata() or {}).get("format") == packing.FORMAT
        return packing.unpack(path)[0] if is_packed else load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"invalid or damaged safetensors file {path}: {in_words(error)}") from error


def load_into(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict, every tensor of it.

    What stands before all its names need not be what stands before all names of the module:
    ``module.`` of DistributedDataParallel, ``_orig_mod.`` of ``torch.compile``, the name of the
    network inside a LightningModule, or nothing.

    Raises:
        UserError: Names or shapes differ.
    """
    plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    wanted = {name.replace("_orig_mod.", ""): name for name in module.state_dict()}
    for theirs, ours in product(_prefixes(plain), _prefixes(wanted)):
        renamed = {ours + name[len(theirs) :]: tensor for name, tensor in plain.items()}
        if renamed.keys() == wanted.keys():
            break
    else:
        raise UserError(f"{source} does not fit the model: {_differing(plain, wanted)}")
    try:
        module.load_state_dict({wanted[name]: tensor for name, tensor in renamed.items()})
    except RuntimeError as error:
        wrong = " ".join(str(error).split())[:300]
        raise UserError(f"{source} does not fit the model: {wrong}") from error


def _prefixes(names: Collection[str]) -> list[str]:
    """Return what stands before all names, shortest first.

    >>> _prefixes(["module.net.0.weight", "module.net.2.weight"])
    ['', 'module.', 'module.net.']
    """
    parts = [name.split(".")[:-1] for name in names]
    shared = list(takewhile(lambda part: len(set(part)) == 1, zip(*parts, strict=False)))
    return ["".join(f"{part[0]}." for part in shared[:n]) for n in range(len(shared) + 1)]


def _differing(names: Collection[str], wanted: Collection[str]) -> str:
    """Return in words which names differ."""
    lacks, beyond = sorted(set(wanted) - set(names)), sorted(set(names) - set(wanted))
    said = [f"it has {len(names)} tensors of {len(wanted)}"]
    said += [f"it lacks {', '.join(lacks[:3])}"] if lacks else []
    said += [f"the model has no {', '.join(beyond[:3])}"] if beyond else []
    return "; ".join(said)
