"""Binning recordings and reading frames, our cache beside tonic's over the same frames.

``python -m benchmarks.data`` writes random recordings of 128x128 pixels as AEDAT4 into a temporary
folder, checks that both ways give the same frames, and prints recordings per second: cold, from
the recordings to a full cache, and warm, from the cache to batches ``[B, T, 2, H, W]`` of int16 in
memory. The files are then in the page cache of the operating system, for both.

``python -m benchmarks.data --desk`` prints instead how much of its time the training loop of the
desk cell on simulated CIFAR10-DVS waits for its batches, warm.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import faery
import numpy as np
import torch
from tonic import DiskCachedDataset
from tonic.transforms import ToFrame
from torch import Tensor

from benchmarks.measure import environment, interleaved, paired_ratio
from datamodules.base import Recording
from datamodules.binning import FrameShape
from datamodules.cifar10_dvs import SortedCifar10Dvs
from datamodules.events import RecordingLoader, RecordingSampler, TrainingRecordingLoader
from datamodules.frame_cache import CachedFrames, load_frames
from repro.build import make_data
from repro.cells import RunKey, find_cell
from repro.device.allocator import keep_freed_memory
from repro.errors import UserError
from repro.provenance import git_state
from repro.recipes.spec import RunSpec
from repro.run.training import make_module

SIDE, DURATION = 128, 1_200_000  # pixels; us, about that of CIFAR10-DVS
OURS, TONICS = "ours", "tonic's"
Batch = TypeVar("Batch")


class Waiting(NamedTuple):
    """How a loop spent its time.

    Attributes:
        share: Seconds waiting for batches over all seconds.
        waiting: Seconds waiting for batches.
        working: Seconds in the step.
        batches: Number of batches.
    """

    share: float
    waiting: float
    working: float
    batches: int


def waiting_share(batches: Iterable[Batch], step: Callable[[Batch], object]) -> Waiting:
    """Return how long a loop over the batches waits for them, with what every step takes.

    Args:
        batches: A loader.
        step: What is done with a batch; one that works on a GPU must wait for it itself.

    Raises:
        UserError: There are no batches.
    """
    waiting = working = 0.0
    count = 0
    before = time.perf_counter()
    for batch in batches:
        there = time.perf_counter()
        step(batch)
        after = time.perf_counter()
        waiting, working, count = waiting + there - before, working + after - there, count + 1
        before = after
    if not count:
        raise UserError("the loader has no batches: nothing is measured")
    return Waiting(waiting / (waiting + working), waiting, working, count)


def write_recordings(folder: Path, count: int, events: int) -> list[Recording]:
    """Write random recordings as AEDAT4: uniform pixels and times, both polarities."""
    draw = np.random.default_rng(0)
    recordings = []
    for number in range(count):
        content = np.zeros(events, dtype=faery.EVENTS_DTYPE)
        content["t"] = np.sort(draw.integers(0, DURATION, events))
        content["x"], content["y"] = draw.integers(0, SIDE, (2, events))
        content["on"] = draw.integers(0, 2, events)
        path = folder / f"{number:05}.aedat4"
        faery.events_stream_from_array(content, (SIDE, SIDE)).to_file(path)
        recordings.append(Recording(path, number % 10))
    return recordings


class Caches:
    """Both caches over the same recordings, each call of a cold one in a folder of its own.

    Args:
        folder: For recordings and caches.
        recordings: Their files.
        shape: How they become frames, by count and unpooled.
        batch: Recordings a batch.
    """

    def __init__(
        self, folder: Path, recordings: list[Recording], shape: FrameShape, batch: int
    ) -> None:
        """Keep the arguments; nothing is binned yet."""
        self.folder, self.recordings, self.shape, self.batch = folder, recordings, shape, batch
        self._number = 0

    def _new_folder(self) -> Path:
        """Return a folder that is not there yet."""
        self._number += 1
        return self.folder / f"cache{self._number}"

    def bin_ours(self) -> CachedFrames:
        """Bin all recordings into a new cache."""
        reader = SortedCifar10Dvs(self.recordings)
        root = self.recordings[0].path.parent
        return load_frames(self._new_folder(), self.recordings, reader, root, self.shape, False)

    def bin_tonics(self) -> DiskCachedDataset:
        """Bin all recordings into a new cache of tonic's, with its defaults."""
        reader = SortedCifar10Dvs(self.recordings)
        reader.transform = ToFrame((SIDE, SIDE, 2), n_event_bins=self.shape.time_steps)
        cached = DiskCachedDataset(_Plain(reader), str(self._new_folder()))
        for number in range(len(self.recordings)):
            cached[number]
        return cached

    def read_ours(self, cached: CachedFrames, steps: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield all batches from our cache, in random order, ``steps`` frames a recording."""
        sampler = RecordingSampler(
            count=len(self.recordings),
            seed=0,
            time_steps=self.shape.time_steps,
            train_steps=steps,
            augment=False,
            shift=0,
            flip=False,
        )
        yield from TrainingRecordingLoader(cached, self.batch, sampler)

    def read_tonics(self, cached: DiskCachedDataset) -> Iterator[tuple[Tensor, ...]]:
        """Yield all batches from tonic's cache, in random order."""
        order = np.random.default_rng(0).permutation(len(self.recordings)).tolist()
        for start in range(0, len(order), self.batch):
            samples = [cached[number] for number in order[start : start + self.batch]]
            frames = torch.from_numpy(np.stack([frames for frames, _ in samples]))
            yield frames, torch.tensor([int(label) for _, label in samples])


class _Plain:
    """A data set of tonic's whose transform is applied, with a length."""

    def __init__(self, reader: SortedCifar10Dvs) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.reader[index]


def exhaust(batches: Iterable[object]) -> None:
    """Read all batches and keep none."""
    for _ in batches:
        pass


def measure(
    count: int, events: int, time_steps: int, batch: int, repeats: int
) -> dict[str, object]:
    """Return recordings per second of both caches, cold and warm, and their ratios.

    Raises:
        UserError: The two caches hold different frames.
    """
    shape = FrameShape(time_steps, "count", SIDE, spatial_pool=1)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "recordings").mkdir()
        recordings = write_recordings(Path(name) / "recordings", count, events)
        caches = Caches(Path(name), recordings, shape, batch)
        ours, tonics = caches.bin_ours(), caches.bin_tonics()
        whole = torch.cat([frames for frames, _ in RecordingLoader(ours, batch)])
        if any(not np.array_equal(whole[i], tonics[i][0]) for i in range(count)):
            raise UserError("different frames: time nothing before this is mended")
        some = max(1, time_steps * 3 // 4)
        seconds = interleaved(
            {
                f"cold, {OURS}": caches.bin_ours,
                f"cold, {TONICS}": caches.bin_tonics,
                f"warm, {OURS}": lambda: exhaust(caches.read_ours(ours, time_steps)),
                f"warm, {TONICS}": lambda: exhaust(caches.read_tonics(tonics)),
                f"warm, {OURS}, {some} of {time_steps} frames": lambda: exhaust(
                    caches.read_ours(ours, some)
                ),
            },
            repeats=repeats,
        )
    return {
        "recordings": count,
        "events": events,
        "time_steps": time_steps,
        "batch": batch,
        "rounds": repeats,
        "recordings per second": {
            name: count / sorted(times)[len(times) // 2] for name, times in seconds.items()
        },
        "times faster": {
            state: paired_ratio(
                seconds[f"{state}, {TONICS}"], seconds[f"{state}, {OURS}"]
            )._asdict()
            for state in ("cold", "warm")
        },
    }


def desk_waiting(data_dir: Path | None, steps: int) -> Waiting:
    """Return how long the first training steps of a desk cell wait for their batches.

    Waiting is reading the frames and making them float32; a step is the method's own, with its
    optimiser.

    Args:
        data_dir: Folder of data sets; None for CBP_DATA, else ``data``.
        steps: Steps measured, after two that are not.
    """
    key = RunKey(find_cell("surrogate", "cifar10_dvs_sim"), "fp32", 0, "desk")
    spec = RunSpec.shipped(key)
    data = make_data(spec.recipe, key.seed, data_dir)
    data.setup("fit")
    module = make_module(spec, data.classes, None)
    optimiser = module.configure_optimizers()[0][0]

    def step(batch: tuple[Tensor, Tensor]) -> None:
        optimiser.zero_grad()
        module.training_step(batch, 0).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    batches = (data.on_after_batch_transfer(batch, 0) for batch in data.training_batches())
    exhaust(map(step, islice(batches, 2)))
    return waiting_share(islice(batches, steps), step)


def lines_of(result: dict[str, dict[str, float]]) -> str:
    """Return the table of recordings per second."""
    rows = result["recordings per second"].items()
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {rate:10.1f} recordings/s" for name, rate in rows)


def main() -> int:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=48)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--desk", action="store_true", help="how long a desk step waits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found: dict[str, object] = {}
    if chosen.desk:
        keep_freed_memory()  # as a run does
        waiting = desk_waiting(chosen.data_dir, steps=100)
        found = {"waiting": waiting._asdict()}
        print(f"{100 * waiting.share:.1f} % of {waiting.batches} desk steps is waiting for batches")
    else:
        data = measure(
            chosen.recordings, chosen.events, chosen.time_steps, chosen.batch, chosen.repeats
        )
        found = {"data": data}
        print(lines_of(data))  # type: ignore[arg-type]
    sha, dirty = git_state(Path(__file__).parents[1])
    versions = {name: version(name) for name in ("tonic", "aedat", "faery", "numpy", "h5py")}
    text = json.dumps(
        {
            "environment": environment(),
            "commit": sha,
            "dirty": dirty,
            "versions": versions,
            **found,
        },
        indent=1,
    )
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
