"""DVS128 Gesture: people held out, times and labels of the files, archives, ten real clips."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from datamodules.archives import Archive
from datamodules.base import Recording, find_folder, interleave_classes
from datamodules.binning import DamagedRecordingError, FrameShape, bin_events
from datamodules.dvs128_gesture import (
    ARCHIVES,
    SPLIT,
    TEST_FOLDER,
    TRAIN_FOLDER,
    TRAINING_USERS,
    VALIDATION_USERS,
    Dvs128GestureDataModule,
    SortedDvsGesture,
    user_of,
    validation_users,
)
from datamodules.errors import DataError
from datamodules.simulation.figure import frames_figure
from datamodules.splits import SEED, read_split
from repro.networks.sew_resnet import sew_net

STEPS, LABELS, MS = 4, 3, 1_000  # microseconds
BASE: dict[str, Any] = {"batch_size": 4, "seed": 0, "time_steps": STEPS, "spatial_pool": 16}


def clip(count: int, seed: int) -> npt.NDArray[np.int32]:
    """Return events ``[N, 4]``: x, y, polarity and time in ms, as the files hold them."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 128, (count, 2))
    times = np.cumsum(draw.integers(0, 3, count))
    return np.column_stack([pixels, draw.integers(0, 2, count), times]).astype(np.int32)


def write(folder: Path, users: Sequence[int], labels: int = LABELS) -> Path:
    """Write one clip per person, of two lights, and label."""
    for user in users:
        for light in ("fluorescent_led", "natural"):
            place = folder / f"user{user:02}_{light}"
            place.mkdir(parents=True)
            for label in range(labels):
                np.save(place / f"{label}.npy", clip(50 + label, seed=100 * user + label))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "DVSGesture" / TRAIN_FOLDER, range(1, TRAINING_USERS + 1))
    write(tmp_path / "DVSGesture" / TEST_FOLDER, range(24, 30))
    return tmp_path


def test_the_committed_split_is_that_of_the_rule() -> None:
    people = range(1, TRAINING_USERS + 1)
    ranked = sorted(people, key=lambda user: hashlib.sha256(f"{SEED}:{user}".encode()).digest())
    assert read_split(SPLIT).tolist() == sorted(ranked[:VALIDATION_USERS])
    assert validation_users(people) == read_split(SPLIT).tolist()
    generator = 'lowest-sha256("seed:user")-of-training-users'
    head = f"# seed={SEED} generator={generator} count={VALIDATION_USERS} "
    assert SPLIT.read_text().startswith(head)
    assert len(validation_users(range(8))) == 1


def test_no_person_is_in_two_parts(data: Path) -> None:
    module = Dvs128GestureDataModule(**BASE, data_dir=data)
    module.setup()
    people = {
        part: {user_of(recording.path) for recording in module.listing(part)}  # type: ignore[arg-type]
        for part in ("train", "val", "test")
    }
    assert people["val"] == set(read_split(SPLIT).tolist())
    assert people["train"] == set(range(1, TRAINING_USERS + 1)) - people["val"]
    assert people["test"] == set(range(24, 30))
    assert module.size("train") == (TRAINING_USERS - VALIDATION_USERS) * 2 * LABELS
    assert module.parts["train"].labels[: 2 * LABELS].tolist() == [0, 1, 2] * 2


def test_clips_become_frames_by_microseconds(data: Path) -> None:
    module = Dvs128GestureDataModule(**BASE, binning="time", data_dir=data)
    module.setup("test")
    first = data / "DVSGesture" / TEST_FOLDER / "user24_fluorescent_led" / "0.npy"
    raw = np.load(first)
    events, label = SortedDvsGesture([Recording(first, 0)])[0]
    assert label == 0
    assert events["t"].tolist() == (raw[:, 3] * MS).tolist()
    assert events["x"].tolist() == raw[:, 0].tolist()
    assert events["p"].astype(int).tolist() == raw[:, 2].tolist()
    expected = bin_events(events, FrameShape(STEPS, "time", 128, 16))
    np.testing.assert_array_equal(module.parts["test"].frames[0], expected)


def test_a_mirrored_hand_would_be_the_other_one(data: Path) -> None:
    module = Dvs128GestureDataModule(**BASE, augment=True, data_dir=data)
    module.setup()
    drawn = [d for *_, d in module.training_batches().sampler.batches(4) if d is not None]
    assert torch.cat(drawn)[:, 2].sum() == 0
    assert torch.cat(drawn)[:, :2].abs().sum() > 0


def test_the_test_part_alone_needs_its_folder_alone(tmp_path: Path) -> None:
    write(tmp_path / "DVSGesture" / TEST_FOLDER, range(24, 30))
    module = Dvs128GestureDataModule(**BASE, data_dir=tmp_path)
    module.setup("test")
    assert module.size("test") == 6 * 2 * LABELS


@pytest.mark.parametrize(
    ("folder", "users", "differing"),
    [
        (TEST_FOLDER, range(24, 29), "user29"),
        (TEST_FOLDER, [1, *range(24, 30)], "user01"),
        (TRAIN_FOLDER, range(1, 25), "user24"),
    ],
)
def test_a_part_of_the_real_data_set_is_not_it(
    tmp_path: Path, folder: str, users: Sequence[int], differing: str
) -> None:
    for name, whole in ((TRAIN_FOLDER, range(1, 24)), (TEST_FOLDER, range(24, 30))):
        write(tmp_path / "DVSGesture" / name, users if name == folder else whole)
    module = Dvs128GestureDataModule(**BASE, data_dir=tmp_path)
    with pytest.raises(DataError, match=rf"{folder} is not the whole data set \({differing} "):
        module.setup()
    module.partial = True
    module.setup()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 65_539, "pixels beyond any sensor"),  # 3 in 16 bits
        (1, float("nan"), "not whole numbers"),
        (2, -1, "polarities other than 0 and 1"),  # true
        (3, float("inf"), "not whole numbers"),
    ],
)
def test_values_that_tonic_would_make_others_of_are_named(
    tmp_path: Path, column: int, value: float, message: str
) -> None:
    path = tmp_path / "0.npy"
    events = clip(50, seed=0).astype(np.float64 if isinstance(value, float) else np.int32)
    np.save(path, events.astype(np.int32))
    assert len(SortedDvsGesture([Recording(path, 0)])[0][0]) == 50
    events[7, column] = value
    np.save(path, events)
    with pytest.raises(DamagedRecordingError, match=message):
        SortedDvsGesture([Recording(path, 0)])[0]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", r"0\.npy is damaged: it cannot be read"),
        ("empty", r"0\.npy is damaged: 0 events are too few for 4 frames"),
        ("outside", r"0\.npy is damaged: x runs from .* to 128, the sensor's from 0 to 127"),
        ("backwards", r"0\.npy is damaged: its time goes back at event 9"),
        ("label", r"11\.npy is not named by a label from 0 to 10: rename or remove it"),
        ("person", r"them_led is not named like user07_led: rename or remove it"),
    ],
)
def test_damage_is_named(data: Path, kind: str, message: str) -> None:
    folder = data / "DVSGesture" / TRAIN_FOLDER / "user01_natural"
    path, events = folder / "0.npy", clip(50, seed=0)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    elif kind == "label":
        path.rename(folder / "11.npy")
    elif kind == "person":
        folder.rename(folder.with_name("them_led"))
    else:
        if kind == "outside":
            events[3, 0] = 128
        elif kind == "backwards":
            events[9, 3] = -1
        np.save(path, events[:0] if kind == "empty" else events)
    with pytest.raises(DataError, match=message):
        Dvs128GestureDataModule(**BASE, data_dir=data).setup()


def test_a_simulation_holds_its_own_people_out(tmp_path: Path) -> None:
    def simulate(folder: Path) -> None:
        write(folder / TRAIN_FOLDER, range(1, 9))
        write(folder / TEST_FOLDER, range(9, 11))
        (folder / "simulation.json").write_text(json.dumps({"sensor_side": 128}))

    module = Dvs128GestureDataModule(
        **BASE, name="dvs128_gesture_sim", data_dir=tmp_path, make=simulate
    )
    module.setup()
    held_out = {user_of(recording.path) for recording in module.listing("val")}
    assert held_out == set(validation_users(range(1, 9)))
    assert [module.size(part) for part in ("train", "val", "test")] == [42, 6, 12]


def archives_of(folder: Path) -> dict[str, Archive]:
    """Pack the folders of a data set; return archives with their md5 and an address nobody has."""
    found = {}
    for name, official in ARCHIVES.items():
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as tar:
            tar.add(folder / name, name)
        md5 = hashlib.md5(content.getvalue()).hexdigest()
        found[name] = Archive(official.name, ("http://127.0.0.1:9/",), md5, official.size)
        (folder / official.name).write_bytes(content.getvalue())
        (folder / name).rename(folder / f"was_{name}")
    return found


def test_archives_put_there_by_hand_are_extracted(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = data / "DVSGesture"
    monkeypatch.setattr(Dvs128GestureDataModule, "archives", archives_of(folder))
    (folder / "ibmGestureTrain.tar.gz.extracted.tmp" / TRAIN_FOLDER).mkdir(parents=True)
    module = Dvs128GestureDataModule(**BASE, data_dir=data)
    module.setup()
    assert module.size("test") == 6 * 2 * LABELS
    assert not list(folder.glob("*.tmp"))


def test_absent_and_offline_says_what_to_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = {
        name: Archive(archive.name, ("http://127.0.0.1:9/",), archive.md5, archive.size)
        for name, archive in ARCHIVES.items()
    }
    monkeypatch.setattr(Dvs128GestureDataModule, "archives", offline)
    for stage, words in (
        ("test", "ibmGestureTest.tar.gz (about 691 MB, md5 56070e45dadaa85fff82e0fbfbc06de5, from"),
        ("fit", "ibmGestureTrain.tar.gz (about 2.4 GB, md5 3a8f0d4120a166bac7591f77409cb105, from"),
        ("fit", "and ibmGestureTest.tar.gz (about 691 MB"),
    ):
        with pytest.raises(DataError) as caught:
            Dvs128GestureDataModule(**BASE, data_dir=tmp_path).setup(stage)
        assert words in str(caught.value)
        assert f"is not in {tmp_path / 'DVSGesture'} and could not" in str(caught.value)
    assert [archive.urls[0].rpartition("/")[2] for archive in ARCHIVES.values()] == [
        "38022171",
        "38020584",
    ]


@pytest.mark.data
def test_real_clips_become_batches(tmp_path: Path) -> None:
    source = find_folder(None).resolve() / "DVSGesture" / TEST_FOLDER
    (tmp_path / "DVSGesture").mkdir()
    (tmp_path / "DVSGesture" / TEST_FOLDER).symlink_to(source)  # the cache stays out of CBP_DATA
    module = Dvs128GestureDataModule(batch_size=4, seed=0, time_steps=16, data_dir=tmp_path)
    module.partial = True
    module.setup("test")
    paths = sorted(source.glob("*/*.npy"))
    assert module.size("test") == len(paths) > 0
    batches = [module.on_after_batch_transfer(batch, 1) for batch in module.batches("test")]
    events, labels = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    assert events.shape == (len(paths), 16, 2, 128, 128)
    recordings = interleave_classes(module.listing("test"))
    for frames, label, (path, expected) in zip(events, labels, recordings, strict=True):
        assert label == expected == int(path.stem)
        assert frames.sum((1, 2, 3)).tolist() == [len(np.load(path)) // 16] * 16
    network = sew_net("sew_7b", module.classes).eval()
    with torch.no_grad():
        logits = network(events[:4])
    assert logits.shape == (1, 4, 11)
    assert logits.isfinite().all()
    figure = frames_figure(tmp_path / "DVSGesture", tmp_path / "clips.png")
    assert figure.stat().st_size > 10_000
