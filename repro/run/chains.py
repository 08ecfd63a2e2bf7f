"""Several runs at a time: each process makes whole chains of them, parents before children."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final

from datamodules.errors import DataError
from repro.cells import RunKey
from repro.recipes.spec import RunSpec
from repro.results.row import Row
from repro.run import lifecycle
from repro.run.places import Places

Chain = Sequence[RunKey]
POLL: Final = 0.2  # s between two looks at what processes tell


@dataclass(frozen=True)
class Made:
    """What became of a run.

    Attributes:
        key: The run.
        row: Its row; None where its data are missing.
        missing: What is missing.
    """

    key: RunKey
    row: Row | None
    missing: str = ""


def make_run(key: RunKey, places: Places) -> Made:
    """Make a run of the recipe that ships; its data may be missing."""
    try:
        return Made(key, lifecycle.run(RunSpec.shipped(key), places))
    except DataError as error:
        return Made(key, None, str(error))


def make_chains(
    chains: Sequence[Chain], places: Places, jobs: int, say: Callable[[Made], None]
) -> None:
    """Make all runs; say what became of each as soon as it is known.

    What starts from a run whose data are missing is left out.

    Args:
        chains: Runs that start from each other, parents first.
        places: Where to read and write.
        jobs: Processes. The cores are divided among several, and what a run prints goes to
            ``log.txt`` in its folder.
        say: Takes what became of a run.
    """
    if jobs == 1:
        for chain in chains:
            _make_chain(chain, places, say)
        return
    context = multiprocessing.get_context("spawn")
    with divided_cores(jobs), context.Manager() as manager:
        told: Any = manager.Queue()
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            left = {pool.submit(_make_logged, chain, places, told) for chain in chains}
            while left:
                done, left = wait(left, POLL, FIRST_COMPLETED)
                while not told.empty():
                    say(told.get())
                for future in done:
                    if future.exception() is not None:
                        pool.shutdown(cancel_futures=True)
                    future.result()


def _make_chain(chain: Chain, places: Places, say: Callable[[Made], None]) -> None:
    """Make the runs of a chain in this process."""
    for key in chain:
        made = make_run(key, places)
        say(made)
        if made.row is None:
            return


def _make_logged(chain: Chain, places: Places, told: Any) -> None:  # noqa: ANN401
    """Make the runs of a chain in a process of the pool; what they print goes to their folders."""
    for key in chain:
        place = places.of(key)
        place.path.mkdir(parents=True, exist_ok=True)
        with place.log.open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
            made = make_run(key, places)
        told.put(made)
        if made.row is None:
            return


@contextlib.contextmanager
def divided_cores(jobs: int) -> Iterator[None]:
    """Let processes that start in this block use their share of the cores, if none is set."""
    share = str(max(1, (os.cpu_count() or 1) // jobs))
    named = [name for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS") if name not in os.environ]
    os.environ.update(dict.fromkeys(named, share))
    try:
        yield
    finally:
        for name in named:
            del os.environ[name]
