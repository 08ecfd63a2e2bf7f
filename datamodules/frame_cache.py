"""Frames of a part, binned once into one uncompressed file that is mapped into memory."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from tqdm import tqdm

from datamodules.base import Recording
from datamodules.binning import (
    DamagedRecordingError,
    Events,
    Frames,
    FrameShape,
    bin_events,
    check_events,
)
from datamodules.errors import DataError

FORMAT: Final = 1  # of the two files; part of the key
FRAMES_FILE: Final = "frames.int16"
INDEX_FILE: Final = "index.json"
DTYPE: Final = np.dtype("<i2")


class Reader(Protocol):
    """Events by number of the recording, as a data set of tonic yields them."""

    def __getitem__(self, index: int) -> tuple[Events, int]:
        """Return the events, a structured array of x, y, t (us) and p, and the label."""


class CachedFrames(NamedTuple):
    """Frames of a part.

    Attributes:
        frames: ``[N, T, 2, H, W]`` int16, mapped from the disk, read only.
        labels: ``[N]`` int64.
        digests: sha256 of every recording's frames.
        skipped: Path, in its data set, and reason of every recording that was left out.
    """

    frames: Frames
    labels: npt.NDArray[np.int64]
    digests: list[str]
    skipped: list[tuple[str, str]]


def cache_key(recordings: Sequence[Recording], root: Path, shape: FrameShape) -> str:
    """Return 16 hex digits of all that the frames depend on.

    These are the shape, tonic's version, and path below the root, label, size and time of change of
    every file.
    """
    digest = hashlib.sha256(f"{FORMAT} {version('tonic')} {shape}\n".encode())
    for path, label in recordings:
        stat = path.stat()
        name = path.relative_to(root).as_posix()
        digest.update(f"{name} {label} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def load_frames(
    folder: Path,
    recordings: Sequence[Recording],
    reader: Reader,
    root: Path,
    shape: FrameShape,
    skip_damaged: bool,
) -> CachedFrames:
    """Return the frames from the cache; what is not there is binned first, by one process.

    Args:
        folder: Cache of the data set; every key has a folder of its own in it.
        recordings: In their order.
        reader: Yields the events of recording ``i``.
        root: Folder of the data set.
        shape: How they become frames.
        skip_damaged: Leave damaged recordings out, with one line on standard error.

    Raises:
        DataError: A recording is damaged, the disk too small, or the cache itself damaged.
    """
    entry = folder / cache_key(recordings, root, shape)
    try:
        if not entry.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{entry.name}.lock"):
                if not entry.is_dir():  # another process may have been faster
                    _write(entry, recordings, reader, root, shape, skip_damaged)
    except OSError as error:
        raise DataError(
            f"the cache {folder} cannot be written ({error}): make the folder writable and leave"
            " room in it, or name another data folder by --data-dir or CBP_DATA"
        ) from error
    cached = _open(entry, shape)
    if cached.skipped:
        _report(cached.skipped, root, len(recordings), skip_damaged)
    return cached


def _write(
    entry: Path,
    recordings: Sequence[Recording],
    reader: Reader,
    root: Path,
    shape: FrameShape,
    skip_damaged: bool,
) -> None:
    """Bin into a temporary folder, then give it its name; call it under the lock."""
    _require_space(entry.parent, len(recordings) * int(np.prod(shape.frames)) * DTYPE.itemsize)
    temporary = entry.with_name(f"{entry.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was stopped
    temporary.mkdir()
    index: dict[str, list[Any]] = {"labels": [], "sha256": [], "skipped": []}
    try:
        with (temporary / FRAMES_FILE).open("wb") as file:
            bar = tqdm(recordings, desc=f"binning {entry.parent.name}", disable=None, leave=False)
            for number, (path, label) in enumerate(bar):
                try:
                    frames = read_frames(reader, number, shape).astype(DTYPE, copy=False)
                except DamagedRecordingError as damage:
                    index["skipped"].append((path.relative_to(root).as_posix(), str(damage)))
                    if not skip_damaged:
                        _report(index["skipped"], root, len(recordings), skip_damaged)
                    continue
                file.write(frames.data)
                index["labels"].append(label)
                index["sha256"].append(hashlib.sha256(frames.data).hexdigest())
        (temporary / INDEX_FILE).write_text(json.dumps(index))
        os.rename(temporary, entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_frames(reader: Reader, number: int, shape: FrameShape) -> Frames:
    """Return the frames of recording ``number``, ``[T, 2, H, W]`` int16.

    Raises:
        DamagedRecordingError: It cannot be read, or `check_events` refuses it.
    """
    events = read_events(reader, number)
    check_events(events, shape)
    return bin_events(events, shape)


def read_events(reader: Reader, number: int) -> Events:
    """Return the events of recording ``number``, unchecked.

    Raises:
        DamagedRecordingError: It cannot be read.
    """
    try:
        return reader[number][0]
    except (DamagedRecordingError, MemoryError):
        raise
    except Exception as error:  # tonic and its readers raise every kind, Exception itself, too
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedRecordingError(f"it cannot be read ({reason})") from error


def _open(entry: Path, shape: FrameShape) -> CachedFrames:
    """Map an entry of the cache."""
    path = entry / FRAMES_FILE
    try:
        index = json.loads((entry / INDEX_FILE).read_text())
        labels = np.array(index["labels"], dtype=np.int64)
        skipped = [(name, reason) for name, reason in index["skipped"]]
        whole = (len(labels), *shape.frames)
        complete = path.stat().st_size == int(np.prod(whole)) * DTYPE.itemsize
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise DataError(f"the cache {entry} is damaged ({error}): delete that folder") from error
    if not complete:
        raise DataError(f"the cache {entry} is damaged ({path.name} cut): delete that folder")
    if not len(labels):  # an empty file cannot be mapped
        return CachedFrames(np.empty(whole, dtype=DTYPE), labels, [], skipped)
    frames = np.memmap(path, dtype=DTYPE, mode="r", shape=whole)
    return CachedFrames(frames, labels, index["sha256"], skipped)


def _report(skipped: list[tuple[str, str]], root: Path, count: int, skip_damaged: bool) -> None:
    """Say which recordings are damaged: on standard error if they are skipped, else as an error."""
    if not skip_damaged:
        name, reason = skipped[0]
        raise DataError(
            f"{root / name} is damaged: {reason};"
            " restore it from a good copy, or leave such recordings out by --skip-damaged"
        )
    named = ", ".join(f"{name} ({reason})" for name, reason in skipped)
    if len(skipped) == count:
        raise DataError(f"all {count} recordings of a part in {root} are damaged: {named}")
    print(f"left out {len(skipped)} of {count} recordings in {root}: {named}", file=sys.stderr)


def _require_space(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold, ``needed`` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"the frames need {needed / 1e9:.1f} GB in {folder}, and {free / 1e9:.1f} GB are free:"
            " make room, or use fewer recordings, fewer time_steps or a larger spatial_pool"
        )
