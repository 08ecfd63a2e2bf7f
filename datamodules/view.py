"""What is in a recording, in words and as frames: of a data set, or a file of one's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from datamodules.base import PART_NAMES, Recording
from datamodules.binning import DamagedRecordingError, Events, FrameShape, check_events
from datamodules.catalogue import DATA_SETS, make_datamodule
from datamodules.cifar10_dvs import SortedCifar10Dvs
from datamodules.dvs128_gesture import SortedDvsGesture
from datamodules.errors import DataError
from datamodules.events import EventDataModule
from datamodules.frame_cache import Reader, read_events
from datamodules.nmnist import SortedNmnist
from datamodules.simulation.figure import (
    FORMATS,
    animate_frames,
    bin_events,
    draw_frames,
    require_format,
    sensor_side,
)

Rows = npt.NDArray[np.int64]

ANIMATION: Final = ".gif"
LARGEST_SIDE: Final = 2_048  # pixels of a picture; beyond it coordinates are garbage
POLARITY_FIELDS: Final = ("p", "on", "polarity")


class FieldsReader:
    """Reads NumPy files with fields x, y, t (us) and p, or tables as DVS128 Gesture has them."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        """Keep the list; nothing is read."""
        self.recordings = recordings

    def __getitem__(self, index: int) -> tuple[Events, int]:
        """Return events and label.

        Raises:
            DamagedRecordingError: It is neither.
        """
        path, label = self.recordings[index]
        events: Any = np.load(path)
        if events.dtype.names is None:
            return SortedDvsGesture([self.recordings[index]])[0]
        polarity = [name for name in POLARITY_FIELDS if name in events.dtype.names]
        if not {"x", "y", "t"} <= set(events.dtype.names) or not polarity or events.ndim != 1:
            raise DamagedRecordingError(
                f"its fields are {', '.join(events.dtype.names)}: x, y, t and p are needed"
            )
        columns = dict(zip("xytp", ("x", "y", "t", polarity[0]), strict=True))
        for field in columns.values():
            if events.dtype[field].kind not in "iub":
                raise DamagedRecordingError(
                    f"its field {field} is {events.dtype[field]}: whole numbers are needed, t in us"
                )
        found = np.empty(len(events), [(name, events.dtype[of]) for name, of in columns.items()])
        for name, of in columns.items():
            found[name] = events[of]
        return found, label


class DatReader:
    """Reads Prophesee's DAT files through faery."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        """Keep the list; nothing is read."""
        self.recordings = recordings

    def __getitem__(self, index: int) -> tuple[Events, int]:
        """Return events and label."""
        import faery

        path, label = self.recordings[index]
        events: Any = faery.events_stream_from_file(path).to_array()
        return events.astype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")]), label


READERS: Final[dict[str, Callable[[Sequence[Recording]], Reader]]] = {
    ".npy": FieldsReader,
    ".bin": SortedNmnist,
    ".aedat4": SortedCifar10Dvs,
    ".aedat": SortedCifar10Dvs,
    ".dat": DatReader,
}


@dataclass(frozen=True)
class Viewed:
    """One recording.

    Attributes:
        name: For people.
        rows: ``[N, 4]`` x, y, polarity (1 for brighter) and time (us), as they follow in the file.
        sensor_side: Pixels; 0 if that is unknown.
    """

    name: str
    rows: Rows
    sensor_side: int = 0

    @property
    def side(self) -> int:
        """Side of a picture of it, pixels: the sensor's, else the smallest that holds all events.

        Raises:
            DataError: No picture is so large.
        """
        side = self.sensor_side or max(1, int(self.rows[:, :2].max()) + 1)
        if side > LARGEST_SIDE:
            raise DataError(f"{self.name} has a pixel at {side - 1}: too large for a picture")
        return side

    def frames(self, steps: int) -> Rows:
        """Return brighter minus darker events a pixel, ``[steps, side, side]``.

        Events are put into the order of their times first; those beyond the sensor are left out.
        """
        ordered = self.rows[np.argsort(self.rows[:, 3], kind="stable")]
        inside = ((ordered[:, :2] >= 0) & (ordered[:, :2] < self.side)).all(1)
        if not inside.any():
            return np.zeros((steps, self.side, self.side), np.int64)
        return bin_events(ordered[inside], steps, self.side)

    def in_words(self, steps: int) -> dict[str, str]:
        """Return what is in it, each by its name.

        Args:
            steps: Frames that it is to become.
        """
        x, y, p, t = self.rows.T
        duration = int(t.max() - t.min())
        rate = f"{len(t) / duration * 1e6:,.0f} per s" if duration else "all at once"
        return {
            "events": f"{len(t):,}",
            "duration": f"{duration / 1e3:,.1f} ms from {t.min():,} us",
            "rate": rate,
            "polarity": f"{100 * p.mean():.1f} % brighter",
            "order": _order(t),
            "range": f"x {x.min()} to {x.max()}, y {y.min()} to {y.max()}",
            "busiest pixel": _busiest(x, y),
            "as frames": self._as_frames(steps),
        }

    def _as_frames(self, steps: int) -> str:
        """Return what a run would say of it: how many events a frame has, or what is wrong."""
        events = np.empty(len(self.rows), [(name, "<i8") for name in "xypt"])
        for column, name in zip(self.rows.T, "xypt", strict=True):
            events[name] = column
        side = self.sensor_side or max(1, int(self.rows[:, :2].max()) + 1)
        try:
            check_events(events, FrameShape(steps, "count", side, 1))
        except DamagedRecordingError as damage:
            return f"refused: {damage}"
        return f"{len(events) // steps:,} events each"


def _order(times: Rows) -> str:
    """Return whether times rise, in words."""
    back = np.flatnonzero(times[1:] < times[:-1])
    if not len(back):
        return "times rise"
    most = int((times[back] - times[back + 1]).max())
    return f"back {len(back):,} times, first at event {back[0] + 1:,}, by up to {most:,} us"


def _busiest(x: Rows, y: Rows) -> str:
    """Return the pixel with most events, in words."""
    pixels, counts = np.unique(np.stack([x, y], 1), axis=0, return_counts=True)
    most = int(counts.argmax())
    share = counts[most] / len(x)
    return f"x {pixels[most][0]}, y {pixels[most][1]}: {100 * share:.1f} %"


def view_file(path: Path) -> Viewed:
    """Return a recording of one's own, by the ending of its name.

    A NumPy file has fields x, y, t (us) and p, or is a table of x, y, polarity and time in ms, as
    DVS128 Gesture has them; ``.bin`` is N-MNIST's format, ``.aedat`` AEDAT 2.0 of a DVS128,
    ``.aedat4`` AEDAT4, ``.dat`` Prophesee's.

    Raises:
        DataError: The format is unknown, it cannot be read, or it has no events.
        OSError: The file cannot be opened.
    """
    if path.suffix not in READERS:
        raise DataError(f"{path} is not a recording: give one that ends in {', '.join(READERS)}")
    path.open("rb").close()
    return _view(READERS[path.suffix]([Recording(path, 0)]), path, path.name)


def _view(reader: Reader, path: Path, name: str, side: int = 0) -> Viewed:
    """Return the first recording of a reader.

    Raises:
        DataError: It cannot be read, or it has no events.
    """
    try:
        events = read_events(reader, 0)
        if not len(events):
            raise DamagedRecordingError("it has no events")
    except DamagedRecordingError as damage:
        raise DataError(f"{path} is damaged: {damage}; restore it from a good copy") from damage
    rows = np.stack([events[field].astype(np.int64) for field in "xypt"], axis=1)
    return Viewed(name, rows, side)


def view_data_set(name: str, number: int, data_dir: Path | None) -> tuple[str, list[Viewed]]:
    """Return what is there of a data set, in words, and one recording of every class.

    Nothing is downloaded or simulated.

    Args:
        name: Key of the catalogue.
        number: Which recording of every class, from 0, in the order of training, validation and
            test, and of the files; classes with fewer are left out.
        data_dir: See `find_folder`.

    Raises:
        DataError: It has images, none of it is there, or a recording is damaged.
    """
    found = DATA_SETS[name]
    if found.items != "recordings":
        others = ", ".join(other for other, one in DATA_SETS.items() if one.items == "recordings")
        raise DataError(f"{name} has images, not recordings: give one of {others}")
    defaults = {"batch_size": 1, "seed": 0, "time_steps": 1, "binning": "count", "spatial_pool": 1}
    given = {**dict.fromkeys(found.takes, 0), **defaults, "data_dir": data_dir}
    module = make_datamodule(name, given)
    assert isinstance(module, EventDataModule)
    module.partial = True
    parts = {part: module.listing(part) for part in PART_NAMES}
    classes: dict[int, list[Recording]] = {}
    for recording in (one for listed in parts.values() for one in listed):
        classes.setdefault(recording.label, []).append(recording)
    chosen = [classes[label][number] for label in sorted(classes) if number < len(classes[label])]
    if not chosen:
        where = f"number {number} of any class" if classes else "recordings"
        raise DataError(
            f"{name} has no {where} in {module.folder}: docs/data.md says how to get it"
        )
    counts = ", ".join(f"{len(listed):,} {part}" for part, listed in parts.items())
    side = sensor_side(module.folder) if module.simulated else module.real_side
    viewed = [
        _view(module.reader([one]), one.path, f"{one.path.parent.name}/{one.path.stem}", side)
        for one in chosen
    ]
    about = f" {found.about}." if found.about else ""
    return f"{name} in {module.folder}: {counts}.{about}", viewed


def draw(viewed: Sequence[Viewed], steps: int, out: Path) -> None:
    """Draw recordings as frames over time: a figure, or an animated GIF.

    Raises:
        DataError: The name is that of another format, or the picture cannot be made or written.
    """
    require_picture(out)
    frames = {one.name.replace("/", "\n"): one.frames(steps) for one in viewed}
    (animate_frames if out.suffix.lower() == ANIMATION else draw_frames)(frames, out)


def require_picture(out: Path) -> None:
    """Refuse a file name of another format than a figure's or an animation's."""
    require_format(out, (*FORMATS, ANIMATION))
