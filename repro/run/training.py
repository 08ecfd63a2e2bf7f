"""The training of a run: module, callback, Trainer."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from datamodules.base import DataModule
from repro.build import build
from repro.cbp.callback import Cbp, Control
from repro.cells import RunKey
from repro.device.allocator import keep_freed_memory
from repro.methods.base import SpikingModule
from repro.networks.convolution import to_channels_last_
from repro.recipes.fields import CbpRecipe, Recipe, SurrogateRecipe
from repro.recipes.spec import epochs_of, phase_of
from repro.run import arithmetic
from repro.run.checkpoint import SafeCheckpointIO
from repro.run.ddp import helpers_of, trainer_fields
from repro.run.deadline import Deadline
from repro.run.evaluation import load_weights
from repro.run.history import History
from repro.run.latent_histograms import LatentHistograms
from repro.run.parent import Parent
from repro.tracking.logger import Logger


def set_up_process() -> None:
    """Set what makes this process train fast and changes no result worth the name."""
    keep_freed_memory()
    torch.set_flush_denormal(True)  # denormals made steps 12 times slower


def make_module(key: RunKey, recipe: Recipe, classes: int, parent: Parent | None) -> SpikingModule:
    """Return the method's module, initialised from the seed or from the parent's weights.

    A conversion gets the ANN that it converts.
    """
    torch.manual_seed(key.seed)
    phase = "ann" if key.is_conversion else phase_of(key)
    module = build(key.cell, recipe, classes, phase)
    module.seed = key.seed
    if parent is not None:
        load_weights(module.network, parent.state, f"the saved file of {parent.row.key}")
    to_channels_last_(module.network)
    arithmetic.use(module.network, "float32" if key.is_conversion else recipe.matmul)
    return module


def make_cbp(precision: str, recipe: CbpRecipe) -> Cbp | Control:
    """Return the callback with the recipe's numbers."""
    return (
        Control(settings=recipe) if precision == "fp32_control" else Cbp(precision, settings=recipe)
    )


def train(
    key: RunKey,
    recipe: Recipe,
    folder: Path,
    module: SpikingModule,
    data: DataModule,
    logger: Logger,
    devices: int = 1,
    deadline: float | None = None,
) -> History:
    """Train to the last epoch, from ``last.ckpt`` where there is one; return the history."""
    cbp = make_cbp(key.precision, recipe.cbp) if key.has_cbp_phase else None
    history = History(folder, cbp)
    last = folder / "last.ckpt"
    # Each behind those whose figures it reads; the history writes the checkpoint of them all.
    callbacks: list[Callback] = [history]
    if cbp is not None:
        callbacks = [cbp, LatentHistograms(folder), history]
    if deadline is not None:
        callbacks.append(Deadline(deadline))
    trainer = make_trainer(
        key,
        recipe,
        folder,
        devices=devices,
        max_epochs=epochs_of(key, recipe),
        callbacks=callbacks,
        plugins=[SafeCheckpointIO()],
        logger=logger,
        enable_progress_bar=sys.stderr.isatty(),
    )
    with helpers_of(trainer):
        trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
    return history


def make_trainer(
    key: RunKey,
    recipe: Recipe,
    folder: Path,
    *,
    devices: int = 1,
    **more: Any,  # noqa: ANN401  (of many types)
) -> Trainer:
    """Return the Trainer of a run.

    Args:
        key: Name of the run.
        recipe: Its numbers.
        folder: Where Lightning writes.
        devices: How many train it.
        more: Further arguments of the Trainer.
    """
    quiet_lightning()
    return Trainer(
        **trainer_fields(devices),
        precision="16-mixed" if mixes_precision(recipe) else "32-true",
        gradient_clip_val=None if key.has_cbp_phase else recipe.clip_norm or None,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        default_root_dir=folder,
        **more,
    )


def quiet_lightning() -> None:
    """Keep Lightning's tips and one deprecation inside it from the user; warnings still show."""
    for name in ("pytorch_lightning", "lightning_fabric.utilities.distributed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 asks torch's pytree in a way that torch deprecates.
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)


def mixes_precision(recipe: Recipe) -> bool:
    """Return whether the run trains with automatic mixed precision: asked for, and on a GPU."""
    return isinstance(recipe, SurrogateRecipe) and recipe.amp and torch.cuda.is_available()
