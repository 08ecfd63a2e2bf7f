"""A run that converts a trained ANN into a spiking network instead of training one."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from datamodules.base import DataModule, ImageDataModule
from datamodules.loaders import TrainingLoader
from repro import packing
from repro.errors import UserError
from repro.methods.calibration import convert, find_thresholds, folded_layers
from repro.methods.qcfs import train_qcfs_, with_qcfs
from repro.networks.convolution import to_channels_last_
from repro.networks.vgg import Vgg
from repro.provenance import commit_in_words
from repro.recipes.fields import Pipeline, Recipe, SnnCalibrationRecipe
from repro.results.row import STEPS_TAKEN
from repro.run.evaluation import right_answers


@dataclass(frozen=True)
class Converted:
    """What a conversion found.

    Attributes:
        accuracies: Test accuracy of the ANN, ``uncalibrated``, and after the steps of the
            calibration by their names; fractions.
        accuracy_val: Accuracy of the result on the validation images.
        seconds: Wall time, s.
        commit: Commit of the code, with ``+changes`` where the tree had some.
    """

    accuracies: dict[str, float]
    accuracy_val: float
    seconds: float
    commit: str


def calibration_batches(data: DataModule, recipe: Recipe) -> Sequence[Tensor]:
    """Return training images in batches, normalised: the first ones, or augmented ones in order.

    Raises:
        UserError: There are fewer training images than the recipe asks for.
    """
    assert isinstance(recipe, SnnCalibrationRecipe)
    assert isinstance(data, ImageDataModule)
    wanted = recipe.conversion.batches * recipe.conversion.batch_size
    if wanted > (there := len(data.train.labels)):
        raise UserError(
            f"the conversion asks for {wanted} training images, there are {there}: lower "
            "conversion.batches or conversion.batch_size"
        )
    if recipe.conversion.images == "augmented":
        data.batch_size = recipe.conversion.batch_size
        some = islice(data.training_batches(), recipe.conversion.batches)
        return [data.on_after_batch_transfer(batch, 0)[0] for batch in some]
    return torch.split(data.first_images(wanted), recipe.conversion.batch_size)


def trained_with_qcfs(
    ann: Vgg, batches: Sequence[Tensor], recipe: SnnCalibrationRecipe, data: DataModule
) -> Vgg:
    """Return the ANN trained on with QCFS, which starts from the thresholds found."""
    levels = recipe.conversion.qcfs_levels or recipe.time_steps
    found = find_thresholds(folded_layers(ann.features), batches, levels)
    trained = with_qcfs(ann, found, levels)
    loader = data.training_batches()
    assert isinstance(loader, TrainingLoader)

    def epoch_of(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        loader.sampler.set_epoch(epoch)
        return (data.on_after_batch_transfer(batch, 0) for batch in loader)

    train_qcfs_(trained, epoch_of, recipe.conversion.qcfs_epochs, recipe.conversion.qcfs_lr)
    return trained


def convert_to_file(
    ann: Vgg,
    batches: Sequence[Tensor],
    recipe: SnnCalibrationRecipe,
    data: DataModule,
    file: Path,
    metadata: dict[str, str],
) -> Converted:
    """Convert, write the spiking network's file, and evaluate every step on the way."""
    start, commit = time.monotonic(), commit_in_words()
    accuracies = {"ann": float(right_answers(ann, data).mean())}
    for step in STEPS_TAKEN[recipe.conversion.pipeline][1:]:
        pipeline = cast(Pipeline, "none" if step == "uncalibrated" else step)
        conversion = convert(
            trained_with_qcfs(ann, batches, recipe, data) if pipeline == "qcfs" else ann,
            batches,
            time_steps=recipe.time_steps,
            pipeline=pipeline,
            weight_steps=recipe.conversion.weight_steps,
            weight_lr=recipe.conversion.weight_lr,
        )
        network = conversion.network
        to_channels_last_(network)
        right = right_answers(network, data)
        accuracies[step] = float(right.mean())
        print(f"converted, calibration {pipeline}: test {100 * right.mean():.2f} %", flush=True)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    packing.pack(file, state, {}, {**metadata, "commit": commit})
    return Converted(
        accuracies=accuracies,
        accuracy_val=float(right_answers(network, data, "val").mean()),
        seconds=time.monotonic() - start,
        commit=commit,
    )
