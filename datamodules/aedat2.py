"""AEDAT 2.0, the original format of MNIST-DVS and CIFAR10-DVS: recordings of a DVS128 by jAER."""

from pathlib import Path
from typing import Final

import numpy as np

from datamodules.binning import DamagedRecordingError, Events

SUFFIX: Final = ".aedat"
SIDE: Final = 128  # pixels of the DVS128
VERSION: Final = b"#!AER-DAT2.0"
COMMENT: Final = b"#"
WORDS: Final = np.dtype([("address", ">u4"), ("time", ">u4")])
# Of the address: bit 0 is set where it grew darker, then 7 bits of x and 7 of y; bit 15 marks what
# is not an event of a pixel.
SPECIAL: Final = 1 << 15
X_BITS: Final = 1
Y_BITS: Final = 8
COORDINATE: Final = SIDE - 1
DTYPE: Final = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")])  # as of AEDAT4


def read_aedat2(path: Path) -> Events:
    """Return the events of a DVS128, with the fields of an AEDAT4 file: t (us), x, y and p.

    The sensor counts x from the right and y from the bottom, and its polarity bit is 0 for
    brighter. As in libcaer, whose makers' program wrote tonic's AEDAT4 copy of CIFAR10-DVS, x runs
    from the left, y from the top, and p is true for brighter.

    Raises:
        DamagedRecordingError: It is not AEDAT 2.0, ends within an event, or has none.

    References:
        AEDAT 2.0 file format: lines that begin with ``#``, then 4 bytes of address and 4 of time
        for every event, high byte first.
    """
    content = path.read_bytes()
    if not content.startswith(VERSION):
        raise DamagedRecordingError(f"it does not begin with {VERSION.decode()}")
    start = 0
    while content.startswith(COMMENT, start):
        start = content.find(b"\n", start) + 1 or len(content)
    if (rest := (len(content) - start) % WORDS.itemsize) != 0:
        raise DamagedRecordingError(f"it is cut: {rest} bytes of its last event's 8 are there")
    words = np.frombuffer(content, WORDS, offset=start)
    words = words[words["address"] & SPECIAL == 0]
    if not len(words):
        raise DamagedRecordingError("it has no events")
    events = np.empty(len(words), DTYPE)
    events["t"] = words["time"]
    events["x"] = COORDINATE - (words["address"] >> X_BITS & COORDINATE)
    events["y"] = COORDINATE - (words["address"] >> Y_BITS & COORDINATE)
    events["p"] = words["address"] & 1 == 0
    return events
