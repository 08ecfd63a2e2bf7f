"""A table in slices: the most valuable unfinished run continues until shortly before time is up.

Every call ends in a state from which the next one continues, here or on another machine: runs
resume from their last epoch, and `repro.campaign.transfer` packs what the next machine needs.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic.dataclasses import dataclass as checked

from datamodules.errors import DataError
from repro.campaign.transfer import pack
from repro.cells import Cell, RunKey, Tier, find_cell
from repro.errors import DivergedError, OutOfTimeError, UserError, one_line
from repro.files import write_atomically
from repro.recipes.shipped import find_recipe
from repro.recipes.spec import RunSpec
from repro.run_folder import RunFolder, State
from repro.schema import STRICT, read

# The cell with the rise of 3.72 points first; event cells need data that the user must fetch, so
# they come when asked for.
PRIORITY: Final[tuple[Cell, ...]] = (
    find_cell("snn_calibration", "cifar100"),
    find_cell("snn_calibration", "cifar10"),
    find_cell("tssl_bp", "cifar10"),
    find_cell("stbp", "cifar10"),
    find_cell("stbp", "cifar100"),
)
# Hardly above chance after three epochs (docs/desk_tier.md), so it comes when asked for.
LEFT_OUT: Final = (find_cell("stbp", "cifar100"), "desk")
# Of the time, for what comes behind the last epoch: export, evaluation, packing.
RESERVE: Final = 30.0  # s
SHARE: Final = 0.1  # of the budget; the smaller of the two

Make = Callable[[RunKey, float | None], None]


def by_default(tier: Tier) -> tuple[Cell, ...]:
    """Return the cells of a campaign where none are named, in order of their value."""
    return tuple(cell for cell in PRIORITY if (cell, tier) != LEFT_OUT)


@checked(frozen=True, config=STRICT)
class Failure:
    """``failed.json``: why a run cannot be made, by which code and with which recipe.

    Attributes:
        why: In words.
        commit: Commit of the code.
        recipe_hash: Hash of the recipe.
    """

    why: str
    commit: str
    recipe_hash: str


@dataclass(frozen=True)
class Campaign:
    """Which runs are wanted, where they are, in what order.

    Attributes:
        cells: Cells in order of their value.
        tier: Their tier.
        seeds: Seeds; all cells' first one comes before the second one of any.
        runs: Folder of run folders.
        rows: Folder of rows.
        commit: Commit of the code; a run that failed is tried again by other code only.
    """

    cells: Sequence[Cell]
    tier: Tier
    seeds: Sequence[int]
    runs: Path
    rows: Path
    commit: str

    def __post_init__(self) -> None:
        """Refuse a cell that has no recipe at the tier."""
        for cell in self.cells:
            find_recipe(cell, self.tier)

    def all_runs(self) -> list[RunKey]:
        """Return all runs, the most valuable first, parents before children."""
        return [
            RunKey(cell, precision, seed, self.tier)
            for seed in self.seeds
            for cell in self.cells
            for precision in cell.precisions
        ]

    def place(self, key: RunKey) -> RunFolder:
        """Return where a run is."""
        return RunFolder.of(key, self.runs, self.rows)

    def state(self, key: RunKey) -> State:
        """Return how far a run of the shipped recipe is."""
        return self.place(key).state(RunSpec.shipped(key).hash)

    def has_row(self, key: RunKey) -> bool:
        """Return whether the tables have the run."""
        return self.state(key) in ("row", "done")

    def next_of(self, key: RunKey) -> RunKey:
        """Return the first run that must be made for this one: itself, or an ancestor."""
        parent = key.parent()
        return key if parent is None or self.state(parent) == "done" else self.next_of(parent)

    def failure(self, key: RunKey) -> str | None:
        """Return why this code could not make the run; None if it has not failed."""
        if not (path := self.place(key).failure).exists():
            return None
        noted = read(path, Failure, "delete it, and the run is tried again")
        return noted.why if noted == self._failure(key, noted.why) else None

    def _failure(self, key: RunKey, why: str) -> "Failure":
        """Return what is noted of a run that this code cannot make."""
        return Failure(why, self.commit, RunSpec.shipped(key).hash)

    def note_failure(self, key: RunKey, why: str) -> None:
        """Remember that this code cannot make the run, so that the next call does not try."""
        noted = vars(self._failure(key, why))
        write_atomically(self.place(key).failure, json.dumps(noted, indent=1) + "\n")


@dataclass
class Slice:
    """What one call did.

    Attributes:
        done: Runs that got their row in this call.
        unfinished: The run under way when the time was up.
        short: How much time it lacked at least, s; known only where not one epoch was finished.
        failed: Runs that cannot be made, and why; those that start from them are left out.
        without_data: Cells whose data are missing, and why.
    """

    done: list[RunKey] = field(default_factory=list)
    unfinished: RunKey | None = None
    short: float | None = None
    failed: dict[RunKey, str] = field(default_factory=dict)
    without_data: dict[Cell, str] = field(default_factory=dict)


def reserve(budget: float) -> float:
    """Return how much of a budget is kept for what comes behind the last epoch, s.

    >>> reserve(540), reserve(60)
    (30.0, 6.0)
    """
    return min(RESERVE, SHARE * budget)


def run_slice(campaign: Campaign, make: Make, deadline: float | None) -> Slice:
    """Make as many runs as the time allows, and begin or resume one more.

    Args:
        campaign: What is wanted.
        make: Makes the row of a run until a deadline; raises OutOfTimeError where that comes first.
        deadline: When the time is up, by ``time.monotonic``, s; None for never.
    """
    found, keys = Slice(), campaign.all_runs()
    while (key := next(_open(campaign, found), None)) is not None:
        start = time.monotonic()
        if deadline is not None and start >= deadline:
            found.unfinished = key
            break
        print(f"[{keys.index(key) + 1}/{len(keys)}] {key}", flush=True)
        place = campaign.place(key)
        epochs = place.epochs
        try:
            make(key, deadline)
            found.done.append(key)
        except OutOfTimeError as error:
            found.unfinished = key
            if place.epochs == epochs and not found.done:
                found.short = error.lacking
            break
        except DataError as error:
            found.without_data[key.cell] = str(error)
            print(f"not run: {one_line(error)}", file=sys.stderr)
        except UserError as error:
            found.failed[key] = str(error)
            if isinstance(error, DivergedError):
                campaign.note_failure(key, str(error))
            print(f"failed: {one_line(error)}", file=sys.stderr)
    return found


def _open(campaign: Campaign, found: Slice) -> Iterator[RunKey]:
    """Yield the runs to be made, the next one first."""
    for wanted in campaign.all_runs():
        if wanted.cell in found.without_data or campaign.has_row(wanted):
            continue
        key = campaign.next_of(wanted)
        if key in found.failed:
            continue
        if (why := campaign.failure(key)) is not None:
            found.failed[key] = why
            continue
        yield key


def slice_in_words(campaign: Campaign, found: Slice) -> str:
    """Return what a call did, what is under way, and what is left."""
    keys = campaign.all_runs()
    there = sum(map(campaign.has_row, keys))
    said = [f"{len(found.done)} runs done in this call, {there} of {len(keys)} in all"]
    if found.unfinished is not None:
        key = found.unfinished
        done, epochs = campaign.place(key).epochs, RunSpec.shipped(key).epochs
        said.append(f"under way: {key}, {done} of {epochs} epochs")
        if found.short is not None:
            said.append(
                f"not one epoch of it fits: give at least {found.short:.0f} s more by --time-budget"
            )
    said += [f"failed: {key}: {why}" for key, why in found.failed.items()]
    said += [f"not run: {cell}: {why}" for cell, why in found.without_data.items()]
    if there < len(keys) and found.unfinished is None:
        said.append("nothing more can be made here")
    elif there < len(keys):
        said.append("the same command resumes")
    return "\n".join(said)


def packed_in_words(campaign: Campaign, found: Slice, out: Path, limit: int) -> str:
    """Pack what travels; return what does and what does not."""
    places = {str(key): campaign.place(key) for key in campaign.all_runs()}
    names = [name for name, at in places.items() if at.path.exists() or at.row.exists()]
    unfinished = str(found.unfinished) if found.unfinished else None
    packed = pack(
        names, campaign.runs, campaign.rows, out, limit=limit * 2**20, unfinished=unfinished
    )
    size = sum(path.stat().st_size for path in packed.parts)
    said = [f"{out}: {len(packed.parts)} files, {size / 2**20:.1f} MiB"]
    said += [f"  {name}: {', '.join(kinds)}" for name, kinds in packed.carried.items() if kinds]
    said += [
        f"  {name}: {size / 2**20:.0f} MiB stay here, over the limit of {limit} MiB"
        for name, size in packed.left.items()
    ]
    return "\n".join(said)
