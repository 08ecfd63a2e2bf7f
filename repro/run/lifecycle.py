"""The life of a run, top to bottom: data, parent, training, conversion, packed file, row."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.base import DataModule, ImageDataModule
from repro.build import make_data
from repro.methods.base import SpikingModule
from repro.networks.vgg import Vgg
from repro.recipes.fields import SnnCalibrationRecipe
from repro.recipes.spec import RunSpec
from repro.results.row import Row
from repro.results.rows import write_row
from repro.run.conversion import calibration_batches, convert_to_file
from repro.run.ddp import require_devices
from repro.run.export import export
from repro.run.initial_rates import scale_to_rate_
from repro.run.parent import Parent, load_parent
from repro.run.places import Places, finished_row, write_config
from repro.run.row_of_run import conversion_fields, history_fields, make_row, origin_fields
from repro.run.training import make_module, set_up_process, train
from repro.tracking.lineage import ORIGIN, fetch_parent, log_model, log_origin
from repro.tracking.logger import Logger, LogPlace, is_in_sweep, log_outcome, wandb_logger


def run(spec: RunSpec, places: Places) -> Row:
    """Make the row of a run: resume it where it stopped, do nothing where the row is there.

    Raises:
        UserError: Anything a user can fix: missing parent, damaged file, a folder in use, a row
            or a folder of another recipe, a loss that is NaN or infinite.
        DataError: The data are missing or damaged.
        OutOfTimeError: The deadline came first; the same call resumes.
    """
    place = places.of(spec.key)
    # An agent of W&B waits for a run, also where there is nothing left to do.
    if not is_in_sweep(places.wandb) and (row := finished_row(spec, place)) is not None:
        return row
    log = LogPlace(place.path, places.wandb, places.wandb_project, places.ablation)
    with wandb_logger(spec, log) as logger:
        if (row := finished_row(spec, place)) is None:
            row = make(spec, places, logger)
        else:
            log_origin(logger, {name: getattr(row, name) for name in ORIGIN})
        log_outcome(logger, row)
        log_model(logger, row, place.model, places.ablation)
    return row


def make(spec: RunSpec, places: Places, logger: Logger) -> Row:
    """Make the row of a run; nothing is written before data, parent and network are good."""
    if (above := spec.parent) is not None:
        fetch_parent(logger, above, places.of_parent(above.key))
    parent, data, module = load(spec, places)
    log_origin(logger, origin_fields(data, parent))
    converts, place = spec.key.is_conversion, places.of(spec.key)
    devices = 1 if converts else places.devices
    batches = calibration_batches(data, spec.recipe) if converts else []
    with place.locked():
        write_config(place, spec)
        if converts:
            found = convert(spec, place.model, module, batches, data)
        else:
            until, media = places.deadline, places.wandb_media
            history = train(spec, place, module, data, logger, devices, until, media)
            export(place.path, place.model)
            found = history_fields(history, spec)
        row = make_row(spec, data, place.model, parent, devices, found)
        write_row(row, places.rows)
    return row


def assist(spec: RunSpec, places: Places) -> None:
    """Train beside the process that calls `run`: on the next device, writing nothing."""
    _, data, module = load(spec, places)
    train(spec, places.of(spec.key), module, data, False, places.devices)


def load(spec: RunSpec, places: Places) -> tuple[Parent | None, DataModule, SpikingModule]:
    """Return what a run starts from: parent, data and module."""
    set_up_process()
    parent = load_parent(spec, places)
    recipe = replace(spec.recipe, batch_size=spec.batch_size)
    data = make_data(recipe, spec.key.seed, places.data_dir, places.skip_damaged)
    data.setup("fit")
    if places.devices > 1 and not spec.key.is_conversion:
        require_devices(places.devices)
        data.require_shares(places.devices)
    module = make_module(spec, data.classes, parent)
    rate = getattr(spec.recipe, "initial_rate", 0.0)
    if rate and spec.phase == "pretrain" and not places.of(spec.key).checkpoint.exists():
        assert isinstance(data, ImageDataModule)
        scale_to_rate_(module.network, data.first_images(data.batch_size), rate)
    return parent, data, module


def convert(
    spec: RunSpec, file: Path, module: SpikingModule, batches: Sequence[Tensor], data: DataModule
) -> dict[str, Any]:
    """Write the file of the converted network; return what the row says of the conversion."""
    assert isinstance(spec.recipe, SnnCalibrationRecipe)
    assert isinstance(module.network, Vgg)
    named = {"run": str(spec.key), "recipe_hash": spec.hash}
    found = convert_to_file(module.network, batches, spec.recipe, data, file, named)
    return conversion_fields(found)
