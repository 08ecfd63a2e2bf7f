"""The life of a run, top to bottom: data, parent, training, conversion, packed file, row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.base import DataModule
from repro.build import make_data
from repro.cells import RunKey
from repro.methods.base import SpikingModule
from repro.networks.vgg import Vgg
from repro.recipes.fields import Recipe, SnnCalibrationRecipe
from repro.recipes.spec import epochs_of, recipe_hash
from repro.results.row import Row
from repro.results.rows import write_row
from repro.run.conversion import calibration_batches, convert_to_file
from repro.run.ddp import require_devices
from repro.run.export import export
from repro.run.parent import Parent, load_parent
from repro.run.places import Places, finished_row, parent_places, write_config
from repro.run.row_of_run import conversion_fields, history_fields, make_row, origin_fields
from repro.run.training import make_module, set_up_process, train
from repro.run_folder import locked
from repro.tracking.lineage import ORIGIN, fetch_parent, log_model, log_origin
from repro.tracking.logger import Logger, LogPlace, is_in_sweep, log_outcome, wandb_logger


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
