"""Batches of images in memory, drawn from (seed, epoch, number of the batch) alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.augmentation import draw_centres, draw_crops
from datamodules.auto_augment import draw_operations
from datamodules.process_share import WHOLE, Share

# Random streams of an epoch: its order; batch b draws crops from stream b + 1, and AutoAugment's
# choices from a stream of their own.
_ORDER = 0
_POLICY = 1 << 32


class Part(NamedTuple):
    """One part of a data set.

    Attributes:
        images: ``[N, 3, 32, 32]`` uint8.
        labels: ``[N]`` int64, from 0.
    """

    images: Tensor
    labels: Tensor


def random_stream(seed: int, epoch: int, stream: int) -> torch.Generator:
    """Return a CPU generator that depends on nothing but the three numbers, each 0 and up."""
    state = np.random.SeedSequence((seed, epoch, stream)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


@dataclass
class Sampler:
    """Order of one epoch; Lightning calls `set_epoch`, after a resume too.

    Attributes:
        count: Images or recordings in the part.
        seed: Seed of the run, 0 and up.
        augment: Whether crops or shifts are drawn.
        epoch: The epoch, from 0, that the next iteration yields.
    """

    count: int
    seed: int
    augment: bool
    epoch: int = field(default=0, kw_only=True)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration yields."""
        self.epoch = epoch

    def order(self) -> Tensor:
        """Return the indices of the part in the order of the epoch."""
        return torch.randperm(self.count, generator=random_stream(self.seed, self.epoch, _ORDER))


@dataclass
class EpochSampler(Sampler):
    """Order and crops of one epoch.

    Attributes:
        flip: Whether a crop may be mirrored.
        cutout: Whether centres of cutouts are drawn, too.
        autoaugment: Whether AutoAugment's operations are drawn, too.
    """

    flip: bool
    cutout: bool = False
    autoaugment: bool = False

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield per batch the indices ``[B]`` and what was drawn, or None without augmentation.

        Drawn are the crops ``[B, 3]``, behind them centres of cutouts ``[B, 2]`` if there are any,
        and behind those AutoAugment's operations ``[B, 2]``.
        """
        seed, epoch, order = self.seed, self.epoch, self.order()
        for number, start in enumerate(range(0, self.count, batch_size)):
            indices = order[start : start + batch_size]
            crops = None
            if self.augment:
                stream = random_stream(seed, epoch, number + 1)
                crops = draw_crops(len(indices), stream)
                crops[:, 2] *= self.flip
                if self.cutout:
                    crops = torch.cat([crops, draw_centres(len(indices), stream)], dim=1)
                if self.autoaugment:
                    stream = random_stream(seed, epoch, _POLICY + number)
                    crops = torch.cat([crops, draw_operations(len(indices), stream)], dim=1)
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
        share: What is yielded of every batch.
    """

    part: Part
    batch_size: int
    share: Share = field(default=WHOLE, kw_only=True)

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.share.count_batches(len(self.part.labels), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield (images, labels), uint8 and int64; views, nothing is copied."""
        for batch in self.share.slices(len(self.part.labels), self.batch_size):
            yield tuple(tensor[batch] for tensor in self.part)


@dataclass(frozen=True)
class TrainingLoader(BatchLoader):
    """Batches in the order of the sampler.

    Attributes:
        sampler: Order and crops of every epoch. Lightning looks for `set_epoch` under this name;
            an evaluation loader must not have the attribute, or Lightning takes it for torch's.
    """

    sampler: EpochSampler

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield (images, labels), or (images, labels, drawn) where the model augments them."""
        batches = self.sampler.batches(self.batch_size)
        if (device := self.part.images.device).type != "cpu":
            batches = moved(batches, device)
        for indices, drawn in batches:
            mine = self.share.of(len(indices))
            images, labels = self.part.images[indices[mine]], self.part.labels[indices[mine]]
            yield (images, labels) if drawn is None else (images, labels, drawn[mine])


def moved(
    batches: Iterable[tuple[Tensor, Tensor | None]], device: torch.device
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield what was drawn for an epoch, moved in one go: then no batch waits for the device."""
    indices, drawn = zip(*batches, strict=True)
    sizes = [len(some) for some in indices]
    there = torch.split(torch.cat(indices).to(device), sizes)
    if drawn[0] is None:
        yield from ((some, None) for some in there)
    else:
        yield from zip(there, torch.split(torch.cat(drawn).to(device), sizes), strict=True)
