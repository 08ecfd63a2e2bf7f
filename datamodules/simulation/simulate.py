"""Makes a simulated data set, once: complete in its folder, or not there at all."""

import hashlib
import json
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from filelock import FileLock
from tqdm import tqdm

from datamodules.base import find_folder
from datamodules.errors import DataError
from datamodules.processes import prepare_worker
from datamodules.simulation.datasets import DESCRIPTION, SIMULATED, Simulation, Take
from datamodules.simulation.writers import events_sha256, write_aedat4, write_gesture

CHUNK: Final = 8  # recordings a process takes at a time

Description = dict[str, Any]
Made = tuple[int, str]  # events of a recording, and their sha256


def find_simulation(name: str, **overrides: Any) -> Simulation:  # noqa: ANN401
    """Return the simulated data set of that name, with fields changed.

    Args:
        name: Key of `SIMULATED`.
        overrides: Fields of its class; None leaves a field as it is.

    Raises:
        DataError: No such name or field, or a number is out of range.
    """
    if name not in SIMULATED:
        raise DataError(f"no simulated data set {name!r}: one of {', '.join(SIMULATED)}")
    simulation = SIMULATED[name]
    changes = {key: value for key, value in overrides.items() if value is not None}
    if unknown := sorted(changes.keys() - {field.name for field in fields(simulation)}):
        raise DataError(f"{name} has no {', '.join(unknown)}: change {simulation.counted_by}")
    changed: Simulation = replace(simulation, **changes)
    return changed


def simulate(
    name: str,
    folder: Path,
    *,
    data_dir: str | Path | None = None,
    jobs: int = 1,
    **overrides: Any,  # noqa: ANN401
) -> Description:
    """Make a data set; where the same one is already, do nothing.

    Args:
        name: Key of `SIMULATED`.
        folder: Where its class folders, or ``ibmGestureTrain`` and ``ibmGestureTest``, will lie.
        data_dir: Folder of CIFAR-10 where that is the source; see `find_folder`.
        jobs: Processes, 1 and up; with two, the calling script needs a main guard.
        overrides: Fields of the simulation to change, such as ``recordings_per_class``.

    Returns:
        What ``<folder>/simulation.json`` holds: all parameters; ``count``, recordings; ``events``
        of all of them and ``median_events`` of one; ``bytes`` of the files; ``sha256`` over the
        sha256 (in hex) of the events of every recording, in the order they were made.

    Raises:
        DataError: The folder holds something else, or the source images are missing.
    """
    simulation = find_simulation(name, **overrides)
    if jobs < 1:
        raise DataError(f"jobs is {jobs}: give 1 or more")
    if (found := find_made(simulation, folder)) is not None:
        return found
    return make(simulation, simulation.takes(data_dir), folder, jobs)


def make(simulation: Simulation, takes: list[Take], folder: Path, jobs: int = 1) -> Description:
    """Film and write every recording into a folder beside the final one, then rename it.

    A second process waits for the first and finds its work done. What an interrupted one has left
    is thrown away.

    Args:
        simulation: What is made.
        takes: Its recordings.
        folder: Where to.
        jobs: Processes.

    Returns:
        See `simulate`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (found := find_made(simulation, folder)) is not None:
            return found
        partial_folder = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial_folder, ignore_errors=True)
        partial_folder.mkdir()
        each = make_each(partial(make_one, partial_folder, simulation), takes, jobs)
        bar = tqdm(each, simulation.name, total=len(takes), unit="recording", disable=None)
        made = list(bar)
        sizes = [path.stat().st_size for path in partial_folder.rglob("*") if path.is_file()]
        description = parameters(simulation) | summary(made) | {"bytes": sum(sizes)}
        text = json.dumps(description, indent=2) + "\n"
        (partial_folder / DESCRIPTION).write_text(text, encoding="utf-8")
        os.replace(partial_folder, folder)  # onto an empty folder, too
        return description


def make_one(folder: Path, simulation: Simulation, take: Take) -> Made:
    """Film and write one recording; return how many events it has and their sha256."""
    events = take.film()
    if take.path.endswith(".aedat4"):
        write_aedat4(folder / take.path, events, simulation.sensor_side)
    else:
        write_gesture(folder / take.path, events)
    return len(events), events_sha256(events)


def make_each(make_take: Callable[[Take], Made], takes: list[Take], jobs: int) -> Iterator[Made]:
    """Yield the result of every take, in order; several processes do not change it."""
    if jobs == 1:
        yield from map(make_take, takes)
        return
    # A forked process may hang on a lock that a thread of torch held.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, context, initializer=_prepare_process, initargs=(os.getpid(),)
    ) as pool:
        yield from pool.map(make_take, takes, chunksize=CHUNK)


def _prepare_process(parent: int) -> None:
    """Keep a process to one core; see `prepare_worker`."""
    torch.set_num_threads(1)
    prepare_worker(parent)


def parameters(simulation: Simulation) -> Description:
    """Return the fields of a simulation as JSON has them."""
    fields_as_json: Description = json.loads(json.dumps(asdict(simulation)))
    return fields_as_json


def summary(made: list[Made]) -> Description:
    """Return number of recordings and events, and the sha256 over those of the recordings."""
    counts = [count for count, _ in made]
    digest = hashlib.sha256("".join(f"{sha256}\n" for _, sha256 in made).encode())
    return {
        "count": len(made),
        "events": sum(counts),
        "median_events": round(statistics.median(counts)),
        "sha256": digest.hexdigest(),
    }


def find_made(simulation: Simulation, folder: Path) -> Description | None:
    """Return what is stated about the data set in a folder; None if there is none yet.

    Raises:
        DataError: The folder holds another data set, or something that was not simulated.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise DataError(f"{folder} was not simulated (no {DESCRIPTION}): name another folder")
        return None
    try:
        found: Description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: delete {folder} and run again") from error
    wanted = parameters(simulation)
    if changed := [name for name in wanted if found.get(name) != wanted[name]]:
        raise DataError(
            f"{folder} was simulated with another {', '.join(changed)}: delete it and run again"
        )
    return found


def simulate_in_words(
    name: str,
    *,
    data_dir: Path | None = None,
    figure: Path | None = None,
    **more: Any,  # noqa: ANN401
) -> str:
    """Make a data set below the data folder, and a figure of it; return lines for the terminal.

    Args:
        name: Key of `SIMULATED`; also the folder's name.
        data_dir: See `find_folder`.
        figure: PNG or SVG to write.
        more: See `simulate`.
    """
    from datamodules.simulation.figure import frames_figure, require_format

    if figure is not None:
        require_format(figure)
    folder = find_folder(data_dir) / name
    start = time.monotonic()
    made = simulate(name, folder, data_dir=data_dir, **more)
    lines = [
        f"{folder}: {made['count']:,} recordings, {made['median_events']:,} events in the median"
        f" one, {made['bytes'] / 1e6:,.1f} MB, {time.monotonic() - start:.1f} s",
        f"sha256 of the events {made['sha256']}",
    ]
    if figure is not None:
        lines.append(f"frames of every class: {frames_figure(folder, figure)}")
    return "\n".join(lines)
