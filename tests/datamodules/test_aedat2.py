"""AEDAT 2.0: a recording written in both formats has the same events and the same frames."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from test_cifar10_dvs import random_events, write

from datamodules.aedat2 import SIDE, read_aedat2
from datamodules.base import Recording
from datamodules.binning import DamagedRecordingError
from datamodules.cifar10_dvs import (
    CLASSES,
    Cifar10DvsDataModule,
    SortedCifar10Dvs,
    recordings_below,
)
from datamodules.errors import DataError

HEADER = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# tick is 1 us\r\n"
SPECIAL = struct.pack(">II", 1 << 15 | 5, 9)
STEPS = 4


def aedat2(events: npt.NDArray[np.void]) -> bytes:
    """One event at a time, as a DVS128 sends it: x from the right, y from the bottom, 0 for on."""
    words = [
        struct.pack(">II", (127 - int(y)) << 8 | (127 - int(x)) << 1 | (not on), int(t))
        for t, x, y, on in events[["t", "x", "y", "on"]].tolist()
    ]
    return HEADER + b"".join(words)


def test_both_formats_have_the_same_events(tmp_path: Path) -> None:
    events = random_events(9_000, seed=5, side=SIDE)
    old, new = tmp_path / "a_0.aedat", tmp_path / "a_1.aedat4"
    old.write_bytes(aedat2(events))
    write(new, events, side=SIDE)
    reader = SortedCifar10Dvs([Recording(old, 7), Recording(new, 7)])
    (from_old, label), (from_new, _) = reader[0], reader[1]
    assert label == 7
    assert from_old.dtype.names == from_new.dtype.names
    for field in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(from_old[field], from_new[field])
        assert from_old[field].dtype == from_new[field].dtype
    assert from_old["p"].mean() not in (0, 1)
    assert not np.array_equal(from_old["x"], 127 - from_old["x"])


def test_what_is_not_an_event_of_a_pixel_is_left_out(tmp_path: Path) -> None:
    events = random_events(10, seed=1, side=SIDE)
    path = tmp_path / "a_0.aedat"
    path.write_bytes(aedat2(events[:4]) + SPECIAL + aedat2(events[4:]).removeprefix(HEADER))
    np.testing.assert_array_equal(read_aedat2(path)["t"], events["t"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"it does not begin with #!AER-DAT2\.0"),
        (b"#!AER-DAT3.1\r\n", r"it does not begin with #!AER-DAT2\.0"),
        (HEADER, "it has no events"),
        (HEADER[:-1], "it has no events"),
        (HEADER + SPECIAL, "it has no events"),
        (HEADER + bytes(13), "it is cut: 5 bytes of its last event's 8 are there"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a_0.aedat"
    path.write_bytes(content)
    with pytest.raises(DamagedRecordingError, match=message):
        read_aedat2(path)


def module_of(folder: Path, suffix: str) -> Cifar10DvsDataModule:
    """A data set of two classes and 12 recordings each, in one format."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(12):
            events = random_events(60 + number, seed=12 * label + number, side=SIDE)
            path = folder / "cifar10_dvs_sim" / name / f"{name}_{number}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if suffix == ".aedat":
                path.write_bytes(aedat2(events))
            else:
                write(path, events, side=SIDE)
    (folder / "cifar10_dvs_sim" / "simulation.json").write_text(json.dumps({"sensor_side": SIDE}))
    arguments: dict[str, Any] = {"batch_size": 4, "seed": 0, "time_steps": STEPS}
    module = Cifar10DvsDataModule(**arguments, name="cifar10_dvs_sim", data_dir=folder)
    module.setup()
    return module


def test_both_formats_make_the_same_data_set(tmp_path: Path) -> None:
    old, new = (module_of(tmp_path / suffix, suffix) for suffix in (".aedat", ".aedat4"))
    assert old.checksum == new.checksum
    path = tmp_path / ".aedat" / "cifar10_dvs_sim" / "cat" / "cat_3.aedat"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"cat_3\.aedat is damaged: it is cut"):
        Cifar10DvsDataModule(
            batch_size=4,
            seed=0,
            time_steps=STEPS,
            name="cifar10_dvs_sim",
            data_dir=tmp_path / ".aedat",
        ).setup()


def test_a_folder_of_the_original_files_is_the_data_set(tmp_path: Path) -> None:
    for name in CLASSES:
        folder = tmp_path / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for number in range(1_000):
            (folder / f"cifar10_{name}_{number}.aedat").touch()
    module = Cifar10DvsDataModule(batch_size=4, seed=0, time_steps=STEPS, data_dir=tmp_path)
    module.obtain(("test",))  # complete: nobody is asked
    found = {part: module.listing(part) for part in ("train", "val", "test")}  # type: ignore[arg-type]
    assert [len(listed) for listed in found.values()] == [8_100, 900, 1_000]
    last = sorted(path.name for path in recordings_below(tmp_path / "CIFAR10DVS" / "cat"))[900:]
    assert [r.path.name for r in found["test"] if r.path.parent.name == "cat"] == last
