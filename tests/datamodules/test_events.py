"""Event datamodules: exact frames, batches that repeat, a cache that follows its inputs, damage."""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from clock import PATIENCE
from paths import ROOT
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from tonic.transforms import ToFrame
from torch import Tensor

from datamodules.base import PartName, Recording, interleave_classes
from datamodules.binning import DamagedRecordingError, FrameShape, bin_events, check_events
from datamodules.dvs128_gesture import Dvs128GestureDataModule
from datamodules.errors import DataError
from datamodules.events import EventDataModule, shift_and_flip
from datamodules.process_share import Share

SIDE, STEPS, BATCH = 8, 6, 5
COUNTS = {"train": 12, "val": 4, "test": 6}
CLASSES = 2
DTYPE = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")])  # as AEDAT4 is read
Batches = list[tuple[Tensor, ...]]


def random_events(count: int, seed: int, side: int = SIDE) -> npt.NDArray[np.void]:
    """Return events at random pixels and ascending times, up to 10 us apart."""
    draw = np.random.default_rng(seed)
    events = np.zeros(count, dtype=DTYPE)
    events["t"] = 1_000_000 + np.cumsum(draw.integers(0, 11, count))
    events["x"], events["y"] = draw.integers(0, side, (2, count))
    events["p"] = draw.integers(0, 2, count)
    return events


class SavedReader:
    """Reads arrays and writes down that it did."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self.recordings = recordings

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.void], int]:  # noqa: D105
        path, label = self.recordings[index]
        with (path.parents[2] / "reads").open("a") as file:
            file.write(f"{path.parent.name}/{path.name}\n")
        return np.load(path), label


class SavedEvents(EventDataModule):
    """``<folder>/<part>/<label>_<number>.npy``, small random recordings."""

    real_name, real_folder, real_side = "saved", "Saved", SIDE
    classes = CLASSES

    def obtain(self, parts: Sequence[PartName]) -> None:
        for number, (part, count) in enumerate(COUNTS.items()):
            folder = self.folder / part
            if folder.is_dir():
                continue
            folder.mkdir(parents=True)
            for i in range(count):
                events = random_events(60 + i, seed=100 * number + i)
                np.save(folder / f"{i % CLASSES}_{i:02}.npy", events)

    def listing(self, part: PartName) -> list[Recording]:
        paths = sorted((self.folder / part).iterdir())
        return [Recording(path, int(path.name[0])) for path in paths]

    def reader(self, recordings: Sequence[Recording]) -> SavedReader:
        return SavedReader(recordings)


def make(data: Path, **changes: Any) -> SavedEvents:
    arguments = {"batch_size": BATCH, "seed": 0, "time_steps": STEPS, "data_dir": data} | changes
    module = SavedEvents(**arguments)
    module.setup()
    return module


def reads(data: Path) -> int:
    log = data / "reads"
    return len(log.read_text().split()) if log.exists() else 0


def epoch_of(module: SavedEvents, epoch: int) -> Batches:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [module.on_after_batch_transfer(batch, 0) for batch in loader]


def equal(one: Batches, other: Batches) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


def frame_oracle(events: npt.NDArray[np.void], shape: FrameShape) -> npt.NDArray[np.int16]:
    """One event at a time, from the words: equal numbers or durations, what remains is dropped."""
    frames = np.zeros(shape.frames, dtype=np.int16)
    start, end = int(events["t"][0]), int(events["t"][-1])
    duration = (end - start) // shape.time_steps
    for number, (t, x, y, p) in enumerate(events.tolist()):
        if shape.binning == "count":
            step = number // (len(events) // shape.time_steps)
        else:
            step = (t - start) // duration
        if step < shape.time_steps:
            pool = shape.spatial_pool
            frames[step, int(p), y // pool, x // pool] += 1
    return frames


@pytest.mark.parametrize("binning", ["count", "time"])
@pytest.mark.parametrize("pool", [1, 2, 8])
@pytest.mark.parametrize("count", [STEPS, 59, 60, 500])
def test_frames_match_the_oracle_and_tonic(binning: Any, pool: int, count: int) -> None:
    shape = FrameShape(STEPS, binning, SIDE, pool)
    events = random_events(count, seed=count)
    frames = bin_events(events, shape)
    assert (frames.dtype, frames.shape) == (np.int16, (STEPS, 2, SIDE // pool, SIDE // pool))
    np.testing.assert_array_equal(frames, frame_oracle(events, shape))
    pooled = events.copy()
    pooled["x"] //= pool
    pooled["y"] //= pool
    pooled = pooled.astype([(name, "<i8") for name in DTYPE.names or ()])
    bins = {"n_event_bins" if binning == "count" else "n_time_bins": STEPS}
    np.testing.assert_array_equal(frames, ToFrame((shape.side, shape.side, 2), **bins)(pooled))


def test_binning_by_count_and_by_time_differ() -> None:
    events = random_events(500, seed=1)
    by_count = bin_events(events, FrameShape(STEPS, "count", SIDE, 1))
    by_time = bin_events(events, FrameShape(STEPS, "time", SIDE, 1))
    assert not np.array_equal(by_count, by_time)
    assert by_count.sum(axis=(1, 2, 3)).tolist() == [500 // STEPS] * STEPS


def damaged(kind: str) -> npt.NDArray[np.void]:
    events = random_events(60, seed=3)
    if kind == "empty":
        return events[:0]
    if kind == "few":
        return events[: STEPS - 1]
    if kind == "outside":
        events["y"][7] = SIDE
    if kind == "backwards":
        events["t"][31] = 0
    return events


DAMAGE = [
    ("empty", "0 events are too few for 6 frames"),
    ("few", "5 events are too few for 6 frames"),
    ("outside", "y runs from 0 to 8, the sensor's from 0 to 7"),
    ("backwards", "its time goes back at event 31"),
]


@pytest.mark.parametrize(("kind", "message"), DAMAGE)
def test_damage_is_named(kind: str, message: str) -> None:
    with pytest.raises(DamagedRecordingError, match=message):
        check_events(damaged(kind), FrameShape(STEPS, "count", SIDE, 1))
    check_events(damaged("none"), FrameShape(STEPS, "count", SIDE, 1))


def test_too_short_for_time_and_too_many_for_int16() -> None:
    events = random_events(2**15 * STEPS, seed=0, side=1)
    with pytest.raises(DamagedRecordingError, match=r"a pixel has \d+ events in one frame"):
        bin_events(np.repeat(events, 3), FrameShape(STEPS, "count", SIDE, 1))
    events["t"] = 5
    check_events(events, FrameShape(STEPS, "count", SIDE, 1))
    with pytest.raises(DamagedRecordingError, match="0 us are too short for 6 frames"):
        check_events(events, FrameShape(STEPS, "time", SIDE, 1))


@pytest.mark.parametrize(("kind", "message"), [*DAMAGE, ("unreadable", "it cannot be read")])
def test_a_damaged_recording_stops_or_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, message: str
) -> None:
    whole = make(tmp_path)
    path = tmp_path / "Saved" / "train" / "1_05.npy"
    if kind == "unreadable":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        np.save(path, damaged(kind))
    with pytest.raises(DataError, match=rf"1_05\.npy is damaged: {message}.*--skip-damaged"):
        make(tmp_path)
    capsys.readouterr()
    for _ in range(2):  # cold, then from the cache
        module = make(tmp_path, skip_damaged=True)
        assert module.size("train") == COUNTS["train"] - 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert f"left out 1 of 12 recordings in {tmp_path / 'Saved'}: train/1_05.npy" in lines[0]
        assert message in lines[0]
    with pytest.raises(DataError, match=r"1_05\.npy is damaged"):  # cached, but not as whole
        make(tmp_path)
    assert module.checksum != whole.checksum


def test_nothing_but_damage_is_an_error(tmp_path: Path) -> None:
    make(tmp_path)
    for path in (tmp_path / "Saved" / "val").iterdir():
        np.save(path, damaged("empty"))
    for _ in range(2):
        with pytest.raises(DataError, match=r"all 4 recordings of a part in .* are damaged"):
            make(tmp_path, skip_damaged=True)


def test_evaluation_batches_are_all_frames_in_order(tmp_path: Path) -> None:
    module = make(tmp_path, train_steps=2)
    recordings = interleave_classes(module.listing("test"))
    expected = [bin_events(np.load(path), module.shape) for path, _ in recordings]
    val, test = module.val_dataloader()
    batches = [module.on_after_batch_transfer(batch, 1) for batch in test]
    events, labels = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    assert (events.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert torch.equal(events, torch.from_numpy(np.stack(expected)).float())
    assert labels.tolist() == [label for _, label in recordings]
    assert (len(val), len(test)) == (1, 2)  # type: ignore[arg-type]
    assert [len(b[1]) for b in test] == [BATCH, COUNTS["test"] - BATCH]


def test_training_batches_hold_every_recording_once(tmp_path: Path) -> None:
    module = make(tmp_path)
    batches = epoch_of(module, 0)
    found = sorted(recording.numpy().tobytes() for batch, _ in batches for recording in batch)
    whole = torch.from_numpy(module.parts["train"].frames.copy()).float()
    assert found == sorted(recording.numpy().tobytes() for recording in whole)
    assert len(module.training_batches()) == len(batches)


def test_batches_depend_on_seed_and_epoch_alone(tmp_path: Path) -> None:
    changes = {"train_steps": 4, "augment": True}
    one = epoch_of(make(tmp_path, **changes), 3)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # the global state must not matter
    state = torch.get_rng_state()
    assert equal(one, epoch_of(make(tmp_path, **changes), 3))
    assert torch.equal(state, torch.get_rng_state())  # and is left alone
    assert not equal(one, epoch_of(make(tmp_path, **changes), 2))
    assert not equal(one, epoch_of(make(tmp_path, **changes, seed=1), 3))


def test_shares_of_two_processes_are_the_batches_of_one(tmp_path: Path) -> None:
    whole = epoch_of(make(tmp_path, train_steps=4, augment=True), 1)
    module = make(tmp_path, train_steps=4, augment=True)
    shares = []
    for rank in range(2):
        loader = module.training_batches(Share(rank, 2))
        loader.sampler.set_epoch(1)
        shares.append([module.on_after_batch_transfer(batch, 0) for batch in loader])
        assert len(loader) == len(whole)
    joined = [
        (torch.cat([a, c]), torch.cat([b, d])) for (a, b), (c, d) in zip(*shares, strict=True)
    ]
    assert equal(joined, whole)
    assert not equal(shares[0][:1], shares[1][:1])
    evaluated = [[len(b[1]) for b in module.batches("test", Share(rank, 2))] for rank in range(2)]
    assert evaluated == [[2], [3, 1]]  # of batches of 5 and 1


def test_frames_of_training_are_some_of_all_in_order_without_repeats(tmp_path: Path) -> None:
    module = make(tmp_path, train_steps=4)
    loader = module.training_batches()
    chosen = []
    for epoch in range(20):
        loader.sampler.set_epoch(epoch)
        for (indices, steps, drawn), batch in zip(
            loader.sampler.batches(BATCH), loader, strict=True
        ):
            assert steps.tolist() == sorted(set(steps.tolist()))
            assert (len(steps), drawn) == (4, None)
            frames = torch.from_numpy(module.parts["train"].frames.copy())
            assert torch.equal(batch[0], frames[indices][:, steps])
            chosen.append(tuple(steps.tolist()))
    assert {step for steps in chosen for step in steps} == set(range(STEPS))
    assert len(set(chosen)) > 5  # one choice a batch, not one for all


def shift_oracle(recording: Tensor, down: int, right: int, flip: int) -> Tensor:
    """One pixel at a time, from the words: mirror, then move; what comes in is 0."""
    result = torch.zeros_like(recording)
    for y in range(SIDE):
        for x in range(SIDE):
            to_y, to_x = y + down, (SIDE - 1 - x if flip else x) + right
            if 0 <= to_y < SIDE and 0 <= to_x < SIDE:
                result[..., to_y, to_x] = recording[..., y, x]
    return result


def test_shift_and_flip_matches_oracle() -> None:
    drawn = [(0, 0, 0), (2, -3, 0), (0, 0, 1), (-1, 2, 1), (7, 7, 0)]
    events = torch.rand(
        len(drawn), STEPS, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(0)
    )
    expected = [shift_oracle(e, *d) for e, d in zip(events, drawn, strict=True)]
    assert torch.equal(shift_and_flip(events, torch.tensor(drawn)), torch.stack(expected))
    assert torch.equal(expected[0], events[0])
    assert not torch.equal(expected[2], events[2])


def test_augmentation_moves_training_recordings_alone(tmp_path: Path) -> None:
    plain, moved = make(tmp_path), make(tmp_path, augment=True)
    assert not equal(epoch_of(plain, 0), epoch_of(moved, 0))
    assert equal(list(plain.batches("test")), list(moved.batches("test")))
    loader = moved.training_batches()
    drawn = [d for epoch in range(9) for *_, d in loader.sampler.batches(BATCH) if d is not None]
    assert torch.cat(drawn)[:, :2].abs().max() == 1  # 5 of 128 pixels, of 8: at least 1
    assert torch.cat(drawn)[:, 2].unique().tolist() == [0, 1]
    moved.__class__ = type("Unflipped", (SavedEvents,), {"flip": False})
    still = [d for *_, d in moved.training_batches().sampler.batches(BATCH) if d is not None]
    assert torch.cat(still)[:, 2].unique().tolist() == [0]


def test_the_cache_is_used_again_and_follows_its_inputs(tmp_path: Path) -> None:
    first = make(tmp_path)
    whole = sum(COUNTS.values())
    assert reads(tmp_path) == whole
    again = make(tmp_path, seed=3, batch_size=2, train_steps=3, augment=True)
    assert (reads(tmp_path), again.checksum) == (whole, first.checksum)
    sums, seen = {first.checksum}, whole
    for change in ({"time_steps": 5}, {"binning": "time"}, {"spatial_pool": 2}):
        sums.add(make(tmp_path, **change).checksum)
        seen += whole
        assert reads(tmp_path) == seen
    np.save(tmp_path / "Saved" / "val" / "0_99.npy", random_events(70, seed=9))
    sums.add(make(tmp_path).checksum)
    assert reads(tmp_path) == seen + COUNTS["val"] + 1  # the other parts are as they were
    np.save(tmp_path / "Saved" / "test" / "0_00.npy", random_events(70, seed=9))
    sums.add(make(tmp_path).checksum)
    assert reads(tmp_path) == seen + COUNTS["val"] + 1 + COUNTS["test"]
    assert len(sums) == 6
    assert not list(tmp_path.glob("cache/saved/*.tmp"))


def test_a_stopped_writer_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    expected = make(tmp_path).checksum
    for entry in (tmp_path / "cache" / "saved").iterdir():
        if entry.is_dir():
            entry.rename(entry.with_name(f"{entry.name}.tmp"))
    assert make(tmp_path).checksum == expected
    assert reads(tmp_path) == 2 * sum(COUNTS.values())


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    frames = next((tmp_path / "cache").rglob("frames.int16"))
    frames.write_bytes(frames.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"the cache .* is damaged \(frames.int16 cut\): delete"):
        make(tmp_path)
    (frames.parent / "index.json").write_text("{")
    with pytest.raises(DataError, match=r"the cache .* is damaged \(.*\): delete that folder"):
        make(tmp_path)


def test_a_full_disk_is_said_before_binning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1})
    monkeypatch.setattr("datamodules.frame_cache.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match=r"the frames need 0\.0 GB .* make room"):
        make(tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder is needed")
    with pytest.raises(DataError, match=r"the cache .*saved cannot be written \("):
        make(tmp_path)


# What `make` does for one part, without the seconds that Lightning takes to import.
BIN_IN_A_PROCESS = """
import sys, pathlib, numpy
from datamodules.binning import FrameShape
from datamodules.frame_cache import Recording, load_frames

root = pathlib.Path(sys.argv[1])
recordings = [Recording(path, 0) for path in sorted(root.glob("train/*"))]

class Reader:
    def __getitem__(self, index):
        with (root / "reads").open("a") as file:
            file.write(f"{index}\\n")
        return numpy.load(recordings[index].path), 0

print("ready", flush=True)
sys.stdin.readline()
shape = FrameShape(6, "count", 8, 1)
print(*load_frames(root / "cache", recordings, Reader(), root, shape, False).digests)
"""


@pytest.mark.slow
def test_two_processes_bin_once(tmp_path: Path) -> None:
    data = SavedEvents(batch_size=1, seed=0, time_steps=1, data_dir=tmp_path)
    data.obtain(())
    command = [sys.executable, "-c", BIN_IN_A_PROCESS, str(data.folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    cwd = ROOT
    both = [subprocess.Popen(command, cwd=cwd, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=PATIENCE)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert printed[0] == printed[1]
    assert len(set(printed[0])) == COUNTS["train"]
    assert reads(data.folder) == COUNTS["train"]


def test_first_recordings_are_balanced_and_alone_are_binned(tmp_path: Path) -> None:
    module = make(tmp_path, train_images=4, val_images=2, test_images=3)
    assert [module.size(part) for part in ("train", "val", "test")] == [4, 2, 3]
    assert module.parts["train"].labels.tolist() == [0, 1, 0, 1]
    assert reads(tmp_path) == 4 + 2 + 3
    assert make(tmp_path, train_images=6).checksum != module.checksum


def test_a_stage_loads_what_it_needs(tmp_path: Path) -> None:
    module = SavedEvents(batch_size=BATCH, seed=0, time_steps=STEPS, data_dir=tmp_path)
    module.setup("test")
    assert reads(tmp_path) == COUNTS["test"]
    alone = module.checksum
    module.setup("fit")
    assert reads(tmp_path) == sum(COUNTS.values())
    assert module.checksum == make(tmp_path).checksum != alone


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0: give 1 or more"),
        ({"time_steps": 0}, "time_steps is 0: give 1 or more"),
        ({"train_steps": STEPS + 1}, "train_steps is 7: give 0 for all, or up to 6"),
        ({"spatial_pool": 3}, "spatial_pool is 3: give a divisor of the sensor's side, 8 pixels"),
        ({"spatial_pool": 0}, "spatial_pool is 0: give a divisor"),
        ({"binning": "events"}, "binning is 'events': give count or time"),
        ({"val_images": -1}, "val_images is -1: give 0"),
        ({"test_images": 7}, "test_images is 7, but there are 6: give 0 for all"),
    ],
)
def test_numbers_out_of_range(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(tmp_path, **change)


def simulate(folder: Path) -> None:
    """Make a data set of another name, whose sensor has twice the side; once."""
    if (folder / "simulation.json").exists():
        return
    for part in COUNTS:
        (folder / part).mkdir(parents=True)
        for i in range(4):
            np.save(folder / part / f"{i % 2}_{i}.npy", random_events(60, i, side=2 * SIDE))
    (folder / "simulation.json").write_text(json.dumps({"sensor_side": 2 * SIDE}))


def test_a_simulated_data_set_is_made_once(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        module = make(tmp_path, name="saved_sim", make=simulate, spatial_pool=2)
        assert module.shape.side == SIDE
        assert next(iter(module.batches("test")))[0].shape == (4, STEPS, 2, SIDE, SIDE)
        made.append((tmp_path / "saved_sim" / "simulation.json").stat().st_mtime_ns)
    assert made[0] == made[1]
    with pytest.raises(DataError, match=r"sensor_side is 8, but .*simulation\.json states 16"):
        make(tmp_path, name="saved_sim", sensor_side=SIDE)


def test_another_simulation_in_its_place_is_refused(tmp_path: Path) -> None:
    from datamodules.simulation.simulate import simulate as film

    few, fewer = (
        partial(film, "gesture_smoke_sim", train_users=users, test_users=1) for users in (3, 2)
    )
    arguments: dict[str, Any] = {"batch_size": 2, "seed": 0, "time_steps": 2}
    named: dict[str, Any] = {"name": "gesture_smoke_sim", "data_dir": tmp_path}
    Dvs128GestureDataModule(**arguments, **named, make=few).setup()
    with pytest.raises(DataError, match="was simulated with another train_users: delete it"):
        Dvs128GestureDataModule(**arguments, **named, make=fewer).setup()


def test_an_absent_simulation_is_an_error(tmp_path: Path) -> None:
    message = r"other is not in .*other \(no simulation\.json\): simulate it.*CBP_DATA"
    with pytest.raises(DataError, match=message):
        make(tmp_path, name="other")
    with pytest.raises(DataError, match="does not state sensor_side"):
        make(tmp_path, name="other", make=lambda folder: folder.mkdir())


class Recorder(LightningModule):
    """Keeps the training batches of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, Batches] = {}

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.seen.setdefault(self.current_epoch, []).append(batch)
        return self.weight * batch[0].mean()

    def validation_step(
        self, batch: tuple[Tensor, Tensor], index: int, dataloader_idx: int
    ) -> None:
        assert batch[0].dtype == torch.float32

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, data: Path, epochs: int, last: Path | None) -> Recorder:
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, save_top_k=0, save_last=True)],
    )
    module = make(data, train_steps=3, augment=True)
    trainer.fit(recorder, datamodule=module, ckpt_path=last, weights_only=True)
    return recorder


def test_resumed_fit_sees_the_same_batches(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", tmp_path, 4, last=None)
    stopped = fit(tmp_path / "parts", tmp_path, 2, last=None)
    resumed = fit(tmp_path / "parts", tmp_path, 4, tmp_path / "parts" / "last.ckpt")
    assert (sorted(stopped.seen), sorted(resumed.seen)) == ([0, 1], [2, 3])
    for epoch, batches in (stopped.seen | resumed.seen).items():
        assert equal(batches, whole.seen[epoch])
    assert not equal(resumed.seen[3], resumed.seen[2])
