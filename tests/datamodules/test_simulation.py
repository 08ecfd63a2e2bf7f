"""Simulated data sets: complete or absent, equal for equal numbers, learnable, drawn."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tonic.io import read_aedat4

from datamodules.errors import DataError
from datamodules.simulation import simulate as module
from datamodules.simulation.camera import Array, Camera
from datamodules.simulation.datasets import (
    CLASSES,
    DESCRIPTION,
    SIMULATED,
    GestureSimulation,
    ImageSimulation,
    read_images,
)
from datamodules.simulation.figure import bin_events, frames_figure, read
from datamodules.simulation.gestures import NAMES
from datamodules.simulation.simulate import (
    find_simulation,
    make,
    simulate,
    simulate_in_words,
)
from datamodules.simulation.writers import events_sha256

PER_CLASS = 2


def cifar() -> ImageSimulation:
    simulation = find_simulation("cifar10_dvs_sim", recordings_per_class=1)
    assert isinstance(simulation, ImageSimulation)
    return simulation


def gestures() -> GestureSimulation:
    simulation = SIMULATED["gesture_smoke_sim"]
    assert isinstance(simulation, GestureSimulation)
    return simulation


def fake_images(seed: int = 0) -> tuple[Array, Array]:
    """Twenty images of a bright square on a dark ground, two a class."""
    images = np.full((20, 32, 32), 0.1, np.float32)
    for image, (row, column) in zip(
        images, np.random.default_rng(seed).integers(4, 18, (20, 2)), strict=True
    ):
        image[row : row + 10, column : column + 10] = 0.9
    return images, np.arange(20) % 10


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    folder = tmp_path / "digits_dvs_sim"
    simulate("digits_dvs_sim", folder, recordings_per_class=PER_CLASS)
    return folder


def test_a_set_states_all_that_made_it(digits: Path) -> None:
    stated = json.loads((digits / DESCRIPTION).read_text())
    simulation = find_simulation("digits_dvs_sim", recordings_per_class=PER_CLASS)
    assert json.loads(json.dumps(asdict(simulation))).items() <= stated.items()
    assert stated["camera"]["threshold"] == simulation.camera.threshold
    assert (stated["name"], stated["sensor_side"]) == ("digits_dvs_sim", 32)
    assert stated["count"] == 10 * PER_CLASS
    names = {path.relative_to(digits).as_posix() for path in digits.glob("*/*")}
    assert names == {f"{d}/digits_{d}_{n}.aedat4" for d in range(10) for n in range(PER_CLASS)}
    events = [read_aedat4(str(digits / name)) for name in sorted(names)]
    assert stated["events"] == sum(map(len, events))
    assert stated["bytes"] == sum((digits / name).stat().st_size for name in names)


def test_the_checksum_is_that_of_the_events(digits: Path) -> None:
    found = [events_sha256(read_aedat4(str(path))) for path in sorted(digits.glob("*/*.aedat4"))]
    stated = json.loads((digits / DESCRIPTION).read_text())["sha256"]
    assert stated == hashlib.sha256("".join(f"{each}\n" for each in found).encode()).hexdigest()


def test_the_same_again_does_nothing(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.loads((digits / DESCRIPTION).read_text())

    def refuse(*_: Any) -> None:
        raise AssertionError("filmed again")

    monkeypatch.setattr(module, "make_one", refuse)
    assert simulate("digits_dvs_sim", digits, recordings_per_class=PER_CLASS) == before
    with pytest.raises(AssertionError, match="filmed again"):
        simulate("digits_dvs_sim", digits.with_name("b"), recordings_per_class=PER_CLASS)


def test_other_numbers_are_refused(digits: Path) -> None:
    with pytest.raises(DataError, match=r"another seed: delete it and run again"):
        simulate("digits_dvs_sim", digits, recordings_per_class=PER_CLASS, seed=1)
    with pytest.raises(DataError, match=r"another camera"):
        simulate(
            "digits_dvs_sim", digits, recordings_per_class=PER_CLASS, camera=Camera(threshold=1)
        )


def test_a_set_depends_on_the_seed_and_nothing_else(digits: Path, tmp_path: Path) -> None:
    simulate("digits_dvs_sim", tmp_path / "again", recordings_per_class=PER_CLASS)
    simulate("digits_dvs_sim", tmp_path / "other", recordings_per_class=PER_CLASS, seed=1)
    assert tree(digits) == tree(tmp_path / "again")
    first, other = tree(digits), tree(tmp_path / "other")
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_more_recordings_keep_the_first_ones(digits: Path, tmp_path: Path) -> None:
    simulate("digits_dvs_sim", tmp_path / "more", recordings_per_class=PER_CLASS + 1)
    first, more = tree(digits), tree(tmp_path / "more")
    del first[DESCRIPTION]
    assert first.items() < more.items()


@pytest.mark.slow
def test_several_processes_make_the_same(digits: Path, tmp_path: Path) -> None:
    simulate("digits_dvs_sim", tmp_path / "two", recordings_per_class=PER_CLASS, jobs=2)
    assert tree(digits) == tree(tmp_path / "two")


def test_an_interrupted_simulation_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, whole = tmp_path / "digits", tmp_path / "whole"
    original: Callable[..., Any] = module.make_one
    calls = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 7:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "make_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate("digits_dvs_sim", folder, recordings_per_class=PER_CLASS)
    assert not folder.exists()
    monkeypatch.undo()
    for each in (folder, whole):
        simulate("digits_dvs_sim", each, recordings_per_class=PER_CLASS)
    assert tree(folder) == tree(whole)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".partial"]


def test_two_at_once_make_one_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., Any] = module.make_one
    calls = []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return original(*arguments)

    def one(number: int) -> Any:
        return simulate("digits_dvs_sim", tmp_path / "set", recordings_per_class=1)

    monkeypatch.setattr(module, "make_one", counted)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, range(2))
    assert first == second
    assert len(calls) == first["count"] == 10


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=r"was not simulated \(no simulation\.json\)"):
        simulate("digits_dvs_sim", tmp_path, recordings_per_class=1)
    assert [path.name for path in tmp_path.iterdir()] == ["cat"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    simulate("digits_dvs_sim", tmp_path / "empty", recordings_per_class=1)
    assert (tmp_path / "empty" / DESCRIPTION).is_file()


def test_a_damaged_description_is_reported(digits: Path) -> None:
    (digits / DESCRIPTION).write_text("{")
    with pytest.raises(DataError, match="is damaged: delete"):
        simulate("digits_dvs_sim", digits, recordings_per_class=PER_CLASS)


def test_cifar10_dvs_from_images(tmp_path: Path) -> None:
    simulation = replace(cifar(), frames=30)
    folder = tmp_path / "set"
    made = make(simulation, simulation.takes_of(*fake_images()), folder)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == list(
        CLASSES["cifar10"]
    )
    events = read_aedat4(str(folder / "cat" / "cifar10_cat_0.aedat4"))
    assert made["count"] == 10
    assert made["median_events"] > 2_000
    assert 0.3 < events["on"].mean() < 0.7
    assert events["t"].max() <= simulation.duration_us
    assert max(events["x"].max(), events["y"].max()) <= 127


def test_events_lie_on_edges() -> None:
    simulation = replace(cifar(), camera=replace(cifar().camera, noise_hz=0))
    image = np.full((32, 32), 0.1, np.float32)
    image[:, 16:] = 0.9
    events = simulation.film(image, 0, 0)
    inside = events[(events["y"] > 20) & (events["y"] < 107)]
    reach = simulation.amplitude + 2 * simulation.image_side / 32  # movement and bicubic blur
    from_middle = np.abs(inside["x"].astype(int) - 64)
    near_edge = from_middle < reach
    near_border = np.abs(from_middle - simulation.image_side / 2) < reach
    assert (near_edge | near_border).all()
    assert near_edge.sum() > 1_000
    blank = simulation.film(np.full((32, 32), 0.5, np.float32), 0, 0)
    assert len(blank) == 0


def test_too_few_images_are_reported() -> None:
    simulation = replace(cifar(), recordings_per_class=3)
    with pytest.raises(DataError, match="2 images of class airplane"):
        simulation.takes_of(*fake_images())


@pytest.mark.data
def test_cifar10_images_are_grey_and_whole() -> None:
    images, labels = read_images("cifar10", None)
    assert images.shape == (50_000, 32, 32)
    assert (images.min(), images.max()) == (0, pytest.approx(1))
    assert np.bincount(labels).tolist() == [5_000] * 10


def test_gestures_have_the_folders_of_dvs128_gesture(tmp_path: Path) -> None:
    changes = {"train_users": 2, "test_users": 1, "frames": 60}
    made = simulate("gesture_smoke_sim", tmp_path / "set", **changes)
    names = {path.relative_to(tmp_path / "set").as_posix() for path in tmp_path.glob("set/*/*/*")}
    people = ["ibmGestureTrain/user01", "ibmGestureTrain/user02", "ibmGestureTest/user24"]
    assert names == {f"{one}_fluorescent/{label}.npy" for one in people for label in range(11)}
    assert made["count"] == len(names) == 33
    rows = np.load(tmp_path / "set" / "ibmGestureTest" / "user24_fluorescent" / "7.npy")
    assert rows.dtype == np.int32
    assert rows[:, :2].max() <= 31
    assert set(rows[:, 2]) == {0, 1}
    assert (np.diff(rows[:, 3]) >= 0).all()
    assert rows[-1, 3] <= 1_600


def test_light_and_person_change_a_gesture() -> None:
    simulation = gestures()

    def film(user: int, lighting: str) -> Array:
        return simulation.film(user, lighting, 3)

    bright, dark, other = film(1, "fluorescent"), film(1, "natural"), film(2, "fluorescent")
    assert np.array_equal(bright, film(1, "fluorescent"))
    assert not np.array_equal(bright, dark)
    assert not np.array_equal(bright, other)
    assert len(dark) < len(bright)


def test_the_gesture_can_be_told_from_its_events() -> None:
    simulation = replace(gestures(), frames=80)

    def features(user: int, label: int) -> Array:
        events = simulation.film(user, "fluorescent", label)
        counts = np.zeros((8, 8))
        np.add.at(counts, (events["y"] // 4, events["x"] // 4), 1)
        return np.sqrt(counts / counts.sum()).ravel()

    labels = [0, 1, 2, 7, 8]  # those that differ in where they happen
    known = [np.mean([features(user, label) for user in range(1, 5)], 0) for label in labels]
    right = 0
    for user in range(24, 28):
        for index, label in enumerate(labels):
            distances = np.linalg.norm(np.array(known) - features(user, label), axis=1)
            right += int(distances.argmin() == index)
    assert right >= 15  # of 20; chance is 4


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("nonesuch", {}, "no simulated data set 'nonesuch': one of cifar10_dvs_sim"),
        ("digits_dvs_sim", {"users": 3}, "has no users: change recordings_per_class"),
        ("gesture_smoke_sim", {"recordings_per_class": 3}, "change train_users and test_users"),
        ("digits_dvs_sim", {"recordings_per_class": 0}, "recordings_per_class is 0"),
        ("digits_dvs_sim", {"image_side": 33}, "image_side is 33: give 1 to 32"),
        ("digits_dvs_sim", {"seed": -1}, "seed is -1"),
        ("gesture_smoke_sim", {"train_users": 24}, "at most 23 train_users, 6 test_users"),
        ("gesture_smoke_sim", {"lightings": ("sun",)}, "give some of fluorescent"),
        ("digits_dvs_sim", {"jobs": 0}, "jobs is 0"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, name: str, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        simulate(name, tmp_path / "set", **overrides)
    assert not list(tmp_path.iterdir())


def test_names_and_numbers_of_the_sets() -> None:
    assert all(name == simulation.name for name, simulation in SIMULATED.items())
    gesture = SIMULATED["dvs128_gesture_sim"]
    assert len([take for take in gesture.takes() if "Train" in take.path]) == 23 * 3 * 11
    assert len([take for take in gesture.takes() if "Test" in take.path]) == 6 * 3 * 11
    assert SIMULATED["cifar10_dvs_sim"].sensor_side == gesture.sensor_side == 128


def test_in_words_with_a_figure(tmp_path: Path) -> None:
    words = simulate_in_words(
        "digits_dvs_sim", data_dir=tmp_path, recordings_per_class=1, figure=tmp_path / "f.svg"
    )
    assert "10 recordings" in words
    assert json.loads((tmp_path / "digits_dvs_sim" / DESCRIPTION).read_text())["sha256"] in words
    first = (tmp_path / "f.svg").read_bytes()
    frames_figure(tmp_path / "digits_dvs_sim", tmp_path / "g.svg")
    assert (tmp_path / "g.svg").read_bytes() == first
    frames_figure(tmp_path / "digits_dvs_sim", tmp_path / "h.svg", span_us=100_000)
    assert (tmp_path / "h.svg").read_bytes() != first


def test_a_figure_of_gestures_has_a_row_per_class(tmp_path: Path) -> None:
    changes = {"train_users": 1, "test_users": 1, "frames": 30}
    simulate("gesture_smoke_sim", tmp_path / "set", **changes)
    frames_figure(tmp_path / "set", tmp_path / "f.svg")
    drawn = (tmp_path / "f.svg").read_text()
    assert drawn.count("<image ") == 8 * len(NAMES)
    assert "air guitar" in drawn  # as a comment beside the glyphs


def test_a_figure_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="simulate it"):
        frames_figure(tmp_path, tmp_path / "f.png")
    with pytest.raises(DataError, match=r"ends in \.png or \.svg"):
        simulate_in_words("digits_dvs_sim", data_dir=tmp_path, figure=tmp_path / "f.pdf")
    assert not list(tmp_path.iterdir())


def test_frames_add_up_on_and_off_events() -> None:
    rows = np.array([[1, 0, 1, 100], [1, 0, 1, 150], [0, 1, 0, 199], [1, 1, 1, 299]])
    frames = bin_events(rows, steps=2, side=2)
    assert frames.tolist() == [[[0, 2], [-1, 0]], [[0, 0], [0, 1]]]
    assert bin_events(rows, steps=2, side=2, span_us=100).tolist()[1] == [[0, 1], [-1, 0]]


def test_gestures_are_read_in_microseconds(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.array([[1, 2, 1, 3]], np.int32))
    assert read(tmp_path / "0.npy").tolist() == [[1, 2, 1, 3_000]]
