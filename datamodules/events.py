"""Recordings of an event camera as frames; batches from (seed, epoch, number) alone."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Unpack

import torch
from filelock import FileLock
from torch import Tensor

from datamodules.base import (
    PART_NAMES,
    PARTS_OF_STAGE,
    BaseArguments,
    DataModule,
    PartName,
    Recording,
    find_folder,
    interleave_classes,
)
from datamodules.binning import Binning, FrameShape
from datamodules.errors import DataError
from datamodules.frame_cache import CachedFrames, Reader, load_frames
from datamodules.loaders import Sampler, random_stream
from datamodules.process_share import WHOLE, Share

SIMULATION_FILE: Final = "simulation.json"
# A recording moves by up to so many of so many pixels.
_SHIFT, _SHIFT_SIDE = 5, 128


class Listed:
    """A reader of tonic's over a given list of files, to be mixed into it.

    tonic's own constructors list files in the order of the file system, download from addresses
    that are gone, and require the archive to stay beside the files.

    Args:
        recordings: Files and labels, in the order of their numbers.
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        """Keep the list; nothing is read."""
        self.data = [str(recording.path) for recording in recordings]
        self.targets = [recording.label for recording in recordings]
        self.transform = self.target_transform = self.transforms = None


def shift_and_flip(events: Tensor, drawn: Tensor) -> Tensor:
    """Return every recording mirrored or not, then moved as a whole; what comes in is 0.

    Args:
        events: ``[B, T, 2, H, W]``.
        drawn: ``[B, 3]`` int64: pixels down, pixels to the right, and 1 to mirror, on the same
            device.
    """
    height, width = events.shape[-2:]
    down, right, flip = drawn.unsqueeze(2).unbind(1)  # each [B, 1]
    rows = torch.arange(height, device=events.device) - down  # [B, H], of the source
    columns = torch.arange(width, device=events.device) - right
    rows_inside = (rows >= 0) & (rows < height)
    columns_inside = (columns >= 0) & (columns < width)
    columns = torch.where(flip.bool(), width - 1 - columns, columns).clamp(0, width - 1)
    rows = rows.clamp(0, height - 1)
    events = events.gather(3, rows[:, None, None, :, None].expand_as(events))
    events = events.gather(4, columns[:, None, None, None, :].expand_as(events))
    inside = rows_inside[:, :, None] & columns_inside[:, None, :]
    return events * inside[:, None, None]


@dataclass
class RecordingSampler(Sampler):
    """Order, frames and shifts of one epoch.

    Attributes:
        time_steps: Frames of a recording.
        train_steps: Frames of them in use.
        shift: Greatest shift, pixels of a frame.
        flip: Whether a recording may be mirrored.
    """

    time_steps: int
    train_steps: int
    shift: int
    flip: bool

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield per batch the indices ``[B]``, the frames in use, ascending, and what was drawn.

        Drawn are ``[B, 3]``, see `shift_and_flip`, or None without augmentation.
        """
        seed, epoch, order = self.seed, self.epoch, self.order()
        for number, start in enumerate(range(0, self.count, batch_size)):
            indices = order[start : start + batch_size]
            stream = random_stream(seed, epoch, number + 1)  # the order has stream 0
            steps = torch.randperm(self.time_steps, generator=stream)[: self.train_steps]
            drawn = self._draw(len(indices), stream) if self.augment else None
            yield indices, steps.sort().values, drawn

    def _draw(self, count: int, stream: torch.Generator) -> Tensor:
        """Return ``[count, 3]`` int64 for `shift_and_flip`."""
        moves = torch.randint(-self.shift, self.shift + 1, (count, 2), generator=stream)
        flips = torch.randint(0, 2, (count, 1), generator=stream) * self.flip
        return torch.cat([moves, flips], dim=1)


@dataclass(frozen=True)
class RecordingLoader:
    """Batches of a part, from first to last, with all frames; the last, incomplete one is kept.

    Attributes:
        part: Frames, mapped from the disk, and labels.
        batch_size: Recordings a batch.
        share: What is yielded of every batch.
    """

    part: CachedFrames
    batch_size: int
    share: Share = field(default=WHOLE, kw_only=True)

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.share.count_batches(len(self.part.labels), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield (frames ``[B, T, 2, H, W]`` int16, labels ``[B]`` int64), read at that moment."""
        for batch in self.share.slices(len(self.part.labels), self.batch_size):
            yield (
                torch.from_numpy(self.part.frames[batch].copy()),
                torch.from_numpy(self.part.labels[batch].copy()),
            )


@dataclass(frozen=True)
class TrainingRecordingLoader(RecordingLoader):
    """Batches in the order of the sampler, only the frames in use.

    Attributes:
        sampler: Order, frames and shifts of every epoch. Lightning looks for `set_epoch` under
            this name.
    """

    sampler: RecordingSampler

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield (frames, labels), or (frames, labels, drawn) where recordings are augmented."""
        for indices, steps, drawn in self.sampler.batches(self.batch_size):
            mine = self.share.of(len(indices))
            chosen = indices[mine].numpy()
            # A copy of the chosen frames: nothing else is read from the disk.
            frames = self.part.frames[chosen[:, None], steps.numpy()]
            batch = torch.from_numpy(frames), torch.from_numpy(self.part.labels[chosen])
            yield batch if drawn is None else (*batch, drawn[mine])


class EventDataModule(DataModule):
    """Three parts of a set of recordings; the model gets ``events [B, T, 2, H, W]`` float32.

    A subclass says what the real data set is called and where it comes from. A data set of the
    same layout under another name is a simulated one: it is complete when its folder has a
    ``simulation.json``, which states the side of its sensor.

    Args:
        time_steps: Frames of a recording, T.
        name: Name of the data set; None for the real one.
        data_dir: Folder above the data set's; None stands for the variable CBP_DATA, and without
            that for ``data``.
        train_steps: Frames of T used in training, chosen anew for every batch; 0 for all.
        binning: ``count``: every frame has the same number of events; ``time``: the same duration.
        spatial_pool: Events of so many by so many pixels fall into one.
        augment: Move training recordings by up to 5 of 128 pixels, and mirror them where
            ``flip`` says so.
        skip_damaged: Leave damaged recordings out, with a line on standard error.
        sensor_side: Side of the sensor, pixels; 0 for 128, or what a simulated data set states.
        make: Makes the simulated data set in the folder it is given; it must do nothing where the
            same one is, and raise a DataError where another one is.
        base: See `DataModule`. Any first N recordings of a part, damaged ones among them, are
            balanced over the classes.

    Attributes:
        shape: How recordings become frames, after `setup`.
        parts: Frames and labels of every part that `setup` loaded.
        checksum: sha256 of frames and labels in use and of their shape, after `setup`.
        partial: Set it to list what is there of the real data set, for a look.

    Raises:
        DataError: A number is out of range.
    """

    real_name: ClassVar[str]
    real_folder: ClassVar[str]
    real_side: ClassVar[int] = 128
    flip: ClassVar[bool] = True
    partial: bool = False
    name: str
    shape: FrameShape

    def __init__(
        self,
        *,
        time_steps: int,
        name: str | None = None,
        data_dir: str | Path | None = None,
        train_steps: int = 0,
        binning: Binning = "count",
        spatial_pool: int = 1,
        augment: bool = False,
        skip_damaged: bool = False,
        sensor_side: int = 0,
        make: Callable[[Path], object] | None = None,
        **base: Unpack[BaseArguments],
    ) -> None:
        """Check and keep the arguments; nothing is read before `setup`."""
        super().__init__(**base)
        self.name = name or self.real_name
        self.folder = find_folder(data_dir) / (self.name if self.simulated else self.real_folder)
        self.time_steps, self.binning, self.spatial_pool = time_steps, binning, spatial_pool
        self._shape_on(sensor_side or max(1, spatial_pool))  # refuses what suits no sensor
        if not 0 <= train_steps <= time_steps:
            raise DataError(f"train_steps is {train_steps}: give 0 for all, or up to {time_steps}")
        self.train_steps = train_steps or time_steps
        self.augment, self.skip_damaged = augment, skip_damaged
        self.sensor_side, self.make = sensor_side, make
        self.parts: dict[PartName, CachedFrames] = {}

    @abstractmethod
    def obtain(self, parts: Sequence[PartName]) -> None:
        """Download what these parts of the real data set need and is not there.

        Raises:
            DataError: It cannot be downloaded; the message says how to get it by hand.
        """

    @abstractmethod
    def listing(self, part: PartName) -> list[Recording]:
        """Return a part's recordings, sorted by path."""

    @abstractmethod
    def reader(self, recordings: Sequence[Recording]) -> Reader:
        """Return what reads these recordings, by their number."""

    @property
    def simulated(self) -> bool:
        """Whether the data set is not the real one."""
        return self.name != self.real_name

    def setup(self, stage: str = "") -> None:
        """Load the parts that a stage of Lightning needs, each once; all without a stage."""
        wanted = PARTS_OF_STAGE.get(stage, PART_NAMES)
        missing = [part for part in wanted if part not in self.parts]
        if not missing:
            return
        self.shape = self._shape_on(self._find(missing))
        for part in missing:
            self.parts[part] = self._load(part)
        self.checksum = self._checksum()
        self.skipped = sum(len(part.skipped) for part in self.parts.values())

    def _shape_on(self, sensor_side: int) -> FrameShape:
        """Return how recordings of such a sensor become frames."""
        return FrameShape(self.time_steps, self.binning, sensor_side, self.spatial_pool)

    def _find(self, parts: Sequence[PartName]) -> int:
        """Return the side of the sensor, after the data set is there."""
        if self.simulated:
            stated = self._simulate()
        else:
            self.obtain(parts)
            stated = self.sensor_side or self.real_side
        if self.sensor_side not in (0, stated):
            raise DataError(
                f"sensor_side is {self.sensor_side}, but {self.folder / SIMULATION_FILE} states"
                f" {stated}: give that, or delete the folder to simulate again"
            )
        return stated

    def _simulate(self) -> int:
        """Make the simulated data set if it is absent; return the side it states."""
        complete = self.folder / SIMULATION_FILE
        if self.make is not None:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder.with_name(f"{self.folder.name}.lock")):
                self.make(self.folder)  # does nothing where the same one is
        elif not complete.is_file():
            raise DataError(
                f"{self.name} is not in {self.folder} (no {SIMULATION_FILE}): simulate it"
                " there, or name the folder that has it by --data-dir or CBP_DATA"
            )
        try:
            return int(json.loads(complete.read_text())["sensor_side"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{complete} does not state sensor_side ({error!r}):"
                f" delete {self.folder} and simulate again"
            ) from error

    def _load(self, part: PartName) -> CachedFrames:
        """Return the frames of the recordings in use."""
        recordings = interleave_classes(self.listing(part))
        if not recordings:
            raise DataError(
                f"{self.name} has no {part} recordings in {self.folder}: put them there"
            )
        recordings = recordings[: self.count(part, len(recordings))]
        folder = self.folder.parent / "cache" / self.name
        reader = self.reader(recordings)
        return load_frames(folder, recordings, reader, self.folder, self.shape, self.skip_damaged)

    def _checksum(self) -> str:
        """Return the sha256, in hex, of shape, frames and labels; the frames' are in the cache."""
        digest = hashlib.sha256(repr(self.shape).encode())
        for name in sorted(self.parts):
            part = self.parts[name]
            digest.update(f"{name} {len(part.labels)}".encode())
            digest.update("".join(part.digests).encode())
            digest.update(part.labels.tobytes())
        return digest.hexdigest()

    def size(self, part: PartName) -> int:
        """Return how many recordings of a part are in use, after `setup`."""
        return len(self.parts[part].labels)

    def batches(self, part: PartName, share: Share = WHOLE) -> RecordingLoader:
        """Return a part's batches, first to last, with all T frames."""
        return RecordingLoader(self.parts[part], self.batch_size, share=share)

    def training_batches(self, share: Share = WHOLE) -> TrainingRecordingLoader:
        """Return the training batches, in a new order and with other frames every epoch."""
        shift = max(1, round(_SHIFT * self.shape.side / _SHIFT_SIDE))
        sampler = RecordingSampler(
            count=self.size("train"),
            seed=self.seed,
            time_steps=self.shape.time_steps,
            train_steps=self.train_steps,
            augment=self.augment,
            shift=shift,
            flip=self.flip,
        )
        train = self.parts["train"]
        return TrainingRecordingLoader(train, self.batch_size, sampler, share=share)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Return events and labels, augmented if what was drawn comes with them.

        Args:
            batch: What a `RecordingLoader` yields, on the device.
            dataloader_idx: Not used: whether to augment is said by the batch.

        Returns:
            Events ``[B, T, 2, H, W]`` float32, counts from 0, and labels ``[B]`` int64.
        """
        frames, labels, *drawn = batch
        events = frames.to(torch.float32)
        return (shift_and_flip(events, drawn[0]) if drawn else events), labels
