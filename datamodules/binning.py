"""Events of one recording -> frames, as tonic's ToFrame counts them; damage named."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from tonic.slicers import SliceByEventBins, SliceByTimeBins

from datamodules.errors import DataError

Binning = Literal["count", "time"]
Events = npt.NDArray[np.void]
Frames = npt.NDArray[np.int16]

SLICERS: Final = {"count": SliceByEventBins, "time": SliceByTimeBins}
POLARITIES: Final = 2
MOST_EVENTS: Final = np.iinfo(np.int16).max


class DamagedRecordingError(ValueError):
    """What is wrong with one recording, in the words after "it is damaged:"; without its path."""


@dataclass(frozen=True)
class FrameShape:
    """How recordings become frames ``[T, 2, H, W]``, H = W = ``side``.

    Attributes:
        time_steps: Frames of a recording, T.
        binning: ``count``: every frame has the same number of events; ``time``: the same duration.
        sensor_side: Pixels along each side of the square sensor.
        spatial_pool: Events of so many by so many pixels fall into one.

    Raises:
        DataError: A number is out of range, or the pool does not divide the side.
    """

    time_steps: int
    binning: Binning
    sensor_side: int
    spatial_pool: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.time_steps < 1:
            raise DataError(f"time_steps is {self.time_steps}: give 1 or more")
        if self.binning not in SLICERS:
            raise DataError(f"binning is {self.binning!r}: give count or time")
        if self.sensor_side < 1:
            raise DataError(f"sensor_side is {self.sensor_side}: give 1 or more pixels")
        if self.spatial_pool < 1 or self.sensor_side % self.spatial_pool:
            raise DataError(
                f"spatial_pool is {self.spatial_pool}: give a divisor of the sensor's side,"
                f" {self.sensor_side} pixels"
            )

    @property
    def side(self) -> int:
        """Pixels along each side of a frame."""
        return self.sensor_side // self.spatial_pool

    @property
    def frames(self) -> tuple[int, int, int, int]:
        """``(T, 2, H, W)`` of one recording."""
        return self.time_steps, POLARITIES, self.side, self.side


def check_events(events: Events, shape: FrameShape) -> None:
    """Find what tonic would pass over or answer with a wrong frame.

    Args:
        events: Structured array with fields x, y (pixels), t (us) and p.
        shape: What they are to become.

    Raises:
        DamagedRecordingError: Fewer events than frames (none at all among them), a pixel beyond
            the sensor, a time that goes back, or, binned by time, less than 1 us a frame.
    """
    count = len(events)
    if count < shape.time_steps:
        raise DamagedRecordingError(f"{count} events are too few for {shape.time_steps} frames")
    for axis in ("x", "y"):
        low, high = int(events[axis].min()), int(events[axis].max())
        if low < 0 or high >= shape.sensor_side:
            raise DamagedRecordingError(
                f"{axis} runs from {low} to {high}, the sensor's from 0 to {shape.sensor_side - 1}"
            )
    times = events["t"].astype(np.int64)
    backwards = np.flatnonzero(times[1:] < times[:-1])
    if len(backwards):
        raise DamagedRecordingError(f"its time goes back at event {int(backwards[0]) + 1}")
    duration = int(times[-1] - times[0])
    if shape.binning == "time" and duration < shape.time_steps:
        raise DamagedRecordingError(f"{duration} us are too short for {shape.time_steps} frames")


def bin_events(events: Events, shape: FrameShape) -> Frames:
    """Return the counts of events per frame, polarity and pixel, ``[T, 2, H, W]`` int16.

    Equals tonic's ``ToFrame(n_event_bins=T)`` or ``ToFrame(n_time_bins=T)`` after the coordinates
    were divided by the pool, in a fraction of the time. As there, a frame has ``events // T``
    events or ``duration // T`` us, and the few events that remain at the end are dropped (the
    paper's code gives them to the last frame).

    Args:
        events: Structured array with fields x, y (pixels), t (us) and p; `check_events` passed.
        shape: What they become.

    Raises:
        DamagedRecordingError: A pixel has more events in a frame than int16 can count.
    """
    side = shape.side
    row, column = (events[axis].astype(np.int64) // shape.spatial_pool for axis in ("y", "x"))
    cells = (events["p"].astype(np.int64) * side + row) * side + column
    ordered = np.zeros(len(events), dtype=[("t", np.int64)])  # unsigned times would be rounded
    ordered["t"] = events["t"]
    slices = SLICERS[shape.binning](shape.time_steps).get_slice_metadata(ordered, 0)
    frames = np.empty((shape.time_steps, POLARITIES * side * side), dtype=np.int16)
    for frame, (start, end) in zip(frames, slices, strict=True):
        counts = np.bincount(cells[start:end], minlength=len(frame))
        if int(counts.max()) > MOST_EVENTS:
            raise DamagedRecordingError(
                f"a pixel has {int(counts.max())} events in one frame, more than {MOST_EVENTS}"
            )
        frame[:] = counts
    return frames.reshape(shape.frames)
