"""Files of events: tonic reads back what was written, to the microsecond or millisecond."""

import resource
from pathlib import Path

import numpy as np
import pytest
from tonic.datasets import DVSGesture
from tonic.io import read_aedat4

from datamodules.errors import DataError
from datamodules.simulation.camera import EVENT, Array
from datamodules.simulation.writers import events_sha256, gesture_rows, write_aedat4, write_gesture


def some_events(count: int, seed: int = 0) -> Array:
    generator = np.random.default_rng(seed)
    events = np.zeros(count, EVENT)
    events["t"] = np.sort(generator.integers(0, 1_200_000, count))
    events["x"], events["y"] = generator.integers(0, 128, (2, count))
    events["on"] = generator.integers(0, 2, count)
    return events


@pytest.mark.parametrize("count", [1, 30_000])
def test_aedat4_comes_back_event_by_event(tmp_path: Path, count: int) -> None:
    events, path = some_events(count), tmp_path / "cat" / "cifar10_cat_0.aedat4"
    write_aedat4(path, events, 128)
    found = read_aedat4(str(path))
    assert found.dtype == EVENT
    assert (found == events).all()
    assert [child.name for child in path.parent.iterdir()] == [path.name]
    write_aedat4(path, some_events(count, seed=1), 128)
    assert (read_aedat4(str(path)) != events).any()


def test_equal_events_make_equal_files(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_aedat4(tmp_path / f"{name}.aedat4", some_events(1_000, seed), 128)
    first, second, third = ((tmp_path / f"{name}.aedat4").read_bytes() for name in "abc")
    assert first == second != third


@pytest.mark.parametrize(("count", "room"), [(1_000, 100), (1_000, 7_000), (30_000, 100_000)])
def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path, count: int, room: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))  # bytes a file may have
    try:
        with pytest.raises(OSError, match=r"a\.aedat4 cannot be written: "):
            write_aedat4(tmp_path / "a.aedat4", some_events(count), 128)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.aedat4 would hold no events"):
        write_aedat4(tmp_path / "a.aedat4", some_events(0), 128)
    with pytest.raises(DataError, match=r"0\.npy would hold no events"):
        write_gesture(tmp_path / "0.npy", some_events(0))
    assert not list(tmp_path.iterdir())


def test_tonic_reads_gestures(tmp_path: Path) -> None:
    folder = tmp_path / "DVSGesture" / "ibmGestureTrain"
    for user in range(1, 11):
        for label in range(11):
            events = some_events(50, seed=100 * user + label)
            write_gesture(folder / f"user{user:02}_led" / f"{label}.npy", events)
    (folder.parent / DVSGesture.train_filename).touch()  # what tonic takes for a complete download
    dataset = DVSGesture(str(tmp_path))
    assert len(dataset) == 110
    assert set(dataset.users) == set(range(1, 11))
    for index in (0, 57, 109):
        found, label = dataset[index]
        events = some_events(50, seed=100 * dataset.users[index] + label)
        assert found["x"].tolist() == events["x"].tolist()
        assert found["y"].tolist() == events["y"].tolist()
        assert found["p"].tolist() == events["on"].tolist()
        assert found["t"].tolist() == (events["t"] // 1000 * 1000).tolist()


def test_gesture_rows_are_x_y_polarity_and_milliseconds() -> None:
    events = np.array([(1_999, 3, 4, True), (2_000, 5, 6, False)], EVENT)
    rows = gesture_rows(events)
    assert rows.dtype == np.int32
    assert rows.tolist() == [[3, 4, 1, 1], [5, 6, 0, 2]]


def test_the_checksum_depends_on_every_field() -> None:
    events = some_events(100)
    sums = {events_sha256(events)}
    for name in EVENT.names or ():
        changed = events.copy()
        changed[name][7] = not changed[name][7] if name == "on" else changed[name][7] + 1
        sums.add(events_sha256(changed))
    assert events_sha256(events.copy()) in sums
    assert len(sums) == 5
