"""Several runs at a time, in processes: parents before children."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass

from datamodules.errors import DataError
from datamodules.processes import prepare_worker
from repro.cells import RunKey
from repro.recipes.spec import RunSpec
from repro.results.row import Row
from repro.run import lifecycle
from repro.run.places import Places

Chain = Sequence[RunKey]


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
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), prepare_worker, (os.getpid(),)
    )
    with divided_cores(jobs), pool:
        left = {pool.submit(_make_logged, first, places): rest for first, *rest in chains}
        try:
            while left:
                done, _ = wait(left, return_when=FIRST_COMPLETED)
                for future in done:
                    made, rest = future.result(), left.pop(future)
                    say(made)
                    if made.row is not None and rest:
                        left[pool.submit(_make_logged, rest[0], places)] = rest[1:]
        except Exception:
            pool.shutdown(cancel_futures=True)
            raise
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.kill()  # the same command resumes its run
            raise


def _make_chain(chain: Chain, places: Places, say: Callable[[Made], None]) -> None:
    """Make the runs of a chain in this process."""
    for key in chain:
        made = make_run(key, places)
        say(made)
        if made.row is None:
            return


def _make_logged(key: RunKey, places: Places) -> Made:
    """Make a run in a process of the pool; what it prints goes to its folder."""
    place = places.of(key)
    place.path.mkdir(parents=True, exist_ok=True)
    with place.log.open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        return make_run(key, places)


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
