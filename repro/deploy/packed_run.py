"""From a packed file of a cell to its network, weights still packed, and its test images."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from datamodules.base import DataModule
from repro.build import build_network, make_data
from repro.cells import key_of
from repro.deploy.packed_inference import Loaded, load_packed_
from repro.errors import UserError
from repro.networks.convolution import to_channels_last_
from repro.packing import metadata
from repro.recipes.spec import RunSpec, spec_of
from repro.run.models import located, recorded_recipe
from repro.run_folder import RunFolder


@dataclass(frozen=True)
class PackedCell:
    """A packed file, the run that wrote it, and the test images.

    Attributes:
        file: The file.
        spec: The run and its numbers.
        data: Test images, as many as asked for.
    """

    file: Path
    spec: RunSpec
    data: DataModule

    def empty_network(self, device: str = "meta") -> nn.Module:
        """Return the network without weights to speak of, in the memory format of a run."""
        with torch.device(device):
            cell, recipe = self.spec.key.cell, self.spec.recipe
            network = build_network(cell, recipe, self.data.classes, self.spec.phase)
        to_channels_last_(network)
        return network

    def load(self) -> tuple[nn.Module, Loaded]:
        """Return the network with the file's weights, packed, for inference on the CPU."""
        network = self.empty_network()
        return network, load_packed_(network, self.file)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test images, normalised, or frames of events, and labels, on the CPU."""
        for batch in self.data.batches("test"):
            yield self.data.on_after_batch_transfer(batch, 0)


def open_cell(path: Path, images: int, batch_size: int | None, data_dir: Path | None) -> PackedCell:
    """Return what a packed file of a cell needs to run; the test images are read.

    Args:
        path: Packed file, the folder of a run that is finished, or ``model:NAME``.
        images: First test images used; 0 for as many as the recipe says.
        batch_size: Images at a time; None for the recipe's.
        data_dir: Data sets; None for CBP_DATA, else ``data``.

    Raises:
        UserError: The file is no such file, or was made by a recipe that is not known here.
        DataError: The data are absent or damaged, or fewer than asked for.
    """
    if images < 0 or (batch_size is not None and batch_size < 1):
        raise UserError(f"images {images}, batch size {batch_size}: give 0 or more, and 1 or more")
    file, spec = origin_of(path)
    shown = replace(
        spec.recipe,
        test_images=images or spec.recipe.test_images,
        batch_size=batch_size or spec.recipe.batch_size,
    )
    data = make_data(shown, spec.key.seed, data_dir)
    data.setup("test")
    return PackedCell(file, spec, data)


def origin_of(path: Path) -> tuple[Path, RunSpec]:
    """Return the packed file of a path, and the run that wrote it with its numbers.

    Args:
        path: Packed file, the folder of a run that is finished, or ``model:NAME``.

    Raises:
        UserError: As in `open_cell`.
    """
    path = located(path)
    file = RunFolder(path).model if path.is_dir() else path
    said = metadata(file)
    if "run" not in said or "recipe_hash" not in said:
        raise UserError(
            f"{file} names no run: this command takes files of this program's cells; for a network "
            "of your own use load_packed_ of repro.deploy.packed_inference, or measure of "
            "repro.deploy.costs"
        )
    return file, spec_of(key_of(said["run"]), said["recipe_hash"], recorded_recipe(file), file)


def input_shape(
    spec: RunSpec, given: tuple[int, ...], data_dir: Path | None
) -> tuple[int, int, int]:
    """Return the shape ``[C, H, W]`` of an image or a frame that the network of a run takes.

    Args:
        spec: The run.
        given: The shape, if it is known; else empty.
        data_dir: Data sets; None for CBP_DATA, else ``data``. Read where frames are taken.

    Raises:
        UserError: The shape does not have three sizes.
        DataError: The data are absent or damaged.
    """
    if not given and spec.key.cell.method != "surrogate":
        return 3, 32, 32
    if not given:
        data = make_data(spec.recipe, spec.key.seed, data_dir)
        data.setup("test")
        given = tuple(next(iter(data.batches("test")))[0].shape[-3:])
    if len(given) != 3 or min(given) < 1:
        raise UserError(f"shape {given}: give C H W, three sizes")
    return given[0], given[1], given[2]
