"""``view``: what is in a recording, in words that a slow count confirms, and as pictures."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import faery
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from test_aedat2 import aedat2
from test_cifar10_dvs import random_events, write, write_simulation
from test_dvs128_gesture import clip
from test_nmnist import content

from datamodules.errors import DataError
from datamodules.simulation.figure import OFF_COLOUR, ON_COLOUR
from datamodules.view import READERS, Viewed, view_data_set, view_file
from repro.cli import main

SIDE = 128


def frames_of(picture: Any) -> int:
    return int(picture.n_frames)


def columns(events: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Return ``[N, 4]``: x, y, polarity, time (us)."""
    return np.stack([events[name].astype(np.int64) for name in ("x", "y", "on", "t")], 1)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same events in every format, and in a NumPy file with fields and one without."""
    events = random_events(900, seed=3, side=34)
    events["t"] *= 1_000  # whole ms, as tables of DVS128 Gesture have them
    rows, small = columns(events), columns(events)
    small[:, 3] //= 1_000
    files = {suffix: tmp_path / f"own{suffix}" for suffix in READERS}
    files["table"] = tmp_path / "table.npy"
    np.save(files[".npy"], events)
    np.save(files["table"], small.astype(np.int32))
    bin_rows = rows.copy()
    bin_rows[:, 3] = small[:, 3]  # 23 bits of time
    files[".bin"].write_bytes(content(bin_rows.tolist()))
    files[".aedat"].write_bytes(aedat2(events))
    write(files[".aedat4"], events, side=SIDE)
    faery.events_stream_from_array(events, (SIDE, SIDE)).to_file(files[".dat"])
    return files


def test_every_format_has_the_same_events(files: dict[str, Path]) -> None:
    found = {name: view_file(path).rows for name, path in files.items()}
    expected = columns(np.load(files[".npy"]))
    assert len(expected) == 900
    for name, rows in found.items():
        scale = [1, 1, 1, 1_000] if name == ".bin" else [1, 1, 1, 1]
        np.testing.assert_array_equal(rows * scale, expected, err_msg=name)


def test_words_are_those_of_a_slow_count(files: dict[str, Path]) -> None:
    events = [tuple(map(int, row)) for row in view_file(files[".npy"]).rows]
    said = view_file(files[".npy"]).in_words(steps=10)
    times = [t for *_, t in events]
    assert said["events"] == "900"
    assert said["duration"].startswith(f"{(times[-1] - times[0]) / 1_000:,.1f} ms from")
    assert said["rate"] == f"{900 / (times[-1] - times[0]) * 1e6:,.0f} per s"
    assert said["polarity"] == f"{sum(p for _, _, p, _ in events) / 9:.1f} % brighter"
    assert said["order"] == "times rise"
    assert said["range"] == "x 0 to 33, y 0 to 33"
    pixel = re.match(r"x (\d+), y (\d+): (.*) %", said["busiest pixel"])
    assert pixel
    counts = Counter((x, y) for x, y, *_ in events)
    assert counts[int(pixel[1]), int(pixel[2])] == max(counts.values())
    assert pixel[3] == f"{max(counts.values()) / 9:.1f}"
    assert said["as frames"] == "90 events each"


@pytest.mark.parametrize(
    ("change", "word", "said"),
    [
        ({(5, 3): 0}, "order", "back 1 times, first at event 5, by up to 400 us"),
        ({(5, 3): 0}, "as frames", "refused: its time goes back at event 5"),
        ({(5, 0): 40}, "range", "x 0 to 40, y 0 to 0"),
        ({(5, 0): 40}, "as frames", "refused: x runs from 0 to 40, the sensor's from 0 to 33"),
        ({}, "as frames", "5 events each"),
    ],
)
def test_what_is_odd_is_said(change: Any, word: str, said: str) -> None:
    rows = np.zeros((10, 4), np.int64)
    rows[:, 3] = np.arange(10) * 100
    for place, value in change.items():
        rows[place] = value
    viewed = Viewed("odd", rows, sensor_side=34)
    assert viewed.in_words(steps=2)[word] == said
    assert viewed.frames(2).shape == (2, 34, 34)  # a picture all the same


def test_one_time_for_all_events_and_pixels_of_no_sensor() -> None:
    rows = np.zeros((10, 4), np.int64)
    assert Viewed("at once", rows).in_words(2)["rate"] == "all at once"
    rows[:, 0] = -1
    assert not Viewed("beside the sensor", rows).frames(2).any()
    rows[3, 1] = 30_000
    with pytest.raises(DataError, match="huge has a pixel at 30000: too large for a picture"):
        Viewed("huge", rows).frames(2)


@pytest.mark.parametrize("ending", ["png", "svg", "gif", "PNG"])
def test_a_recording_is_said_and_drawn(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    out = tmp_path / "made" / f"frames.{ending}"
    assert main(["view", str(files[".bin"]), "--figure", str(out), "--steps", "5"]) == 0
    said = capsys.readouterr().out
    for words in ("900", "times rise", "180 events each", str(out)):
        assert words in said
    assert out.stat().st_size > 500
    if ending == "gif":
        with Image.open(out) as picture:
            assert (frames_of(picture), picture.size) == (5, (238, 238))  # 34 pixels, 7 times


def test_brighter_is_orange_and_darker_blue(tmp_path: Path) -> None:
    events = np.array([(0, 0, 0, 1), (1_000, 1, 1, 0)], random_events(1, 0).dtype)
    np.save(tmp_path / "two.npy", events)
    out = tmp_path / "two.gif"
    assert main(["view", str(tmp_path / "two.npy"), "--figure", str(out), "--steps", "2"]) == 0
    corners = []
    with Image.open(out) as picture:
        for step in range(2):
            picture.seek(step)
            frame = picture.convert("RGB")
            corners.append([frame.getpixel((at, at)) for at in (1, frame.width - 2)])
    orange, blue = (tuple(bytes.fromhex(colour[1:])) for colour in (ON_COLOUR, OFF_COLOUR))
    white = (255, 255, 255)
    assert np.abs(np.array(corners) - np.array([[orange, white], [white, blue]])).max() <= 2


def test_a_data_set_is_one_recording_of_every_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write_simulation(tmp_path / "digits_dvs_sim", ("0", "1"), per_class=12)
    out = tmp_path / "frames.gif"
    words = ["view", "digits_dvs_sim", f"--data-dir={tmp_path}", "--number=1"]
    assert main([*words, f"--figure={out}"]) == 0
    said = capsys.readouterr().out
    assert [name[0] for name in re.findall(r"^(\d/\d_\d+) ", said, re.MULTILINE)] == ["0", "1"]
    assert "20 train, 2 val, 2 test" in said
    with Image.open(out) as picture:
        assert frames_of(picture) == 10
    assert not (tmp_path / "cache").exists()
    title, viewed = view_data_set("digits_dvs_sim", 0, tmp_path)
    assert [one.sensor_side for one in viewed] == [16, 16]
    assert "digits_dvs_sim in" in title


def test_what_is_there_of_a_real_data_set_is_enough(tmp_path: Path) -> None:
    folder = tmp_path / "DVSGesture" / "ibmGestureTest" / "user00_sample"
    folder.mkdir(parents=True)
    np.save(folder / "3.npy", clip(60, seed=0))
    _, viewed = view_data_set("dvs128_gesture", 0, tmp_path)
    assert [one.name for one in viewed] == ["user00_sample/3"]
    folder = tmp_path / "NMNIST" / "Train" / "7"
    folder.mkdir(parents=True)
    for number in range(20):
        (folder / f"{number:05}.bin").write_bytes(content([[1, 2, 1, 3], [1, 2, 0, 4]]))
    for name in ("nmnist", "nmnist_subset"):
        title, viewed = view_data_set(name, 3, tmp_path)
        assert [one.sensor_side for one in viewed] == [34]
        assert ("A subset of N-MNIST" in title) == (name == "nmnist_subset")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonesuch.bin"], "nonesuch.bin: No such file or directory: check the path"),
        (["nonesuch"], "nonesuch is not a recording: give one that ends in .npy, .bin"),
        (["{tmp}/cut.bin"], "cut.bin is damaged: its 7 bytes are no multiple of 5"),
        (["{tmp}/empty.bin"], "empty.bin is damaged: it has no events"),
        (["{tmp}/text.npy"], "text.npy is damaged: it cannot be read"),
        (["{tmp}/shape.npy"], "shape.npy is damaged: its shape is (3, 2), not [N, 4]"),
        (["{tmp}/fields.npy"], "its fields are x, y: x, y, t and p are needed"),
        (["{tmp}/floats.npy"], "its field t is float64: whole numbers are needed, t in us"),
        (["{tmp}/text.aedat"], "does not begin with #!AER-DAT2.0"),
        (["{tmp}/text.aedat4"], "text.aedat4 is damaged: its header is cut"),
        (["{tmp}/text.dat"], "text.dat is damaged: it"),
        (["{tmp}/folder.bin"], "folder.bin: Is a directory: give a file"),
        (["cifar10"], "cifar10 has images, not recordings: give one of dvs128_gesture"),
        (["cifar10_dvs", "--data-dir={tmp}"], "cifar10_dvs has no recordings in"),
        (["digits_dvs_sim", "--data-dir={tmp}"], "digits_dvs_sim has no recordings in"),
        (["nmnist", "--data-dir={tmp}"], "nmnist has no recordings in"),
        (["a.bin", "--figure=a.pdf"], "give a name that ends in .png or .svg or .gif"),
        (["a.bin", "--steps=0"], "give 0 and 1 or more"),
        (["a.bin", "--number=-1"], "give 0 and 1 or more"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (tmp_path / "cut.bin").write_bytes(bytes(7))
    (tmp_path / "empty.bin").touch()
    (tmp_path / "folder.bin").mkdir()
    for ending in ("npy", "aedat", "aedat4", "dat"):
        (tmp_path / f"text.{ending}").write_text("no events")
    np.save(tmp_path / "shape.npy", np.zeros((3, 2), np.int32))
    floats = [(name, "<f8" if name == "t" else "<i8") for name in "xytp"]
    np.save(tmp_path / "floats.npy", np.zeros(3, floats))
    np.save(tmp_path / "fields.npy", np.zeros(3, [("x", "<i8"), ("y", "<i8")]))
    assert main(["view", *(word.format(tmp=tmp_path) for word in words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
