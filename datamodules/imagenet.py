"""ImageNet 2012 through torchvision; images are decoded by threads, ahead of the model."""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Unpack

import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageNet
from torchvision.datasets.imagenet import ARCHIVE_META
from torchvision.transforms import functional as F

from datamodules.base import (
    PART_NAMES,
    PARTS_OF_STAGE,
    BaseArguments,
    DataModule,
    PartName,
    Recording,
    Statistics,
    find_folder,
    interleave_classes,
)
from datamodules.errors import DataError
from datamodules.loaders import Sampler, random_stream
from datamodules.process_share import WHOLE, Share

SIDE: Final = 224
RESIZED: Final = 256  # shorter side before the centre crop
AREA: Final = (0.08, 1.0)  # of the image that a random crop covers
ASPECT: Final = (3 / 4, 4 / 3)
ATTEMPTS: Final = 10
STATISTICS: Final = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZES: Final = {"train": "138 GB", "val": "6.3 GB", "devkit": "2.5 MB"}
ADDRESS: Final = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
AHEAD: Final = 2  # batches that are decoded while the model is at work


def draw_crop(width: int, height: int, stream: torch.Generator) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop, as torchvision draws it.

    Args:
        width: Of the image, pixels.
        height: Of the image, pixels.
        stream: Instead of the global generator, on which threads would not agree.

    References:
        torchvision's ``RandomResizedCrop.get_params`` with its defaults.
    """
    low, high = (math.log(ratio) for ratio in ASPECT)
    for _ in range(ATTEMPTS):
        area = width * height * torch.empty(1).uniform_(*AREA, generator=stream).item()
        aspect = math.exp(torch.empty(1).uniform_(low, high, generator=stream).item())
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(0, height - h + 1, (1,), generator=stream))
            left = int(torch.randint(0, width - w + 1, (1,), generator=stream))
            return top, left, h, w
    w, h = width, height  # the largest crop in the middle that the aspects allow
    if width / height < ASPECT[0]:
        h = round(width / ASPECT[0])
    elif width / height > ASPECT[1]:
        w = round(height * ASPECT[1])
    return (height - h) // 2, (width - w) // 2, h, w


def read_image(path: Path) -> Image.Image:
    """Return the image in RGB.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:  # of Pillow's errors, UnidentifiedImageError is one, too
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} is damaged: it cannot be read ({reason}); extract it from the archive again"
        ) from error


def training_image(path: Path, stream: torch.Generator) -> Tensor:
    """Return a random crop, resized and mirrored or not, ``[3, 224, 224]`` uint8."""
    image = read_image(path)
    image = F.resized_crop(image, *draw_crop(*image.size, stream), [SIDE, SIDE], antialias=True)
    if torch.rand(1, generator=stream).item() < 0.5:
        image = F.hflip(image)
    pixels: Tensor = F.pil_to_tensor(image)
    return pixels


def evaluation_image(path: Path) -> Tensor:
    """Return the centre of the image, whose shorter side is 256 first, ``[3, 224, 224]`` uint8."""
    resized = F.resize(read_image(path), RESIZED, antialias=True)
    pixels: Tensor = F.pil_to_tensor(F.center_crop(resized, [SIDE, SIDE]))
    return pixels


class ImageSampler(Sampler):
    """Order and crops of one epoch."""

    def read(self, path: Path, index: int, epoch: int) -> Tensor:
        """Return image ``index`` as an epoch shows it."""
        if not self.augment:
            return evaluation_image(path)
        # The order has stream 0.
        return training_image(path, random_stream(self.seed, epoch, index + 1))


@dataclass(frozen=True)
class DecodingLoader:
    """Batches of a part, from first to last; threads decode two batches ahead.

    Attributes:
        images: Files and labels.
        batch_size: Images a batch.
        workers: Threads.
        share: What is decoded and yielded of every batch.
    """

    images: Sequence[Recording]
    batch_size: int
    workers: int
    share: Share = field(default=WHOLE, kw_only=True)

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.share.count_batches(len(self.images), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield (images ``[B, 3, 224, 224]`` uint8, labels ``[B]`` int64)."""
        return self._decode(range(len(self.images)), lambda i: evaluation_image(self._path(i)))

    def _path(self, index: int) -> Path:
        """Return the file of an image."""
        return self.images[index].path

    def _decode(
        self, order: Sequence[int], read: Callable[[int], Tensor]
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of an order; a loop that is left early waits for nothing else."""
        waiting: deque[tuple[Sequence[int], list[Future[Tensor]]]] = deque()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="decode") as pool:
            try:
                for batch in self.share.slices(len(order), self.batch_size):
                    indices = order[batch]
                    waiting.append((indices, [pool.submit(read, index) for index in indices]))
                    if len(waiting) > AHEAD:
                        yield self._collect(*waiting.popleft())
                while waiting:
                    yield self._collect(*waiting.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _collect(
        self, indices: Sequence[int], images: list[Future[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Return one batch when its images are decoded."""
        labels = torch.tensor([self.images[index].label for index in indices])
        return torch.stack([image.result() for image in images]), labels


@dataclass(frozen=True)
class TrainingDecodingLoader(DecodingLoader):
    """Batches in the order of the sampler.

    Attributes:
        sampler: Order and crops of every epoch. Lightning looks for `set_epoch` under this name.
    """

    sampler: ImageSampler

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield (images ``[B, 3, 224, 224]`` uint8, labels ``[B]`` int64)."""
        sampler, epoch = self.sampler, self.sampler.epoch
        return self._decode(
            sampler.order().tolist(), lambda i: sampler.read(self._path(i), i, epoch)
        )


class ImageNetDataModule(DataModule):
    """ImageNet 2012: 1,231,167 training, 50,000 validation and 50,000 test images, 1,000 classes.

    Test are the official validation images, whose labels alone are public; validation are the last
    50 training images of every class by file name. Each part is ordered by (rank within the class,
    class). ``<data folder>/imagenet`` holds the archives, or what torchvision made of them:
    ``meta.bin``, ``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG``.

    A batch is ``(images [B, 3, 224, 224] float32, labels [B] int64)``, normalised.

    Args:
        augment: Random crop, resized, and horizontal flip of the training images; without it, they
            are shown as in evaluation: shorter side 256, centre crop.
        data_dir: Folder above; None stands for the variable CBP_DATA, and without that for
            ``data``.
        workers: Threads that decode, 1 and up.
        base: See `DataModule`.

    Attributes:
        images: Files and labels of every part that `setup` loaded.
        checksum: sha256 of names, sizes and labels of the files in use (their content would be
            145 GB to read), after `setup`.

    Raises:
        DataError: A number is out of range.

    References:
        Preprocessing: He et al., CVPR 2016, as in torchvision's reference training.
    """

    classes = 1_000
    statistics = STATISTICS
    val_per_class: ClassVar[int] = 50
    official: ClassVar[dict[str, int]] = {"train": 1_281_167, "val": 50_000}  # images

    def __init__(
        self,
        *,
        augment: bool,
        data_dir: str | Path | None = None,
        workers: int = 4,
        **base: Unpack[BaseArguments],
    ) -> None:
        """Check and keep the arguments; nothing is read before `setup`."""
        super().__init__(**base)
        if workers < 1:
            raise DataError(f"workers is {workers}: give 1 or more")
        self.augment, self.workers = augment, workers
        self.folder = find_folder(data_dir) / "imagenet"
        self.images: dict[PartName, list[Recording]] = {}

    def setup(self, stage: str = "") -> None:
        """List the parts that a stage of Lightning needs, each once; all without a stage."""
        wanted = PARTS_OF_STAGE.get(stage, PART_NAMES)
        missing = [part for part in wanted if part not in self.images]
        if not missing:
            return
        if "test" in missing:
            self.images["test"] = self._first("test", self._listing("val"))
        if set(missing) - {"test"}:
            train, val = self._hold_out(self._listing("train"))
            self.images["train"] = self._first("train", train)
            self.images["val"] = self._first("val", val)
        self.checksum = self._checksum()

    def _listing(self, split: str) -> list[Recording]:
        """Return the images of an official split, sorted by path; archives there are extracted."""
        try:
            found = ImageNet(self.folder, split=split)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            needed = " and ".join(
                f"{ARCHIVE_META[key][0]} ({SIZES[key]}, md5 {ARCHIVE_META[key][1]})"
                for key in ("devkit", split)
            )
            raise DataError(
                f"imagenet ({split}) is not in {self.folder} ({reason}): register at {ADDRESS}"
                f" and put {needed} into that folder, or name the folder above one that has them"
                " by --data-dir or CBP_DATA"
            ) from error
        if len(found.samples) != self.official[split]:
            raise DataError(
                f"{found.split_folder} has {len(found.samples)} images, not"
                f" {self.official[split]}: delete it, and run again with"
                f" {ARCHIVE_META[split][0]} in {self.folder} to extract that"
            )
        return sorted(Recording(Path(path), label) for path, label in found.samples)

    def _hold_out(self, listed: list[Recording]) -> tuple[list[Recording], list[Recording]]:
        """Return training and validation images: of every class, the last by name validate."""
        by_class: dict[int, list[Recording]] = {}
        for image in listed:
            by_class.setdefault(image.label, []).append(image)
        train = [image for images in by_class.values() for image in images[: -self.val_per_class]]
        val = [image for images in by_class.values() for image in images[-self.val_per_class :]]
        return train, val

    def _first(self, part: PartName, images: list[Recording]) -> list[Recording]:
        """Return the images asked for, balanced over the classes."""
        return interleave_classes(images)[: self.count(part, len(images))]

    def _checksum(self) -> str:
        """Return the sha256, in hex, of names, sizes and labels in use and of the constants."""
        digest = hashlib.sha256(repr((tuple(STATISTICS), SIDE, RESIZED)).encode())
        for part in sorted(self.images):
            for path, label in self.images[part]:
                name = path.relative_to(self.folder).as_posix()
                digest.update(f"{part} {name} {path.stat().st_size} {label}\n".encode())
        return digest.hexdigest()

    def size(self, part: PartName) -> int:
        """Return how many images of a part are in use, after `setup`."""
        return len(self.images[part])

    def batches(self, part: PartName, share: Share = WHOLE) -> DecodingLoader:
        """Return a part's batches, first to last."""
        return DecodingLoader(self.images[part], self.batch_size, self.workers, share=share)

    def training_batches(self, share: Share = WHOLE) -> TrainingDecodingLoader:
        """Return the training batches, in a new order every epoch."""
        sampler = ImageSampler(self.size("train"), self.seed, self.augment)
        images = self.images["train"]
        return TrainingDecodingLoader(images, self.batch_size, self.workers, sampler, share=share)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Return normalised images and labels.

        Args:
            batch: What a `DecodingLoader` yields, on the device.
            dataloader_idx: Not used: all loaders yield the same.
        """
        images, labels = batch
        return self.normalised(images), labels
