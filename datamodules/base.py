"""Image data held in memory, with batches that depend on (seed, epoch, batch number) alone."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Required, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_lightning import LightningDataModule
from torch import Tensor

from datamodules.errors import DataError

SIDE = 32
PADDING = 4
_ORDER = 0  # random stream of an epoch's order; batch b of that epoch draws from stream b + 1


class Part(NamedTuple):
    """One part of a data set.

    Attributes:
        images: ``[N, 3, 32, 32]`` uint8.
        labels: ``[N]`` int64, from 0.
    """

    images: Tensor
    labels: Tensor


class Statistics(NamedTuple):
    """Normalisation constants per channel, for pixels in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class ImageArguments(TypedDict, total=False):
    """Keyword arguments every image datamodule takes; see `ImageDataModule`."""

    batch_size: Required[int]
    seed: Required[int]
    augment: Required[bool]
    train_images: int
    val_images: int
    test_images: int


def random_stream(seed: int, epoch: int, stream: int) -> torch.Generator:
    """Return a CPU generator that depends on nothing but the three numbers, each 0 and up."""
    state = np.random.SeedSequence((seed, epoch, stream)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def draw_crops(count: int, generator: torch.Generator) -> Tensor:
    """Return ``[count, 3]`` int64: row and column of the crop in 0..8, and 1 to flip, else 0.

    Drawn on the CPU, so that every device sees the same crops.
    """
    corners = torch.randint(0, 2 * PADDING + 1, (count, 2), generator=generator)
    flips = torch.randint(0, 2, (count, 1), generator=generator)
    return torch.cat([corners, flips], dim=1)


def crop_and_flip(images: Tensor, crops: Tensor) -> Tensor:
    """Return the images padded by 4 zero pixels, cut to 32x32 at their corners, some mirrored.

    Args:
        images: ``[B, C, 32, 32]``, any dtype, before normalisation.
        crops: ``[B, 3]`` of `draw_crops`, on the same device.

    Returns:
        A new tensor like ``images``.

    References:
        RandomCrop(32, padding=4) and RandomHorizontalFlip() of the official scripts.
    """
    batch, channels = images.shape[:2]
    width = SIDE + 2 * PADDING
    padded = F.pad(images, (PADDING,) * 4).view(batch, channels, width * width)
    ramp = torch.arange(SIDE, device=images.device)
    row, column, flip = crops.unsqueeze(2).unbind(1)
    rows = row + ramp
    columns = column + torch.where(flip > 0, SIDE - 1 - ramp, ramp)
    pixels = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).view(batch, 1, SIDE * SIDE)
    return padded.gather(2, pixels.expand(-1, channels, -1)).view_as(images)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return ``(images / 255 - mean) / std`` in float32.

    Args:
        images: ``[B, 3, 32, 32]`` uint8.
        mean: ``[3, 1, 1]`` float32, on the same device.
        std: ``[3, 1, 1]`` float32, on the same device.
    """
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


def checksum(parts: dict[str, Part], statistics: Statistics) -> str:
    """Return the sha256, in hex, of the images and labels in use and of their normalisation."""
    digest = hashlib.sha256(repr(tuple(statistics)).encode())
    for name, part in parts.items():
        digest.update(f"{name} {tuple(part.images.shape)}".encode())
        digest.update(part.images.contiguous().numpy().data)
        digest.update(part.labels.contiguous().numpy().data)
    return digest.hexdigest()


@dataclass
class EpochSampler:
    """Order and crops of one epoch; Lightning calls `set_epoch`, after a resume too.

    Attributes:
        count: Images in the part.
        seed: Seed of the run, 0 and up.
        augment: Whether crops are drawn.
        flip: Whether a crop may be mirrored.
        epoch: The epoch, from 0, that the next iteration yields.
    """

    count: int
    seed: int
    augment: bool
    flip: bool
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration yields."""
        self.epoch = epoch

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield per batch the indices ``[B]`` and the crops ``[B, 3]``, or None without any."""
        seed, epoch = self.seed, self.epoch
        order = torch.randperm(self.count, generator=random_stream(seed, epoch, _ORDER))
        for number, start in enumerate(range(0, self.count, batch_size)):
            indices = order[start : start + batch_size]
            crops = None
            if self.augment:
                crops = draw_crops(len(indices), random_stream(seed, epoch, number + 1))
                crops[:, 2] *= self.flip
            yield indices, crops


@dataclass(frozen=True)
class BatchLoader:
    """Batches of a part in memory, from first to last; the last, incomplete one is kept.

    Stands in for torch's DataLoader, which takes a random number from the global generator every
    epoch (a resumed run would then drop other neurons out) and, without workers, draws a warning
    from Lightning.

    Attributes:
        part: Images and labels.
        batch_size: Images a batch.
    """

    part: Part
    batch_size: int

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.part.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield (images, labels), uint8 and int64; views, nothing is copied."""
        for start in range(0, len(self.part.labels), self.batch_size):
            yield tuple(tensor[start : start + self.batch_size] for tensor in self.part)


@dataclass(frozen=True)
class TrainingLoader(BatchLoader):
    """Batches in the order of the sampler.

    Attributes:
        sampler: Order and crops of every epoch. Lightning looks for `set_epoch` under this name;
            an evaluation loader must not have the attribute, or Lightning takes it for torch's.
    """

    sampler: EpochSampler

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield (images, labels), or (images, labels, crops) where images are to be cropped."""
        for indices, crops in self.sampler.batches(self.batch_size):
            images, labels = self.part.images[indices], self.part.labels[indices]
            yield (images, labels) if crops is None else (images, labels, crops)


class ImageDataModule(LightningDataModule, ABC):
    """Three parts of an image data set, in memory; the model gets normalised float32 batches.

    A batch is ``(images [B, 3, 32, 32] float32, labels [B] int64)``. A subclass sets ``classes``
    and ``statistics`` before or in `load`.

    Args:
        batch_size: Images a batch, 1 and up.
        seed: Seed of order and augmentation, 0 and up.
        augment: Random crop (padding 4) and horizontal flip of the training images.
        train_images: Use the first so many images of the training part; 0 for all.
        val_images: The same for the validation part.
        test_images: The same for the test part.

    Attributes:
        train, val, test: `Part`, after `setup`.
        classes: Number of classes.
        statistics: Normalisation constants.
        flip: Whether augmentation mirrors images.
        checksum: sha256 of what is in use, after `setup`.

    Raises:
        DataError: A number is out of range.
    """

    train: Part
    val: Part
    test: Part
    classes: int
    statistics: Statistics
    checksum: str
    flip: bool = True

    def __init__(
        self,
        *,
        batch_size: int,
        seed: int,
        augment: bool,
        train_images: int = 0,
        val_images: int = 0,
        test_images: int = 0,
    ) -> None:
        """Check and keep the arguments; nothing is read before `setup`."""
        super().__init__()
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}: give 1 or more")
        if seed < 0:
            raise DataError(f"seed is {seed}: give 0 or more")
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.counts = {"train": train_images, "val": val_images, "test": test_images}
        for name, count in self.counts.items():
            if count < 0:
                raise DataError(f"{name}_images is {count}: give 0 for all images, or a number")
        self._loaded = False
        self._constants: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def load(self) -> tuple[Part, Part, Part]:
        """Return the whole training, validation and test parts, in the order of the split."""

    def setup(self, stage: str = "") -> None:
        """Load the parts, once; Lightning's ``stage`` makes no difference.

        Raises:
            DataError: The data are absent or damaged, or fewer than asked for.
        """
        if self._loaded:
            return
        whole = dict(zip(("train", "val", "test"), self.load(), strict=True))
        parts = {name: self._first(name, part) for name, part in whole.items()}
        self.train, self.val, self.test = parts.values()
        self.checksum = checksum(parts, self.statistics)
        self._loaded = True

    def _first(self, name: str, part: Part) -> Part:
        """Return the images asked for, without keeping the others in memory."""
        count, present = self.counts[name], len(part.labels)
        if count > present:
            raise DataError(f"{name}_images is {count}, but there are {present}: give 0 for all")
        return Part(*(tensor[:count].clone() for tensor in part)) if count else part

    def train_dataloader(self) -> TrainingLoader:
        """Return the training batches, in a new order every epoch."""
        self._require_one_device()
        sampler = EpochSampler(len(self.train.labels), self.seed, self.augment, self.flip)
        return TrainingLoader(self.train, self.batch_size, sampler)

    def val_dataloader(self) -> list[BatchLoader]:
        """Return validation (index 0) and test batches (index 1): both are evaluated every epoch.

        The test part never chooses an epoch by itself; a row reports which part chose.
        """
        self._require_one_device()
        return [BatchLoader(part, self.batch_size) for part in (self.val, self.test)]

    def test_dataloader(self) -> BatchLoader:
        """Return the test batches."""
        self._require_one_device()
        return BatchLoader(self.test, self.batch_size)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Return normalised images and labels; images that come with crops are cropped first.

        Args:
            batch: What a `BatchLoader` yields, on the device.
            dataloader_idx: Not used: whether to crop is said by the batch.
        """
        images, labels, *crops = batch
        if crops:
            images = crop_and_flip(images, crops[0])
        if self._constants is None or self._constants[0].device != images.device:
            mean, std = torch.tensor(self.statistics, device=images.device).view(2, 3, 1, 1)
            self._constants = mean, std
        return normalise(images, *self._constants), labels

    def _require_one_device(self) -> None:
        """Refuse several processes: each would train on the same batches."""
        if self.trainer is not None and self.trainer.world_size > 1:
            raise DataError(
                f"{self.trainer.world_size} processes would all see the same batches:"
                " use Trainer(devices=1)"
            )
