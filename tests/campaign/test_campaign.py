"""A tier in slices: what comes next, when it stops, and that kills and moves change no row."""

import gzip
import hashlib
import io
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from made_rows import make_row, right
from paths import ROOT

from datamodules.errors import DataError
from repro.campaign.campaign import (
    PRIORITY,
    Campaign,
    by_default,
    packed_in_words,
    reserve,
    run_slice,
    slice_in_words,
)
from repro.campaign.transfer import MANIFEST, PART, pack, unpack
from repro.cells import RunKey, find_cell
from repro.cli import main
from repro.errors import DivergedError, OutOfTimeError, UserError
from repro.recipes.spec import RunSpec
from repro.results.rows import read_rows, write_row

STBP, VGG = find_cell("stbp", "cifar10"), find_cell("snn_calibration", "cifar10")


def campaign(folder: Path, commit: str = "a", seeds: tuple[int, ...] = (0, 1)) -> Campaign:
    return Campaign((VGG, STBP), "smoke", seeds, folder / "runs", folder / "rows", commit)


def names(keys: list[RunKey]) -> list[str]:
    return [str(key).removesuffix("-smoke-s0") for key in keys]


def test_the_headline_comes_first_and_first_seeds_before_second_ones() -> None:
    assert [str(cell) for cell in PRIORITY] == [
        *("snn_calibration/cifar100", "snn_calibration/cifar10"),
        *("tssl_bp/cifar10", "stbp/cifar10", "stbp/cifar100"),
    ]
    assert by_default("paper") == PRIORITY
    assert by_default("desk") == PRIORITY[:-1]  # STBP does not learn 100 classes there
    keys = campaign(Path()).all_runs()
    assert [key.seed for key in keys] == [0] * 9 + [1] * 9
    assert [key.precision for key in keys[:5]] == [
        *("ann", "fp32", "fp32_control", "binary", "ternary")
    ]


def write_some_row(key: RunKey, folder: Path) -> None:
    """A row of the recipe as it is now."""
    made = RunSpec.shipped(key)
    kind = {"precision": key.precision, "seed": key.seed, "tier": key.tier}
    kind |= {"recipe": made.values, "data": made.recipe.data}
    write_row(make_row(right(9), None, key.cell, **kind), folder)


class Maker:
    """Stands in for a run: writes its row and weights, or fails as it is told."""

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        self.folder, self.seconds = folder, seconds
        self.made: list[RunKey] = []
        self.wrong: dict[str, Exception] = {}

    def __call__(self, key: RunKey, deadline: float | None) -> None:
        if (error := self.wrong.get(key.precision)) is not None:
            raise error
        if deadline is not None and time.monotonic() + self.seconds > deadline:
            raise OutOfTimeError(self.seconds)
        write_some_row(key, self.folder / "rows")
        folder = self.folder / "runs" / str(key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        self.made.append(key)


def test_a_slice_makes_all_runs_parents_first_and_then_nothing(tmp_path: Path) -> None:
    make, wanted = Maker(tmp_path), campaign(tmp_path)
    found = run_slice(wanted, make, None)
    assert make.made == wanted.all_runs() == found.done
    assert "18 of 18 in all" in slice_in_words(wanted, found)
    again = run_slice(wanted, make, None)
    assert again.done == []
    assert "0 runs done in this call, 18 of 18" in slice_in_words(wanted, again)


def test_a_row_without_weights_is_done_but_its_children_want_it_made_again(tmp_path: Path) -> None:
    make, wanted = Maker(tmp_path), campaign(tmp_path, seeds=(0,))
    run_slice(wanted, make, None)
    for name in ("stbp-cifar10-fp32-smoke-s0", "snn_calibration-cifar10-ann-smoke-s0"):
        shutil.rmtree(tmp_path / "runs" / name)
    (tmp_path / "rows" / "stbp-cifar10-binary-smoke-s0.json").unlink()
    shutil.rmtree(tmp_path / "runs" / "stbp-cifar10-binary-smoke-s0")
    found = run_slice(wanted, make, None)
    assert names(found.done) == ["stbp-cifar10-fp32", "stbp-cifar10-binary"]


def test_time_that_is_up_stops_and_says_how_much_was_lacking(tmp_path: Path) -> None:
    make, wanted = Maker(tmp_path, seconds=2e6), campaign(tmp_path)
    found = run_slice(wanted, make, time.monotonic() + 1e6)
    assert found.done == []
    assert found.unfinished == wanted.all_runs()[0]
    words = slice_in_words(wanted, found)
    assert "not one epoch of it fits: give at least 2000000 s more" in words
    assert "the same command resumes" in words
    late = run_slice(wanted, make, time.monotonic() - 1)
    assert late.unfinished == wanted.all_runs()[0]
    assert late.short is None


def test_a_run_that_fails_leaves_its_children_out_until_the_code_changes(tmp_path: Path) -> None:
    make = Maker(tmp_path)
    make.wrong["ann"] = DivergedError("the loss is nan")
    found = run_slice(campaign(tmp_path, seeds=(0,)), make, None)
    assert names(found.done) == [f"stbp-cifar10-{p}" for p in STBP.precisions]
    assert "failed: snn_calibration-cifar10-ann-smoke-s0: the loss is nan" in slice_in_words(
        campaign(tmp_path, seeds=(0,)), found
    )
    make.wrong.clear()
    again = run_slice(campaign(tmp_path, seeds=(0,)), make, None)
    assert again.done == []
    assert [str(why) for why in again.failed.values()] == ["the loss is nan"]
    mended = run_slice(campaign(tmp_path, commit="b", seeds=(0,)), make, None)
    assert names(mended.done) == [f"snn_calibration-cifar10-{p}" for p in VGG.precisions]


def test_what_another_call_may_find_mended_is_tried_again(tmp_path: Path) -> None:
    make, wanted = Maker(tmp_path), campaign(tmp_path, seeds=(0,))
    make.wrong["ann"] = UserError("the folder is in use")
    assert len(run_slice(wanted, make, None).failed) == 1
    make.wrong.clear()
    assert len(run_slice(wanted, make, None).done) == len(VGG.precisions)


def test_a_cell_without_data_is_left_out_and_named(tmp_path: Path) -> None:
    make = Maker(tmp_path)
    make.wrong["ann"] = DataError("cifar10 is not there")
    found = run_slice(campaign(tmp_path, seeds=(0,)), make, None)
    assert len(found.done) == len(STBP.precisions)
    words = slice_in_words(campaign(tmp_path, seeds=(0,)), found)
    assert "not run: snn_calibration/cifar10: cifar10 is not there" in words
    assert "nothing more can be made here" in words


def test_a_tenth_of_a_short_budget_is_kept() -> None:
    assert reserve(10) == 1
    assert reserve(3600) == 30


def some_run(folder: Path, name: str, epochs: int, model: int = 0, state: int = 0) -> None:
    path = folder / "runs" / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    (path / "metrics.csv").write_text("epoch\n" + "".join(f"{n}\n" for n in range(epochs)))
    if model:
        (path / "model.safetensors").write_bytes(random.Random(name).randbytes(model))
        (folder / "rows").mkdir(exist_ok=True)
        (folder / "rows" / f"{name}.json").write_text("{}")
    if state:
        (path / "last.ckpt").write_bytes(random.Random(state).randbytes(state))


MB = 2**20


def test_what_travels_arrives_and_large_things_travel_if_they_fit(tmp_path: Path) -> None:
    here, there, out = tmp_path / "here", tmp_path / "there", tmp_path / "out"
    some_run(here, "small", 3, model=MB)
    some_run(here, "large", 3, model=20 * MB)
    some_run(here, "open", 2, state=5 * MB)
    args = (["small", "large", "open"], here / "runs", here / "rows", out)
    packed = pack(*args, limit=10 * MB, unfinished="open")
    assert packed.carried == {"small": ("row", "model"), "large": ("row",), "open": ("state",)}
    assert set(packed.left) == {"large"}
    assert sum(path.stat().st_size for path in packed.parts) < 10 * MB
    assert unpack(out, there / "runs", there / "rows") == ["small", "large", "open"]
    for path in ("runs/small/model.safetensors", "rows/large.json", "runs/open/last.ckpt"):
        assert (there / path).read_bytes() == (here / path).read_bytes()
    assert not (there / "runs/large/model.safetensors").exists()

    packed = pack(*args, limit=60 * MB, unfinished="open")
    assert packed.left == {}
    assert len(packed.parts) == 3
    assert max(path.stat().st_size for path in packed.parts) <= PART
    assert {path.name for path in out.iterdir()} == {path.name for path in packed.parts}
    assert unpack(out, there / "runs", there / "rows") == ["large"]
    assert unpack(out, there / "runs", there / "rows") == []


def test_the_place_that_is_further_on_wins(tmp_path: Path) -> None:
    here, there, out = tmp_path / "here", tmp_path / "there", tmp_path / "out"
    some_run(here, "open", 2, state=1)
    pack(["open"], here / "runs", here / "rows", out, limit=MB, unfinished="open")
    some_run(there, "open", 3, state=2)
    before = (there / "runs/open/last.ckpt").read_bytes()
    assert unpack(out, there / "runs", there / "rows") == []
    assert (there / "runs/open/last.ckpt").read_bytes() == before
    some_run(there, "open", 1, state=2)
    assert unpack(out, there / "runs", there / "rows") == ["open"]
    assert (there / "runs/open/last.ckpt").read_bytes() != before


def test_what_is_damaged_or_missing_is_not_taken_over(tmp_path: Path) -> None:
    here, there, out = tmp_path / "here", tmp_path / "there", tmp_path / "out"
    some_run(here, "small", 3, model=MB)
    packed = pack(["small"], here / "runs", here / "rows", out, limit=9 * MB)
    part = packed.parts[0]
    good = part.read_bytes()
    part.write_bytes(good[:-1] + b"x")
    with pytest.raises(UserError, match="is not what was packed"):
        unpack(out, there / "runs", there / "rows")
    part.unlink()
    with pytest.raises(UserError, match=r"bring travel\.json and all parts again"):
        unpack(out, there / "runs", there / "rows")
    part.write_bytes(good)
    wrong = json.loads((out / MANIFEST).read_text())
    del wrong["progress"]
    (out / MANIFEST).write_text(json.dumps(wrong))
    with pytest.raises(UserError, match="progress"):
        unpack(out, there / "runs", there / "rows")
    assert not there.exists()


def archive_of(entries: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive with these members, whatever they are called."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def offer(out: Path, content: bytes, progress: object, name: str = "part") -> None:
    """A folder to be taken over, its checksum right."""
    out.mkdir(exist_ok=True)
    (out / "part").write_bytes(content)
    part = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
    (out / MANIFEST).write_text(json.dumps({"parts": [part], "progress": progress}))


DONE = [1, 1, 99]
OUTSIDE = {
    "absolute": ({"runs//tmp/x.txt": b"x"}, {"/tmp": DONE}),
    "above": ({"runs/../x.txt": b"x"}, {"..": DONE}),
    "above as a row": ({"rows/../x.json": b"x"}, {"../x": DONE}),
    "through a link": ({"runs/link/x.txt": b"x"}, {"link": DONE}),
    "the run alone": ({}, {"../x": DONE}),
    "deeper": ({"runs/a/b/x.txt": b"x"}, {"a/b": DONE}),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_nothing_is_written_outside(kind: str, tmp_path: Path) -> None:
    members, progress = OUTSIDE[kind]
    runs, rows, out = (tmp_path / name for name in ("runs", "rows", "out"))
    runs.mkdir()
    (runs / "link").symlink_to(tmp_path)
    offer(out, archive_of(members), progress)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"leads out of|is not a file of a run"):
        unpack(out, runs, rows)
    assert sorted(tmp_path.rglob("*")) == before
    shutil.copy(out / "part", tmp_path / "elsewhere")
    offer(out, (out / "part").read_bytes(), {"a": DONE}, name="../elsewhere")
    with pytest.raises(UserError, match="leads out of"):
        unpack(out, runs, rows)
    offer(out, archive_of({"runs/a/x.txt": b"x"}), {"a": DONE})
    assert unpack(out, runs, rows) == ["a"]
    assert (runs / "a" / "x.txt").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("content", "progress", "said"),
    [
        (archive_of({"runs/a/x": b""}, tarfile.SYMTYPE), {"a": DONE}, "is not a file of a run"),
        (archive_of({"runs/a/x": b""}, tarfile.LNKTYPE), {"a": DONE}, "is not a file of a run"),
        (archive_of({"runs/a/x": b""}, tarfile.FIFOTYPE), {"a": DONE}, "is not a file of a run"),
        (gzip.compress(archive_of({"runs/a/x": b"x"})), {"a": DONE}, "out/travel.json: "),
        (b"noise", {"a": DONE}, "out/travel.json: "),
        (archive_of({}), {"a": [1, 1]}, "progress.a.2"),
        (archive_of({}), {"a": [1, 1, -1]}, "progress.a.2 is -1"),
        (archive_of({}), ["a"], "progress is "),
        (archive_of({}), {"a\0": DONE}, "out/travel.json: "),
    ],
)
def test_no_archive_of_ours_is_one_line(
    content: bytes, progress: object, said: str, tmp_path: Path
) -> None:
    offer(tmp_path / "out", content, progress)
    with pytest.raises(UserError, match=said):
        unpack(tmp_path / "out", tmp_path / "runs", tmp_path / "rows")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_noted_failure_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    wanted = campaign(tmp_path)
    key = wanted.all_runs()[0]
    wanted.note_failure(key, "diverged")
    assert wanted.failure(key) == "diverged"
    wanted.place(key).failure.write_text('{"why": 1}')
    with pytest.raises(UserError, match=r"failed\.json: missing fields: commit, recipe_hash"):
        wanted.failure(key)


def test_packing_in_words(tmp_path: Path) -> None:
    make, wanted = Maker(tmp_path), campaign(tmp_path, seeds=(0,))
    found = run_slice(wanted, make, None)
    some_run(tmp_path, "stbp-cifar10-fp32-smoke-s0", 3, model=2 * MB)
    words = packed_in_words(wanted, found, tmp_path / "out", 1)
    assert "stbp-cifar10-binary-smoke-s0: row, model" in words
    assert "stbp-cifar10-fp32-smoke-s0: 2 MiB stay here, over the limit of 1 MiB" in words


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--time-budget=soon"], "invalid duration 'soon': give 9m, 1h30m or 540s"),
        (["--time-budget=0"], "invalid duration '0'"),
        (["--cells", "stbp"], "stbp"),
        (["--cells", "stbp/mnist"], "unknown cell stbp/mnist"),
        (
            ["--take=nowhere"],
            "nowhere/travel.json: No such file or directory: bring travel.json and all parts",
        ),
        (["--tier=desk", "--cells", "surrogate/imagenet/sew_resnet18"], "cannot be run yet"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], wrong: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    places = [f"--runs={tmp_path / 'runs'}", f"--rows={tmp_path / 'rows'}"]
    assert main(["campaign", *words, *places]) == 2
    error = capsys.readouterr().err
    assert wrong in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def same_in_rows(folder: Path) -> list[dict[str, object]]:
    """Rows but for what time and place make of them."""
    apart = ("wall_seconds", "git_sha", "git_dirty")
    return [{k: v for k, v in asdict(row).items() if k not in apart} for row in read_rows(folder)]


def words_of(folder: Path, *more: str) -> list[str]:
    places = [f"--runs={folder / 'runs'}", f"--rows={folder / 'rows'}", f"--out={folder / 'out'}"]
    chosen = ["--tier=smoke", "--seeds", "0", "--cells", "snn_calibration/cifar10", "stbp/cifar10"]
    return [sys.executable, "-m", "repro", "campaign", *chosen, *places, *more]


@pytest.mark.slow
def test_killed_ten_times_and_moved_it_ends_with_the_same_rows(tmp_path: Path) -> None:
    """Also in slices, each on a machine that has nothing but what the one before packed."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(words_of(whole), cwd=ROOT, check=True, capture_output=True)
    expected = same_in_rows(whole / "rows")
    assert len(expected) == len(VGG.precisions) + len(STBP.precisions)

    chance = random.Random(0)
    for _ in range(10):
        process = subprocess.Popen(words_of(killed), cwd=ROOT, stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(4, 14))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(words_of(killed), cwd=ROOT, check=True, capture_output=True)
    assert same_in_rows(killed / "rows") == expected

    before = tmp_path / "0" / "out"
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        take = [f"--take={before}"] if before.exists() else []
        done = subprocess.run(
            words_of(folder, "--time-budget=20s", *take),
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        assert all(path.stat().st_size <= PART for path in (folder / "out").iterdir())
        before = folder / "out"
        if f"{len(expected)} of {len(expected)} in all" in done.stdout:
            break
        assert number < 40
    assert number > 2
    assert same_in_rows(folder / "rows") == expected
