"""Files of events as the readers of the recorded data sets expect them."""

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError
from datamodules.simulation.camera import EVENT

Array = npt.NDArray[Any]

COMPRESSION: Final = ("zstd", 1)  # two thirds of LZ4's size, as fast to read


def require_events(path: Path, events: Array) -> None:
    """Refuse an empty recording: readers take it for a broken file, and nothing is to be learnt.

    Raises:
        DataError: There are no events.
    """
    if not len(events):
        raise DataError(f"{path.name} would hold no events: lower the camera's threshold")


def write_aedat4(path: Path, events: Array, side: int) -> None:
    """Write an AEDAT4 file; `tonic.io.read_aedat4` returns the same events.

    Args:
        path: Its folder is made if absent.
        events: ``[N]`` of dtype `EVENT`, N at least 1, times not falling.
        side: Of the sensor, pixels.

    Raises:
        OSError: It is not whole on the disk.
    """
    import faery
    from tonic.io import read_aedat4

    require_events(path, events)
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = faery.events_stream_from_array(events.astype(EVENT), dimensions=(side, side))
    try:
        stream.to_file(path, compression=COMPRESSION)
        written = len(read_aedat4(str(path)))  # faery does not say where the last bytes had no room
    except Exception as error:  # tonic's and faery's own kinds, of every error of the system
        raise OSError(f"{path} cannot be written: {error}") from error
    if written != len(events):
        raise OSError(f"{path} cannot be written: {written} of {len(events)} events are in it")


def gesture_rows(events: Array) -> Array:
    """Return ``[N, 4]`` int32: x, y, polarity (1 for on) and time in ms, rounded down.

    The preprocessed DVS128 Gesture holds its times in ms, too.
    """
    columns = events["x"], events["y"], events["on"], events["t"] // 1000
    return np.stack([column.astype(np.int32) for column in columns], axis=1)


def write_gesture(path: Path, events: Array) -> None:
    """Write the NumPy file of one gesture, as `tonic.datasets.DVSGesture` reads it.

    Args:
        path: ``<folder>/ibmGestureTrain/user<NN>_<lighting>/<label>.npy``; folders are made.
        events: ``[N]`` of dtype `EVENT`, N at least 1.
    """
    require_events(path, events)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, gesture_rows(events))


def events_sha256(events: Array) -> str:
    """Return the sha256, in hex, of the bytes of one recording's events: dtype `EVENT`."""
    return hashlib.sha256(events.astype(EVENT).tobytes()).hexdigest()
