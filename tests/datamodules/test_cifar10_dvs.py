"""CIFAR10-DVS: committed splits, AEDAT4 through tonic's reader, cut files, archives in archives."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faery
import numpy as np
import numpy.typing as npt
import pytest
import torch

from datamodules import cifar10_dvs
from datamodules.archives import Archive
from datamodules.base import PartName, Recording
from datamodules.binning import FrameShape, bin_events
from datamodules.cifar10_dvs import (
    ARCHIVE,
    CLASSES,
    PER_CLASS,
    SPLITS,
    Cifar10DvsDataModule,
    SortedCifar10Dvs,
    number_of,
    split_class,
)
from datamodules.errors import DataError
from datamodules.splits import SEED, read_split

SIDE, STEPS = 16, 4
BASE: dict[str, Any] = {"batch_size": 4, "seed": 0, "time_steps": STEPS}
GENERATORS = {
    "val": 'lowest-sha256("seed:index")-of-tenth-of-training-per-class',
    "test": "last-tenth-by-file-name-per-class",
}


def make_splits() -> dict[PartName, list[int]]:
    """The indices, label * 1000 + number, of the validation and test recordings, by the rule."""
    numbers = sorted(range(PER_CLASS), key=str)  # the order of the file names
    whole: dict[PartName, list[int]] = {part: [] for part in SPLITS}
    for label in range(len(CLASSES)):
        parts = split_class(label, numbers)
        for part, indices in whole.items():
            indices += [label * PER_CLASS + number for number in parts[part]]
    return {part: sorted(indices) for part, indices in whole.items()}


def random_events(count: int, seed: int, side: int = SIDE) -> npt.NDArray[np.void]:
    draw = np.random.default_rng(seed)
    events = np.zeros(count, dtype=faery.EVENTS_DTYPE)
    events["t"] = np.cumsum(draw.integers(0, 11, count))
    events["x"], events["y"] = draw.integers(0, side, (2, count))
    events["on"] = draw.integers(0, 2, count)
    return events


def write(path: Path, events: npt.NDArray[np.void], side: int = SIDE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    faery.events_stream_from_array(events, (side, side)).to_file(path)


def write_simulation(folder: Path, names: Sequence[str], per_class: int) -> None:
    """Write recordings of 60 and more events, then what says that all are there."""
    for label, name in enumerate(names):
        for number in range(per_class):
            seed = label * per_class + number
            write(folder / name / f"{name}_{number}.aedat4", random_events(60 + number, seed))
    (folder / "simulation.json").write_text(json.dumps({"sensor_side": SIDE}))


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    write_simulation(tmp_path / "cifar10_dvs_sim", ("dog", "cat"), per_class=12)
    return tmp_path


def test_the_committed_splits_are_those_of_the_rule() -> None:
    made = make_splits()
    for part, path in SPLITS.items():
        assert read_split(path).tolist() == made[part]
        head = f"# seed={SEED} generator={GENERATORS[part]} count={len(made[part])} "
        assert path.read_text().startswith(head)
    assert not set(made["val"]) & set(made["test"])
    for part, per_class in (("val", 90), ("test", 100)):
        labels = torch.tensor(made[part]) // PER_CLASS  # type: ignore[index]
        assert labels.bincount().tolist() == [per_class] * len(CLASSES)


def test_test_recordings_are_the_last_by_file_name() -> None:
    names = sorted(f"cifar10_cat_{number}.aedat4" for number in range(PER_CLASS))
    last = {number_of(Path(name)) for name in names[900:]}
    label = CLASSES.index("cat")
    assert {i - label * PER_CLASS for i in make_splits()["test"] if i // PER_CLASS == label} == last
    assert last != set(range(900, PER_CLASS))  # the names' order, not the numbers'


def test_validation_follows_the_rule_in_words() -> None:
    numbers = sorted(range(50), key=str)
    parts = split_class(3, numbers)
    rest = numbers[:45]
    ranked = sorted(rest, key=lambda n: hashlib.sha256(f"0:{3 * PER_CLASS + n}".encode()).digest())
    assert parts["val"] == sorted(ranked[:4])
    assert parts["test"] == numbers[45:]
    assert sorted(parts["train"] + parts["val"]) == sorted(rest)
    with pytest.raises(DataError, match="class 0 has 2 recordings: 3 are needed"):
        split_class(0, [1, 2])


def test_parts_of_a_simulation(simulated: Path) -> None:
    module = Cifar10DvsDataModule(**BASE, name="cifar10_dvs_sim", data_dir=simulated)
    module.setup()
    assert module.classes == 2
    assert [module.size(part) for part in ("train", "val", "test")] == [20, 2, 2]
    paths = [r.path for part in ("train", "val", "test") for r in module.listing(part)]  # type: ignore[arg-type]
    assert len(set(paths)) == len(paths) == 24
    tests = module.listing("test")
    last = sorted(f"{name}_{n}" for name in ("cat", "dog") for n in (9,))
    assert [r.path.stem for r in tests] == last
    assert [r.label for r in tests] == [0, 1]  # the names sorted
    for (frames, _), recording in zip(
        Cifar10DvsDataModule.batches(module, "test"), [tests], strict=True
    ):
        shape = FrameShape(STEPS, "count", SIDE, 1)
        reader = SortedCifar10Dvs(recording)
        expected = [bin_events(reader[i][0], shape) for i in range(2)]
        np.testing.assert_array_equal(frames.numpy(), np.stack(expected))


def test_the_reader_yields_what_was_written(tmp_path: Path) -> None:
    events = random_events(9_000, seed=5)  # more than one packet
    write(tmp_path / "a_0.aedat4", events)
    found, label = SortedCifar10Dvs([Recording(tmp_path / "a_0.aedat4", 7)])[0]
    assert label == 7
    for field in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(found[field], events[field])


def packet_ends(content: bytes) -> list[int]:
    """Return where the header and every packet end: a packet is stream, length, then so much."""
    position = 18 + int.from_bytes(content[14:18], "little")
    ends = [position]
    while position + 8 < len(content):
        position += 8 + int.from_bytes(content[position + 4 : position + 8], "little")
        ends.append(position)
    return ends


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("between packets", "it is cut: .* bytes, its events end at"),
        ("within a packet", "it is cut"),
        ("header", "its header is cut"),
        ("a byte", "it cannot be read"),
        ("length", "its reader panicked|it cannot be read|it is cut"),
        ("text", "its header is not text"),
        ("empty", "it has no events"),
        ("nothing", "its header is cut"),
        ("outside", "x runs from"),
    ],
)
def test_a_damaged_file_is_named(simulated: Path, kind: str, message: str) -> None:
    path = simulated / "cifar10_dvs_sim" / "dog" / "dog_3.aedat4"
    write(path, random_events(9_000, seed=5))
    content = path.read_bytes()
    if kind == "between packets":
        path.write_bytes(content[: packet_ends(content)[1]])
    elif kind == "within a packet":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "header":
        path.write_bytes(content[:20])
    elif kind == "a byte":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif kind == "length":  # of the header: 256 bytes less
        path.write_bytes(content[:15] + bytes([content[15] - 1]) + content[16:])
    elif kind == "text":
        path.write_bytes(content.replace(b"<node", b"<no\xffe", 1))
    elif kind == "empty":
        write(path, random_events(0, seed=0))
    elif kind == "nothing":
        path.write_bytes(b"")
    else:
        write(path, random_events(200, seed=0, side=2 * SIDE), side=2 * SIDE)
    module = Cifar10DvsDataModule(**BASE, name="cifar10_dvs_sim", data_dir=simulated)
    with pytest.raises(DataError, match=rf"dog_3\.aedat4 is damaged: {message}"):
        module.setup()


def test_the_real_parts_follow_the_committed_files(tmp_path: Path) -> None:
    for name in CLASSES:
        folder = tmp_path / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for number in range(PER_CLASS):
            (folder / f"cifar10_{name}_{number}.aedat4").touch()
    module = Cifar10DvsDataModule(**BASE, data_dir=tmp_path)
    module.obtain(("test",))  # complete: nobody is asked
    indices: dict[str, list[int]] = {}
    for part in ("train", "val", "test"):
        listed = module.listing(part)  # type: ignore[arg-type]
        assert all(CLASSES[r.label] == r.path.parent.name for r in listed)
        indices[part] = sorted(r.label * PER_CLASS + number_of(r.path) for r in listed)
    assert {part: indices[part] for part in SPLITS} == make_splits()
    whole = indices["train"] + indices["val"] + indices["test"]
    assert sorted(whole) == list(range(len(CLASSES) * PER_CLASS))


def test_names_without_or_with_the_same_number_are_refused(simulated: Path) -> None:
    folder = simulated / "cifar10_dvs_sim" / "cat"
    (folder / "cat_0.aedat4").rename(folder / "other_1.aedat4")
    module = Cifar10DvsDataModule(**BASE, name="cifar10_dvs_sim", data_dir=simulated)
    with pytest.raises(DataError, match="cat has a number twice: rename or remove it"):
        module.setup()
    (folder / "other_1.aedat4").rename(folder / "other.aedat4")
    with pytest.raises(DataError, match=r"other\.aedat4 does not end in a number"):
        module.setup()


@pytest.fixture
def three_a_class(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An archive of archives, three recordings a class, whose md5 is taken for the official one."""
    monkeypatch.setattr(cifar10_dvs, "PER_CLASS", 3)
    folder = tmp_path / "CIFAR10DVS"
    folder.mkdir()
    recording = tmp_path / "one.aedat4"
    write(recording, random_events(60, seed=0))
    with zipfile.ZipFile(folder / ARCHIVE.name, "w") as outer:
        for name in CLASSES:
            with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as inner:
                inner.write(recording, f"__MACOSX/{name}/._cifar10_{name}_0.aedat4")
                for number in range(3):
                    inner.write(recording, f"{name}/cifar10_{name}_{number}.aedat4")
            outer.write(tmp_path / f"{name}.zip", f"{name}.zip")
    md5 = hashlib.md5((folder / ARCHIVE.name).read_bytes()).hexdigest()
    archive = Archive(ARCHIVE.name, ("http://127.0.0.1:9/",), md5, ARCHIVE.size)
    monkeypatch.setattr(Cifar10DvsDataModule, "archive", archive)
    return tmp_path


def test_an_archive_put_there_by_hand_is_extracted_wholly(three_a_class: Path) -> None:
    folder = three_a_class / "CIFAR10DVS"
    module = Cifar10DvsDataModule(**BASE, data_dir=three_a_class)
    module.obtain(("test",))
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.aedat4"))
    assert found == sorted(f"{c}/cifar10_{c}_{n}.aedat4" for c in CLASSES for n in range(3))
    assert not list(folder.glob("*.tmp"))
    # Stopped between two classes: the rest is extracted again.
    (folder / "dog").rename(three_a_class / "dog")
    module.obtain(("test",))
    assert len(list((folder / "dog").iterdir())) == 3
    # A folder that lacks recordings is no data set.
    (folder / "cat" / "cifar10_cat_1.aedat4").unlink()
    with pytest.raises(DataError, match="cat has 2 recordings, not 3: delete the class folders"):
        module.setup()


def test_absent_and_offline_says_what_to_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(ARCHIVE.name, ("http://127.0.0.1:9/",), ARCHIVE.md5, ARCHIVE.size)
    monkeypatch.setattr(Cifar10DvsDataModule, "archive", archive)
    with pytest.raises(DataError) as caught:
        Cifar10DvsDataModule(**BASE, data_dir=tmp_path).setup()
    for words in (
        f"cifar10_dvs is not in {tmp_path / 'CIFAR10DVS'}",
        "CIFAR10DVS.zip (about 11.2 GB, md5 ce3a4a0682dc0943703bd8f749a7701c, from http",
        "into that folder",
    ):
        assert words in str(caught.value)
    assert ARCHIVE.urls[0] == "https://api.figshare.com/v2/file/download/38023437"


@pytest.mark.data
def test_real_parts_are_as_committed() -> None:
    module = Cifar10DvsDataModule(**BASE, spatial_pool=4, test_images=20)
    module.obtain(("test",))
    lists = {part: module.listing(part) for part in ("train", "val", "test")}  # type: ignore[arg-type]
    assert [len(listed) for listed in lists.values()] == [8_100, 900, 1_000]
    module.setup("test")
    assert module.parts["test"].frames.shape == (20, STEPS, 2, 32, 32)
