"""What a run needs of any data set; images in memory."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count as numbers
from pathlib import Path
from typing import Final, Literal, NamedTuple, Required, TypedDict, Unpack

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from datamodules.augmentation import SIDE, crop_and_flip, cut_out_
from datamodules.auto_augment import auto_augment
from datamodules.errors import DataError
from datamodules.loaders import BatchLoader, EpochSampler, Part, TrainingLoader
from datamodules.process_share import WHOLE, Share, require_shares


class Recording(NamedTuple):
    """One file of events and its label, from 0."""

    path: Path
    label: int


PartName = Literal["train", "val", "test"]

PARTS_OF_STAGE: Final[dict[str, tuple[PartName, ...]]] = {
    "validate": ("val", "test"),  # the validation loaders evaluate both
    "test": ("test",),
}

PART_NAMES: tuple[PartName, ...] = ("train", "val", "test")


class Statistics(NamedTuple):
    """Normalisation constants per channel, for pixels in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class BaseArguments(TypedDict, total=False):
    """Keyword arguments every datamodule takes; see `DataModule`."""

    batch_size: Required[int]
    seed: Required[int]
    train_images: int
    val_images: int
    test_images: int


class ImageArguments(BaseArguments, total=False):
    """Keyword arguments every image datamodule takes; see `ImageDataModule`."""

    augment: Required[bool]
    autoaugment: bool
    cutout: int


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return ``(images / 255 - mean) / std`` in float32.

    Args:
        images: ``[B, 3, 32, 32]`` uint8.
        mean: ``[3, 1, 1]`` float32, on the same device.
        std: ``[3, 1, 1]`` float32, on the same device.
    """
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


def checksum(parts: Mapping[PartName, Part], statistics: Statistics) -> str:
    """Return the sha256, in hex, of the images and labels in use and of their normalisation."""
    digest = hashlib.sha256(repr(tuple(statistics)).encode())
    for name, part in parts.items():
        digest.update(f"{name} {tuple(part.images.shape)}".encode())
        digest.update(part.images.contiguous().numpy().data)
        digest.update(part.labels.contiguous().numpy().data)
    return digest.hexdigest()


class DataModule(LightningDataModule, ABC):
    """What a run needs of any data set.

    Batches come as a loader yields them and are finished, on the device, by
    ``on_after_batch_transfer``: then they are ``(images [B, C, H, W] or events [B, T, 2, H, W],
    float32, labels [B] int64)``.

    Under a Trainer with several processes each gets its share of every batch, so that the batch
    stays what ``batch_size`` says.

    Args:
        batch_size: Images or recordings a batch, over all processes; 1 and up.
        seed: Seed of order and augmentation, 0 and up.
        train_images: Use the first so many images or recordings of the training part; 0 for all.
        val_images: The same for the validation part.
        test_images: The same for the test part.

    Attributes:
        classes: Number of classes.
        statistics: Normalisation constants of images.
        checksum: sha256 of what is in use, after `setup`.
        skipped: How many damaged images or recordings were left out, after `setup`.

    Raises:
        DataError: A number is out of range.
    """

    classes: int
    statistics: Statistics
    checksum: str
    skipped: int = 0

    def __init__(
        self,
        batch_size: int,
        seed: int,
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
        self.batch_size, self.seed = batch_size, seed
        self.counts = {"train": train_images, "val": val_images, "test": test_images}
        for name, count in self.counts.items():
            if count < 0:
                raise DataError(f"{name}_images is {count}: give 0 for all, or a number")
        self._constants: tuple[Tensor, Tensor] | None = None

    def count(self, part: PartName, present: int) -> int:
        """Return how many of the images or recordings of a part are asked for.

        Raises:
            DataError: More than there are.
        """
        if (count := self.counts[part]) > present:
            raise DataError(f"{part}_images is {count}, but there are {present}: give 0 for all")
        return count or present

    def normalised(self, images: Tensor) -> Tensor:
        """Return images of bytes by the data set's `statistics`, see `normalise`."""
        if self._constants is None or self._constants[0].device != images.device:
            mean, std = torch.tensor(self.statistics, device=images.device).view(2, 3, 1, 1)
            self._constants = mean, std
        return normalise(images, *self._constants)

    @abstractmethod
    def size(self, part: PartName) -> int:
        """Return how many images or recordings of a part are in use, after `setup`."""

    @abstractmethod
    def batches(self, part: PartName, share: Share = WHOLE) -> Iterable[tuple[Tensor, ...]]:
        """Return a part's batches, first to last, as they are evaluated: nothing is drawn."""

    @abstractmethod
    def training_batches(self, share: Share = WHOLE) -> Iterable[tuple[Tensor, ...]]:
        """Return the training batches, in a new order every epoch."""

    def train_dataloader(self) -> Iterable[tuple[Tensor, ...]]:
        """Return this process's share of the training batches, in a new order every epoch."""
        share = self._share()
        if share.world > 1:
            self.require_shares(share.world)
        return self.training_batches(share)

    def val_dataloader(self) -> list[Iterable[tuple[Tensor, ...]]]:
        """Return validation (index 0) and test batches (index 1): both are evaluated every epoch.

        The test part never chooses an epoch by itself; a row reports which part chose.
        """
        share = self._share()
        return [self.batches("val", share), self.batches("test", share)]

    def test_dataloader(self) -> Iterable[tuple[Tensor, ...]]:
        """Return the test batches."""
        return self.batches("test", self._share())

    def _share(self) -> Share:
        """Return what this process takes of every batch."""
        trainer = self.trainer
        return WHOLE if trainer is None else Share(trainer.global_rank, trainer.world_size)

    def require_shares(self, world: int) -> None:
        """Refuse more processes than images of every training batch and every part."""
        require_shares({part: self.size(part) for part in PART_NAMES}, self.batch_size, world)


class ImageDataModule(DataModule):
    """Three parts of an image data set, in memory; the model gets normalised float32 batches.

    Under a Trainer on a GPU, the parts are copied there once, and batches are taken from the
    copies: the same batches, and nothing to be moved at every step.

    A batch is ``(images [B, 3, 32, 32] float32, labels [B] int64)``. A subclass sets ``classes``
    and ``statistics`` before or in `load`.

    Args:
        augment: Random crop (padding 4) and horizontal flip of the training images.
        autoaugment: After crop and flip, AutoAugment's CIFAR-10 policy.
        cutout: Side of the square that is cut out before normalisation, pixels; 0 for none.
        base: See `DataModule`.

    Attributes:
        train, val, test: `Part`, after `setup`.
        flip: Whether augmentation mirrors images.

    Raises:
        DataError: A number is out of range.
    """

    train: Part
    val: Part
    test: Part
    flip: bool = True

    def __init__(
        self,
        *,
        augment: bool,
        autoaugment: bool = False,
        cutout: int = 0,
        **base: Unpack[BaseArguments],
    ) -> None:
        """Check and keep the arguments; nothing is read before `setup`."""
        super().__init__(**base)
        if (autoaugment or cutout) and not augment:
            raise DataError("autoaugment and cutout come after crop and flip: give augment=True")
        if not 0 <= cutout <= 2 * SIDE:
            raise DataError(f"cutout is {cutout}: give a side from 0 to {2 * SIDE} pixels")
        self.augment, self.autoaugment, self.cutout = augment, autoaugment, cutout
        self._loaded = False
        self._copies: dict[str, Part] = {}

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
        whole = dict(zip(PART_NAMES, self.load(), strict=True))
        parts = {name: self._first(name, part) for name, part in whole.items()}
        self.train, self.val, self.test = parts.values()
        self.checksum = checksum(parts, self.statistics)
        self._loaded = True

    def _first(self, name: PartName, part: Part) -> Part:
        """Return the images asked for, without keeping the others in memory."""
        count, present = self.count(name, len(part.labels)), len(part.labels)
        return part if count == present else Part(*(tensor[:count].clone() for tensor in part))

    def size(self, part: PartName) -> int:
        """Return how many images of a part are in use, after `setup`."""
        images: Part = getattr(self, part)
        return len(images.labels)

    def batches(self, part: PartName, share: Share = WHOLE) -> BatchLoader:
        """Return a part's batches, first to last."""
        return BatchLoader(self._there(part), self.batch_size, share=share)

    def training_batches(self, share: Share = WHOLE) -> TrainingLoader:
        """Return the training batches, in a new order every epoch."""
        sampler = EpochSampler(
            *(self.size("train"), self.seed, self.augment, self.flip),
            cutout=self.cutout > 0,
            autoaugment=self.autoaugment,
        )
        return TrainingLoader(self._there("train"), self.batch_size, sampler, share=share)

    def first_images(self, count: int) -> Tensor:
        """Return the first training images ``[count, C, H, W]``, normalised, not augmented."""
        part = Part(self.train.images[:count], self.train.labels[:count])
        return self.on_after_batch_transfer(part, 0)[0]

    def _there(self, name: PartName) -> Part:
        """Return a part where the Trainer trains: itself on the CPU, else its one copy there."""
        part: Part = getattr(self, name)
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if device.type == "cpu":
            return part
        if name not in self._copies or self._copies[name].images.device != device:
            self._copies[name] = Part(*(tensor.to(device) for tensor in part))
        return self._copies[name]

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Return normalised images and labels, augmented if what was drawn comes with them.

        Args:
            batch: What a `BatchLoader` yields, on the device.
            dataloader_idx: Not used: whether to augment is said by the batch.
        """
        images, labels, *drawn = batch
        if drawn:
            images = crop_and_flip(images, drawn[0])
            if self.autoaugment:
                images = auto_augment(images, drawn[0][:, -2:])
            if self.cutout:
                cut_out_(images, drawn[0][:, 3:5], self.cutout)
        return self.normalised(images), labels


def find_folder(data_dir: str | Path | None) -> Path:
    """Return the data folder: the argument, else the variable CBP_DATA, else ``data``."""
    return Path(data_dir or os.environ.get("CBP_DATA") or "data").expanduser()


def interleave_classes(recordings: Sequence[Recording]) -> list[Recording]:
    """Return the recordings by (rank within the class, class): any first N are balanced.

    Args:
        recordings: Sorted by path, which gives the ranks.

    >>> a, b, c = Recording(Path("a"), 0), Recording(Path("b"), 0), Recording(Path("c"), 1)
    >>> [recording.path.name for recording in interleave_classes([a, b, c])]
    ['a', 'c', 'b']
    """
    ranks: dict[int, Iterator[int]] = {}
    ranked = [(next(ranks.setdefault(r.label, numbers())), r.label, r) for r in recordings]
    return [recording for *_, recording in sorted(ranked)]
