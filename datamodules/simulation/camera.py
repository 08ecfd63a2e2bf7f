"""An event camera: an event whenever the log intensity at a pixel moved by its threshold.

References:
    H. Rebecq, D. Gehrig and D. Scaramuzza, ESIM: an open event camera simulator, CoRL 2018,
    section 3 (event times by linear interpolation between frames). Y. Hu, S.-C. Liu and
    T. Delbruck, v2e: from video frames to realistic DVS events, CVPR workshops 2021, section 4
    (threshold mismatch, background noise). Of v2e's model the finite bandwidth, the leak and shot
    noise that depends on intensity are left out.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError
from datamodules.simulation.compiled import kernel

Array = npt.NDArray[Any]

# The fields are t (us), x, y and on; AEDAT4's readers and writers also know on as p.
EVENT: Final = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")])
LOWEST_THRESHOLD: Final = 0.25  # of the nominal one: a pixel below would fire all the time
_ROOM: Final = 1 << 16  # events a buffer starts with


@dataclass(frozen=True)
class Camera:
    """What distinguishes one event camera from another.

    Attributes:
        threshold: Change of log intensity that makes an event, above 0.
        mismatch: Standard deviation of the thresholds of pixels, relative, 0 and up; every pixel
            has one threshold for each polarity.
        refractory_us: Time after an event in which the pixel is silent, us, 0 and up; changes
            during it are lost.
        noise_hz: Events a pixel and second that no change has caused, 0 and up.
        dark_intensity: Added to the intensity, which is 1 for white, before the logarithm; above 0.

    Raises:
        DataError: A number is out of range.
    """

    threshold: float = 0.2
    mismatch: float = 0.03
    refractory_us: int = 1_000
    noise_hz: float = 0.1
    dark_intensity: float = 0.05

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("threshold", "dark_intensity"):
            if getattr(self, name) <= 0:
                raise DataError(f"{name} is {getattr(self, name)}: give a number above 0")
        for name in ("mismatch", "refractory_us", "noise_hz"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}: give 0 or more")


def random_generator(seed: int, *recording: int) -> np.random.Generator:
    """Return a generator that depends on nothing but the numbers, each 0 and up.

    NumPy takes zeros at the end for nothing: give as many numbers each time.
    """
    return np.random.default_rng(np.random.SeedSequence((seed, *recording)))


def record(frames: Array, times_us: Array, camera: Camera, generator: np.random.Generator) -> Array:
    """Return the events of a film, ``[N]`` of dtype `EVENT`, in the order of their times.

    Args:
        frames: ``[F, H, W]`` float32, intensity, 1 for white, 0 and up.
        times_us: ``[F]`` int64, time of every frame, us, 0 and up, increasing.
        camera: What it is filmed with.
        generator: Draws the thresholds, then the noise.

    Raises:
        ValueError: Fewer than two frames, or another number of times than of frames.
    """
    if len(frames) < 2 or len(frames) != len(times_us):
        raise ValueError(f"{len(frames)} frames, {len(times_us)} times: give two or more of each")
    log_intensity = np.log(frames + np.float32(camera.dark_intensity))
    thresholds = draw_thresholds(frames.shape[1:], camera, generator)
    events = np.concatenate(
        [
            threshold_events(log_intensity, times_us, thresholds, camera.refractory_us),
            draw_noise(frames.shape[1:], times_us, camera, generator),
        ]
    )
    return events[np.argsort(events["t"], kind="stable")]


def draw_thresholds(
    shape: tuple[int, ...], camera: Camera, generator: np.random.Generator
) -> Array:
    """Return ``[2, H, W]`` float64: thresholds for a fall (0) and a rise (1), normal, cut below."""
    relative = generator.normal(1, camera.mismatch, (2, *shape))
    thresholds: Array = camera.threshold * np.maximum(relative, LOWEST_THRESHOLD)
    return thresholds


def draw_noise(
    shape: tuple[int, ...], times_us: Array, camera: Camera, generator: np.random.Generator
) -> Array:
    """Return events at random pixels and times, of either polarity; their number is Poisson's."""
    height, width = shape
    start, stop = int(times_us[0]), int(times_us[-1])
    count = generator.poisson(camera.noise_hz * height * width * (stop - start) * 1e-6)
    noise = np.zeros(count, EVENT)
    noise["t"] = generator.integers(start, stop, count)
    noise["x"] = generator.integers(0, width, count)
    noise["y"] = generator.integers(0, height, count)
    noise["on"] = generator.integers(0, 2, count)
    return noise


def threshold_events(
    log_intensity: Array, times_us: Array, thresholds: Array, refractory_us: int
) -> Array:
    """Return the events that changes cause, ``[N]`` of dtype `EVENT`; frame by frame, not sorted.

    A pixel remembers the log intensity of its last event, at first that of the first frame. When
    the present one, interpolated linearly in time, is a threshold away, there is an event, unless
    the last event of the pixel is younger than the refractory time; either way, the memory moves.

    Args:
        log_intensity: ``[F, H, W]`` float32.
        times_us: ``[F]`` int64, us, increasing.
        thresholds: ``[2, H, W]`` float64, above 0: for a fall (0) and a rise (1).
        refractory_us: us, 0 and up.
    """
    room = _ROOM
    while True:
        t, x, y, on = (np.empty(room, EVENT[name]) for name in ("t", "x", "y", "on"))
        count = _fill(log_intensity, times_us, thresholds, refractory_us, t, x, y, on)
        if count <= room:
            break
        room = count
    events = np.empty(count, EVENT)
    for name, values in {"t": t, "x": x, "y": y, "on": on}.items():
        events[name] = values[:count]
    return events


@kernel
def _fill(
    log_intensity: Array,
    times_us: Array,
    thresholds: Array,
    refractory_us: int,
    t: Array,
    x: Array,
    y: Array,
    on: Array,
) -> int:
    """Write the events as far as there is room; return how many there are."""
    frames, height, width = log_intensity.shape
    memory = log_intensity[0].astype(np.float64)
    last = np.full((height, width), times_us[0] - refractory_us, np.int64)
    count = 0
    for frame in range(1, frames):
        start, length = times_us[frame - 1], times_us[frame] - times_us[frame - 1]
        for row in range(height):
            for column in range(width):
                before = np.float64(log_intensity[frame - 1, row, column])
                now = np.float64(log_intensity[frame, row, column])
                level = memory[row, column]
                rise = now > level
                step = thresholds[1, row, column] if rise else -thresholds[0, row, column]
                while (now - level >= step) if rise else (now - level <= step):
                    level += step
                    share = min(max((level - before) / (now - before), 0.0), 1.0)
                    time = start + np.int64(share * length)
                    if time - last[row, column] >= refractory_us:
                        last[row, column] = time
                        if count < t.size:
                            t[count], x[count], y[count], on[count] = time, column, row, rise
                        count += 1
                memory[row, column] = level
    return count
