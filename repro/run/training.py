"""The training of a run: module, callback, Trainer."""

import json
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
from repro.device.allocator import keep_freed_memory
from repro.files import write_atomically
from repro.methods.base import SpikingModule
from repro.networks.convolution import to_channels_last_
from repro.recipes.fields import SurrogateRecipe
from repro.recipes.spec import RunSpec
from repro.run import arithmetic
from repro.run.checkpoint import SafeCheckpointIO
from repro.run.ddp import helpers_of, trainer_fields
from repro.run.deadline import Deadline
from repro.run.evaluation import load_weights
from repro.run.health import Health
from repro.run.history import History
from repro.run.latent_histograms import LatentHistograms
from repro.run.parent import Parent
from repro.run_folder import RunFolder
from repro.tracking.logger import Logger


def set_up_process() -> None:
    """Set what makes this process train fast and changes no result worth the name."""
    keep_freed_memory()
    torch.set_flush_denormal(True)  # denormals made steps 12 times slower


def make_module(spec: RunSpec, classes: int, parent: Parent | None) -> SpikingModule:
    """Return the method's module, initialised from the seed or from the parent's weights.

    A conversion gets the ANN that it converts.
    """
    key, recipe = spec.key, spec.recipe
    torch.manual_seed(key.seed)
    module = build(key.cell, recipe, classes, "ann" if key.is_conversion else spec.phase)
    module.seed = key.seed
    if parent is not None:
        load_weights(module.network, parent.state, f"the saved file of {parent.row.key}")
    to_channels_last_(module.network)
    arithmetic.use(module.network, "float32" if key.is_conversion else recipe.matmul)
    return module


def make_cbp(spec: RunSpec) -> Cbp | Control:
    """Return the callback of the run's CBP phase, with the recipe's numbers."""
    if spec.key.precision == "fp32_control":
        return Control(scale=spec.recipe.cbp.scale, settings=spec.recipe.cbp)
    return Cbp(spec.key.precision, scale=spec.recipe.cbp.scale, settings=spec.recipe.cbp)


def train(
    spec: RunSpec,
    place: RunFolder,
    module: SpikingModule,
    data: DataModule,
    logger: Logger,
    devices: int = 1,
    deadline: float | None = None,
    media: bool = False,
) -> History:
    """Train to the last epoch, from ``last.ckpt`` where there is one; return the history."""
    cbp = make_cbp(spec) if spec.key.has_cbp_phase else None
    history = History(place, cbp)
    # Each behind those whose figures it reads; the history writes the checkpoint of them all.
    callbacks: list[Callback] = [history]
    if cbp is not None:
        callbacks = [cbp, LatentHistograms(place.histograms, media and logger), history]
    callbacks.append(Health(strict=spec.key.tier.startswith("paper")))
    if deadline is not None:
        callbacks.append(Deadline(deadline))
    trainer = make_trainer(
        spec,
        place.path,
        devices=devices,
        max_epochs=spec.epochs,
        callbacks=callbacks,
        plugins=[SafeCheckpointIO()],
        logger=logger,
        enable_progress_bar=sys.stderr.isatty(),
    )
    with helpers_of(trainer):
        last = place.checkpoint if place.checkpoint.exists() else None
        trainer.fit(module, datamodule=data, ckpt_path=last)
    if trainer.is_global_zero and (ways := arithmetic.ways_of(module.network)):
        write_atomically(place.products, json.dumps(ways, indent=1) + "\n")
    return history


def make_trainer(
    spec: RunSpec,
    folder: Path,
    *,
    devices: int = 1,
    **more: Any,  # noqa: ANN401  (of many types)
) -> Trainer:
    """Return the Trainer of a run."""
    quiet_lightning()
    mixed = isinstance(spec.recipe, SurrogateRecipe) and spec.recipe.amp
    return Trainer(
        **trainer_fields(devices),
        precision="16-mixed" if mixed and torch.cuda.is_available() else "32-true",
        gradient_clip_val=None if spec.key.has_cbp_phase else spec.recipe.clip_norm or None,
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
