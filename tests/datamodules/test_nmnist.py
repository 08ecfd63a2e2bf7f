"""N-MNIST: the 40-bit format, the whole data set and its subsets, splits, 1,100 real recordings."""

import hashlib
import zipfile
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.linear_model import flatten
from datamodules import nmnist
from datamodules.archives import Archive
from datamodules.base import PART_NAMES, Recording, find_folder
from datamodules.catalogue import DATA_SETS
from datamodules.errors import DataError
from datamodules.nmnist import (
    ARCHIVES,
    COUNTS,
    NAMES,
    SPLIT,
    SUBSET_CHECKSUM,
    SUBSET_SPLITS,
    VALIDATION,
    NmnistDataModule,
    SortedNmnist,
    index_of,
    label_of,
    list_checksum,
    split_subset,
)
from datamodules.splits import SEED, read_split, write_split

STEPS, SIDE, US_BEFORE_OVERFLOW = 4, 34, 1 << 13
BASE: dict[str, Any] = {"batch_size": 4, "seed": 0, "time_steps": STEPS}


def content(events: Sequence[Sequence[int]]) -> bytes:
    """Bytes of events x, y, p and t, by the words of the format, high byte first."""
    out = bytearray()
    for x, y, p, t in events:
        out += bytes([x, y, (p << 7) | (t >> 16 & 127), t >> 8 & 255, t & 255])
    return bytes(out)


def random_events(count: int, seed: int) -> npt.NDArray[np.int64]:
    """Return ``[N, 4]`` x, y, p and ascending t (us), over about 300 ms."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, SIDE, (count, 2))
    times = np.sort(draw.integers(0, 300_000, count))
    return np.column_stack([pixels, draw.integers(0, 2, count), times])


def write(folder: Path, part: str, per_digit: int, digits: int = 10) -> None:
    for label in range(digits):
        place = folder / part / str(label)
        place.mkdir(parents=True)
        for i in range(per_digit):
            number = 1 + label + digits * i
            seed = number if part == "Train" else 1_000 + number
            events = content(random_events(60 + number, seed).tolist())
            (place / f"{number:05}.bin").write_bytes(events)


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """A folder of 30 training and 20 test recordings, none of them official."""
    write(tmp_path / "NMNIST", "Train", per_digit=3)
    write(tmp_path / "NMNIST", "Test", per_digit=2)
    return tmp_path


@pytest.fixture
def small_but_whole(some: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, taken for the whole data set."""
    monkeypatch.setattr(NmnistDataModule, "counts_of_folders", {"Train": 30, "Test": 20})
    split = some / "validation.txt"
    write_split(split, torch.tensor([3, 17, 29]), SEED)
    monkeypatch.setattr(nmnist, "SPLIT", split)
    return some


def test_the_committed_subset_is_that_of_the_rule() -> None:
    parts = {part: read_split(path).tolist() for part, path in SUBSET_SPLITS.items()}
    assert {part: len(indices) for part, indices in parts.items()} == {
        "train": 700,
        "val": 100,
        "test": 300,
    }
    whole = sorted(index for indices in parts.values() for index in indices)
    assert len(set(whole)) == len(whole) == 1_100
    official = [sum(index > COUNTS["Train"] for index in indices) for indices in parts.values()]
    assert sum(official) == 100  # both official parts are in it
    assert all(official)
    for path in SUBSET_SPLITS.values():
        assert path.read_text().startswith(f"# seed={SEED} generator=largest-remainder-share-per-")
    for name in NAMES:
        said = f"list {SUBSET_CHECKSUM[:16]}" in DATA_SETS[name].about
        assert said == ("subset" in name)


def test_validation_of_the_whole_set_is_that_of_the_rule_in_words() -> None:
    whole = range(1, COUNTS["Train"] + 1)
    ranked = sorted(whole, key=lambda i: hashlib.sha256(f"{SEED}:{i}".encode()).digest())
    assert read_split(SPLIT).tolist() == sorted(ranked[:VALIDATION])


def test_a_subset_gives_every_class_its_share() -> None:
    members = {label: list(range(100 * label, 100 * label + 11 + label)) for label in range(10)}
    whole = sum(map(len, members.values()))
    parts = split_subset(members)
    assert {part: len(indices) for part, indices in parts.items()} == {
        "test": whole * 3 // 11,
        "val": whole // 11,
        "train": whole - whole * 3 // 11 - whole // 11,
    }
    assert sorted(chain.from_iterable(parts.values())) == sorted(
        chain.from_iterable(members.values())
    )
    for part, share in (("test", 3 / 11), ("val", 1 / 11)):
        counts = Counter(index // 100 for index in parts[part])  # type: ignore[index]
        for label, indices in members.items():
            assert abs(counts[label] - share * len(indices)) < 1
    with pytest.raises(DataError, match="10 recordings are too few to split: 11 are needed"):
        split_subset({label: [label] for label in range(10)})


def test_the_reader_reads_the_format_in_words(tmp_path: Path) -> None:
    events = random_events(500, seed=1)
    events[200:, 3] += 2 * US_BEFORE_OVERFLOW
    written = events.copy()
    written[200:, 3] -= 2 * US_BEFORE_OVERFLOW  # the sensor's clock wraps: two markers say so
    marker = [[0, 240, 0, 0]] * 2
    path = tmp_path / "00007.bin"
    path.write_bytes(content([*written[:200].tolist(), *marker, *written[200:].tolist()]))
    found, label = SortedNmnist([Recording(path, 3)])[0]
    assert label == 3
    for column, field in enumerate("xypt"):
        np.testing.assert_array_equal(found[field], events[:, column])
    first, _ = SortedNmnist([Recording(path, 3)], first_saccade_only=True)[0]
    assert 0 < len(first) == (events[:, 3] < 100_000).sum() < len(found)


def test_another_subset_is_named_and_split_by_the_rule(
    some: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = NmnistDataModule(**BASE, name="nmnist_subset", data_dir=some)
    module.setup()
    paths = sorted((some / "NMNIST").glob("*/*/*.bin"))
    assert [module.size(part) for part in PART_NAMES] == [33, 4, 13]
    listed = {part: [r.path for r in module.listing(part)] for part in PART_NAMES}
    assert sorted(chain.from_iterable(listed.values())) == paths
    assert {path.parents[1].name for path in listed["test"]} == {"Train", "Test"}
    name = f"50 of 70,000 recordings, list {list_checksum(paths)[:16]}"
    assert module.subset == name
    said = capsys.readouterr().err.splitlines()
    assert said == [f"nmnist_subset: another subset than the committed one: {name}"]
    (some / "NMNIST" / "Test" / "4" / "00005.bin").unlink()
    fewer = NmnistDataModule(**BASE, name="nmnist_subset", data_dir=some)
    fewer.setup()
    assert fewer.subset != name
    assert fewer.checksum != module.checksum


def test_the_committed_subset_is_taken_from_a_larger_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "NMNIST", "Train", per_digit=4)
    paths = sorted((tmp_path / "NMNIST").glob("*/*/*.bin"))
    parts = {"train": list(range(1, 15)), "val": [15, 16], "test": [17, 18, 19]}
    for part, indices in parts.items():
        path = tmp_path / f"{part}.txt"
        write_split(path, torch.tensor(indices), SEED)
        monkeypatch.setitem(nmnist.SUBSET_SPLITS, part, path)
    used = [path for path in paths if index_of(path) < 20]
    monkeypatch.setattr(nmnist, "SUBSET_CHECKSUM", list_checksum(used))
    module = NmnistDataModule(**BASE, name="nmnist_subset", data_dir=tmp_path)
    module.setup()
    found = {part: [index_of(r.path) for r in module.listing(part)] for part in PART_NAMES}
    assert {part: sorted(indices) for part, indices in found.items()} == parts
    assert module.subset.startswith("19 of 70,000 recordings")


def test_a_folder_with_fewer_is_not_the_whole_data_set(some: Path) -> None:
    for name in ("nmnist", "nmnist_first_saccade"):
        with pytest.raises(DataError) as caught:
            NmnistDataModule(**BASE, name=name, data_dir=some).setup()
        subset = name.replace("nmnist", "nmnist_subset")
        assert "Train has 30 recordings, the whole data set 60,000" in str(caught.value)
        assert f"read a subset by --data {subset}, or delete it" in str(caught.value)


@pytest.mark.parametrize("binning", ["count", "time"])
def test_the_whole_data_set_becomes_frames(small_but_whole: Path, binning: Any) -> None:
    module = NmnistDataModule(**BASE, data_dir=small_but_whole, binning=binning)
    module.setup()
    assert [module.size(part) for part in PART_NAMES] == [27, 3, 20]
    assert {index_of(r.path) for r in module.listing("val")} == {3, 17, 29}
    assert {r.path.parents[1].name for r in module.listing("test")} == {"Test"}
    first = NmnistDataModule(
        **BASE, name="nmnist_first_saccade", data_dir=small_but_whole, binning=binning
    )
    first.setup()
    for one in (module, first):
        frames = one.parts["test"].frames
        assert frames.shape == (20, STEPS, 2, SIDE, SIDE)
        if binning == "count":
            assert (frames.sum((2, 3, 4)) == frames.sum((2, 3, 4))[:, :1]).all()
    assert first.parts["test"].frames.sum() < module.parts["test"].frames.sum()
    assert first.checksum != module.checksum
    assert not module.flip
    counts, labels = flatten(module, "test")  # what the linear model sees
    apart, _ = flatten(module, "test", by_frame=True)
    np.testing.assert_array_equal(apart.reshape(20, STEPS, -1).sum(1), counts)
    np.testing.assert_array_equal(labels, module.parts["test"].labels)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", r"00001\.bin is damaged: its \d+ bytes are no multiple of 5"),
        ("outside", r"00001\.bin is damaged: x runs from \d+ to 34, the sensor's from 0 to 33"),
        ("empty", r"00001\.bin is damaged: 0 events are too few for 4 frames"),
        ("backwards", r"00001\.bin is damaged: its time goes back at event 9"),
        ("name", r"a\.bin is not named by a number: rename or remove it"),
        ("digit", r"ten is not named by a digit from 0 to 9: rename or remove it"),
        ("twice", r"NMNIST has a number twice in one part: remove one of them"),
    ],
)
def test_damage_is_named(some: Path, kind: str, message: str) -> None:
    folder = some / "NMNIST" / "Train" / "0"
    path, events = folder / "00001.bin", random_events(60, seed=0)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-2])
    elif kind == "name":
        path.rename(folder / "a.bin")
    elif kind == "digit":
        folder.rename(folder.with_name("ten"))
    elif kind == "twice":
        path.rename(folder / "00002.bin")
    else:
        if kind == "outside":
            events[3, 0] = SIDE
        elif kind == "backwards":
            events[9, 3] = events[7, 3] - 1
        path.write_bytes(content(events[:0] if kind == "empty" else events.tolist()))
    with pytest.raises(DataError, match=message):
        NmnistDataModule(**BASE, name="nmnist_subset", data_dir=some).setup()


def test_archives_put_there_by_hand_are_extracted(
    small_but_whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_but_whole / "NMNIST"
    archives = {}
    for name, official in ARCHIVES.items():
        with zipfile.ZipFile(folder / official.name, "w") as archive:
            for path in sorted((folder / name).glob("*/*.bin")):
                archive.write(path, path.relative_to(folder))
                archive.writestr(f"__MACOSX/{name}/._{path.name}", b"")
        md5 = hashlib.md5((folder / official.name).read_bytes()).hexdigest()
        archives[name] = Archive(official.name, ("http://127.0.0.1:9/",), md5, official.size)
        (folder / name).rename(small_but_whole / f"was_{name}")
    monkeypatch.setattr(NmnistDataModule, "archives", archives)
    module = NmnistDataModule(**BASE, data_dir=small_but_whole)
    module.setup()
    assert [module.size(part) for part in PART_NAMES] == [27, 3, 20]
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("name", ["nmnist", "nmnist_subset"])
def test_absent_and_offline_says_what_to_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    offline = {
        folder: Archive(archive.name, ("http://127.0.0.1:9/",), archive.md5, archive.size)
        for folder, archive in ARCHIVES.items()
    }
    monkeypatch.setattr(NmnistDataModule, "archives", offline)
    with pytest.raises(DataError) as caught:
        NmnistDataModule(**BASE, name=name, data_dir=tmp_path).setup()
    for words in (
        f"{name} is not in {tmp_path / 'NMNIST'} and could not be downloaded",
        "20959b8e626244a1b502305a9e6e2031",
        "69ca8762b2fe404d9b9bad1103e97832",
    ):
        assert words in str(caught.value)
    assert [archive.urls[0].split("/")[2] for archive in ARCHIVES.values()] == [
        "data.mendeley.com"
    ] * 2


@pytest.mark.data
@pytest.mark.parametrize("binning", ["count", "time"])
def test_all_1100_real_recordings_are_read(tmp_path: Path, binning: Any) -> None:
    source = find_folder(None).resolve() / "NMNIST"
    (tmp_path / "NMNIST").symlink_to(source)  # the cache stays out of CBP_DATA
    arguments: dict[str, Any] = {**BASE, "time_steps": 10, "binning": binning}
    whole = NmnistDataModule(**arguments, name="nmnist_subset", data_dir=tmp_path)
    first = NmnistDataModule(**arguments, name="nmnist_subset_first_saccade", data_dir=tmp_path)
    for module in (whole, first):
        module.setup()
        assert [module.size(part) for part in PART_NAMES] == [700, 100, 300]
        assert module.subset == f"1,100 of 70,000 recordings, list {SUBSET_CHECKSUM[:16]}"
        assert module.skipped == 0
    parts = split_subset(
        {
            label: [
                index_of(r.path) for p in PART_NAMES for r in whole.listing(p) if r.label == label
            ]
            for label in range(10)
        }
    )
    for part in PART_NAMES:
        listed = whole.listing(part)
        assert sorted(index_of(r.path) for r in listed) == parts[part]
        assert all(r.label == label_of(r.path) for r in listed)
        counts = {n: m.parts[part].frames.sum((1, 2, 3, 4)) for n, m in enumerate((whole, first))}
        assert (counts[1] < counts[0]).all()
        share = counts[1].sum() / counts[0].sum()
        assert 0.2 < share < 0.45  # one of three saccades
    events = SortedNmnist(whole.listing("test"))[0][0]
    assert 290_000 < int(events["t"][-1] - events["t"][0]) < 315_000
