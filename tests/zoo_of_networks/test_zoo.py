"""What must hold for every network and every way of training of the zoo."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from zoo import BATCH, EPOCHS, ZOO, Entry, Module

from repro import packing
from repro.cbp.callback import Cbp
from repro.cbp.layers import convert
from repro.quantise.trained_weights import load_into, read_state

SETTINGS: dict[str, Any] = {"multiplier_lr": 0.02, "p_max": 2}
EVERY = 4  # steps; an epoch has 6
PARTS = 4  # of a batch, where it is cut
each = pytest.mark.parametrize("entry", ZOO.values(), ids=ZOO)


def train(
    entry: Entry,
    folder: Path,
    resume: Path | None = None,
    batch: int = BATCH,
    **trainer: Any,
) -> tuple[Module, Cbp]:
    """Train an entry, from the start or from a checkpoint, which every few steps write."""
    module, cbp = entry.module(), Cbp(**{**SETTINGS, **entry.cbp})
    checkpoints = ModelCheckpoint(
        folder, "{step}", every_n_train_steps=EVERY, save_top_k=-1, save_on_train_epoch_end=False
    )
    torch.manual_seed(2)
    arguments = {"max_epochs": EPOCHS} | entry.trainer | trainer
    Trainer(
        callbacks=[cbp, *entry.callbacks(), *([] if resume else [checkpoints])],
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=resume is None,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **arguments,
    ).fit(module, entry.data(batch), ckpt_path=resume)
    return module, cbp


def tensors(state: dict[str, Any], before: str = "") -> dict[str, Tensor]:
    """All tensors and numbers of a state dict, however deep, by name."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, dict):
            found |= tensors(value, f"{before}{name}.")
        elif isinstance(value, Tensor | float | int):
            found[before + str(name)] = torch.as_tensor(value)
    return found


def require_equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


@each
@pytest.mark.filterwarnings("ignore")  # of Lightning, about what the entries do
def test_levels_file_and_resume(entry: Entry, tmp_path: Path) -> None:
    fresh = entry.module()
    module, cbp = train(entry, tmp_path)
    whole = tensors(module.state_dict() | {"cbp": cbp.state_dict()})
    checkpoints = sorted(tmp_path.glob("*.ckpt"))
    assert checkpoints
    for path in checkpoints if entry.resumes else []:
        again, other = train(entry, tmp_path, path)
        require_equal(tensors(again.state_dict() | {"cbp": other.state_dict()}), whole)

    levels = convert(module)
    state, start = module.state_dict(), fresh.state_dict()
    assert list(state) == list(start)
    for name, chosen in levels.items():
        weight = state[f"{name}.weight"]
        values = chosen.values(weight.dtype)
        rows = weight.flatten(1) if values.dim() == 2 else weight.reshape(1, -1)
        allowed = values[:, None] if values.dim() == 2 else values[None, None]
        assert bool((rows[..., None] == allowed).any(-1).all()), name
    for (name, parameter), (_, before) in zip(
        module.named_parameters(), fresh.named_parameters(), strict=True
    ):
        assert parameter.requires_grad == before.requires_grad
        trains = before.requires_grad and entry.cbp.get("train") != "quantised"
        moved = trains or name.removesuffix(".weight") in levels
        assert moved == (not torch.equal(parameter.to(before.dtype), before)), name

    packing.pack(tmp_path / "packed.safetensors", module, levels)
    module.eval()
    loaded = entry.module().to(next(module.parameters()).dtype).eval()
    load_into(loaded, read_state(tmp_path / "packed.safetensors"), "packed")
    require_equal(dict(loaded.state_dict()), dict(state))
    inputs = next(iter(entry.data()))[0].to(next(module.parameters()).dtype)
    with torch.no_grad():
        assert torch.equal(loaded(inputs), module(inputs))


@pytest.mark.parametrize(
    "entry",
    [entry for entry in ZOO.values() if entry.cuts],
    ids=[name for name, entry in ZOO.items() if entry.cuts],
)
@pytest.mark.filterwarnings("ignore")
def test_how_a_batch_is_cut_does_not_matter(entry: Entry, tmp_path: Path) -> None:
    whole, cbp = train(entry, tmp_path / "whole")
    cut, other = train(entry, tmp_path / "cut", batch=BATCH // PARTS, accumulate_grad_batches=PARTS)
    for one, two in ((whole, cut), (cbp, other)):
        found, expected = tensors(two.state_dict()), tensors(one.state_dict())
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-9, msg=name)


def test_the_zoo_is_large_enough() -> None:
    assert len(ZOO) >= 40
