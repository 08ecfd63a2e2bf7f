"""The life of a run, top to bottom: data, parent, training, conversion, packed file, row."""

import dataclasses
import hashlib
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from datamodules.base import DataModule
from repro import arithmetic, packing
from repro.allocator import keep_freed_memory
from repro.cbp.callback import Cbp
from repro.cbp.control import Control
from repro.cells import RunKey
from repro.conversion import calibration_batches, convert_to_file
from repro.data import make_data
from repro.deadline import Deadline
from repro.devices import helpers_of, require_devices, trainer_fields
from repro.errors import MissingParentError, UserError
from repro.evaluation import load_weights
from repro.export import export
from repro.history import History, SafeCheckpointIO
from repro.latent import LatentHistograms
from repro.methods.base import SpikingModule
from repro.methods.build import build, phase_of
from repro.networks.convolution import to_channels_last_
from repro.networks.vgg import Vgg
from repro.outcome import Parent, conversion_fields, history_fields, make_row, origin_fields
from repro.recipe_fields import CbpRecipe, Recipe, SnnCalibrationRecipe, SurrogateRecipe
from repro.recipes import as_dict, recipe_hash
from repro.rows import Row, read_row, write_atomically, write_row
from repro.wandb_lineage import ORIGIN, fetch_parent, log_model, log_origin
from repro.wandb_logger import (
    Logger,
    LogPlace,
    Mode,
    is_in_sweep,
    log_outcome,
    wandb_logger,
)


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a run reads and writes.

    Attributes:
        runs: Folder of the run folders.
        rows: Folder of the rows.
        data_dir: Data sets; None for CBP_DATA, else ``data``.
        wandb: Whether W&B is told: ``online``, ``offline`` (synchronised later) or ``off``.
        wandb_project: Project of the W&B run.
        parent_runs: Folder of the parent's run folder; None for ``runs``.
        parent_rows: Folder of the parent's row; None for ``rows``.
        ablation: Name of the ablation that the run belongs to, for W&B, where a run's name does not
            tell; None for a run of the tables.
        skip_damaged: Whether damaged recordings are left out.
        devices: GPUs that train it together, or processes where there is no GPU.
        deadline: When the time for the run is up, by ``time.monotonic``, s; None for never.
    """

    runs: Path = Path("runs")
    rows: Path = Path("results/rows")
    data_dir: Path | None = None
    wandb: Mode = "off"
    wandb_project: str = "cbp-qsnn"
    parent_runs: Path | None = None
    parent_rows: Path | None = None
    ablation: str | None = None
    skip_damaged: bool = False
    devices: int = 1
    deadline: float | None = None


def run(key: RunKey, recipe: Recipe, places: Places) -> Row:
    """Make the row of a run: resume it where it stopped, do nothing where the row is there.

    Args:
        key: Name of the run.
        recipe: Its numbers.
        places: Where to read and write.

    Raises:
        UserError: Anything a person can mend: missing parent, damaged file, a folder in use, a row
            or a folder of another recipe, a loss that is no number.
        DataError: The data are absent or damaged.
        OutOfTimeError: The deadline came first; the same call goes on.
    """
    # An agent of W&B waits for a run, also where there is nothing left to do.
    if not is_in_sweep(places.wandb) and (row := finished_row(key, recipe, places)) is not None:
        return row
    folder = places.runs / str(key)
    place = LogPlace(folder, places.wandb, places.wandb_project, places.ablation)
    with wandb_logger(key, recipe, place) as logger:
        if (row := finished_row(key, recipe, places)) is None:
            row = make(key, recipe, places, logger)
        else:
            log_origin(logger, {name: getattr(row, name) for name in ORIGIN})
        log_outcome(logger, row)
        log_model(logger, row, folder / "model.safetensors", places.ablation)
    return row


def make(key: RunKey, recipe: Recipe, places: Places, logger: Logger) -> Row:
    """Make the row of a run; nothing is written before data, parent and network are good."""
    if (above := key.parent()) is not None:
        made = recipe_hash(recipe, above.precision)
        fetch_parent(logger, above, made, *parent_places(places))
    parent, data, module = load(key, recipe, places)
    log_origin(logger, origin_fields(data, parent))
    devices = 1 if key.is_conversion else places.devices
    batches = calibration_batches(data, recipe) if key.is_conversion else []
    folder = places.runs / str(key)
    file = folder / "model.safetensors"
    with locked(folder):
        write_config(folder, key, recipe)
        if key.is_conversion:
            found = convert(key, recipe, file, module, batches, data)
        else:
            history = train(key, recipe, folder, module, data, logger, devices, places.deadline)
            export(folder, file)
            found = history_fields(history, epochs_of(key, recipe))
        row = make_row(key, recipe, data, file, parent, devices, found)
        write_row(row, places.rows)
    return row


def assist(key: RunKey, recipe: Recipe, places: Places) -> None:
    """Train beside the process that calls `run`: on the next device, writing nothing."""
    _, data, module = load(key, recipe, places)
    train(key, recipe, places.runs / str(key), module, data, False, places.devices)


def load(
    key: RunKey, recipe: Recipe, places: Places
) -> tuple[Parent | None, DataModule, SpikingModule]:
    """Return what a run starts from: parent, data and module."""
    set_up_process()
    parent = load_parent(key, recipe, places)
    data = make_data(recipe, key.seed, places.data_dir, places.skip_damaged)
    data.setup("fit")
    if places.devices > 1 and not key.is_conversion:
        require_devices(places.devices)
        data.require_shares(places.devices)
    return parent, data, make_module(key, recipe, data.classes, parent)


def set_up_process() -> None:
    """Set what makes this process train fast and changes no result worth the name."""
    keep_freed_memory()
    torch.set_flush_denormal(True)  # denormals made steps 12 times slower


def finished_row(key: RunKey, recipe: Recipe, places: Places) -> Row | None:
    """Return the row if it and the weights are there and made by this recipe.

    A row alone, as in a fresh clone, does not count: its run is made again, weights and row.
    """
    path = places.rows / f"{key}.json"
    if not path.exists() or not (places.runs / str(key) / "model.safetensors").exists():
        return None
    row = read_row(path)
    if row.recipe_hash != (now := recipe_hash(recipe, key.precision)):
        raise UserError(
            f"{path} was made by another recipe ({row.recipe_hash}, now {now}): "
            "delete it to run again, or choose another --rows and --runs"
        )
    return row


def load_parent(key: RunKey, recipe: Recipe, places: Places) -> Parent | None:
    """Return the parent's row and weights; None for a run that starts from fresh weights.

    Raises:
        UserError: It is not there (the message is the command that makes it), or it was made by
            another recipe.
    """
    if (parent := key.parent()) is None:
        return None
    runs, row_folder = parent_places(places)
    file, row_file = runs / str(parent) / "model.safetensors", row_folder / f"{parent}.json"
    if not file.exists() or not row_file.exists():
        raise MissingParentError(
            f"{key} starts from {parent}, which is not there: {parent.command()}"
        )
    row = read_row(row_file)
    now = json.loads(json.dumps(as_dict(recipe, parent.precision)))
    if differing := [name for name in now if row.recipe.get(name) != now[name]]:
        raise UserError(
            f"{parent} was made by another recipe, {', '.join(differing)} differ: give its values "
            f"({places.rows / f'{parent}.json'}), or make a parent in another --runs and --rows"
        )
    state, _ = packing.unpack(file)
    return Parent(row, state, hashlib.sha256(file.read_bytes()).hexdigest())


def parent_places(places: Places) -> tuple[Path, Path]:
    """Return the folders of the parent's run folder and of its row."""
    return places.parent_runs or places.runs, places.parent_rows or places.rows


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process alone.

    Raises:
        UserError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{folder} is in use by another process: wait for it, or choose another --runs"
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_config(folder: Path, key: RunKey, recipe: Recipe) -> None:
    """Write ``config.json``, or check that the folder was started with the same numbers."""
    path = folder / "config.json"
    config = {
        "key": str(key),
        "recipe": as_dict(recipe, key.precision),
        "recipe_hash": recipe_hash(recipe, key.precision),
        "trained": not key.is_conversion,
    }
    text = json.dumps(config, sort_keys=True, indent=1) + "\n"
    if not path.exists():
        write_atomically(path, text)
    elif path.read_text("utf-8") != text:
        raise UserError(
            f"{folder} was started with another recipe (config.json): delete the folder to start "
            "anew, or choose another --runs"
        )


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


def make_cbp(precision: str, recipe: CbpRecipe) -> Cbp:
    """Return the callback with the recipe's numbers."""
    fields = dataclasses.asdict(recipe)
    # The optimiser of the weights is the module's.
    for name in ("epochs", "lr", "momentum", "optimiser", "weight_decay"):
        fields.pop(name)
    return Control(**fields) if precision == "fp32_control" else Cbp(precision, **fields)


def convert(
    key: RunKey,
    recipe: Recipe,
    file: Path,
    module: SpikingModule,
    batches: Sequence[Tensor],
    data: DataModule,
) -> dict[str, Any]:
    """Write the file of the converted network; return what the row says of the conversion."""
    assert isinstance(recipe, SnnCalibrationRecipe)
    assert isinstance(module.network, Vgg)
    named = {"run": str(key), "recipe_hash": recipe_hash(recipe, key.precision)}
    return conversion_fields(convert_to_file(module.network, batches, recipe, data, file, named))


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


def epochs_of(key: RunKey, recipe: Recipe) -> int:
    """Return the epochs of the run's phase."""
    return recipe.cbp.epochs if key.has_cbp_phase else recipe.epochs
