"""The rows of one tier: grouped, compared seed by seed, and marked where something weakens them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from datamodules.catalogue import DATA_SETS
from repro.cells import CELLS, CELLS_BY_PREFIX, PRECISIONS, QUANTISED, TIERS, Cell, Precision, Tier
from repro.recipes.spec import LATER, shipped_hash
from repro.report.parts import Parts
from repro.report.wording import NOT_RUN, SCALE
from repro.results.row import Row, unpack_correct
from repro.results.statistics import CONFIDENCE, Difference, pair, paired_difference
from repro.table import Table

Hashes = Mapping[str, str] | None

MARKS: Final[Mapping[str, str]] = {
    "†": "stale: the recipe has changed since a run of this cell",
    "‡": "the tree had changes that were not committed",
    "◇": "the seeds were run with different recipes",
    "¶": "the row of its parent, or of the ANN above that, is missing or has changed since",
    "▽": "the seeds read different data",
    "‖": "the levels have another scale than the paper's, mean |w| of a layer (cbp.scale)",
    "△": "the learning rate fell at another epoch than in the control, or in one of the two only",
}
SCOPES: Final = {"": "", "simulated_": "simulated events, ", "beyond_": "beyond the paper, "}
REAL_EVENTS: Final = "real event recordings, "


@dataclass(frozen=True)
class TierRows:
    """Rows of one tier and of some cells; every table, figure and page is made of one of these.

    Attributes:
        rows: Rows of any tier and cell; kept are those of this tier and these cells, in the order
            of ``cells`` and of the precisions, then by seed.
        tier: Scale of the experiment.
        cells: The nine of the paper, or those of another of `CELLS_BY_PREFIX`.
        hashes: Run key -> hash of today's recipe; None leaves staleness unchecked.
    """

    rows: Sequence[Row]
    tier: Tier
    cells: tuple[Cell, ...] = CELLS
    hashes: Hashes = None

    def __post_init__(self) -> None:
        """Keep the rows of this tier and these cells."""
        mine = [row for row in self.rows if row.tier == self.tier and row.key.cell in self.cells]
        mine.sort(
            key=lambda r: (self.cells.index(r.key.cell), PRECISIONS.index(r.precision), r.seed)
        )
        object.__setattr__(self, "rows", tuple(mine))

    @property
    def prefix(self) -> str:
        """With what the names of its tables begin: nothing for the cells of the paper."""
        return next(name for name, cells in CELLS_BY_PREFIX.items() if cells == self.cells)

    @property
    def real_events(self) -> bool:
        """Whether all of these cells, beyond the paper, are on recordings of a real camera."""
        beyond = self.prefix == "beyond_"
        return beyond and all(DATA_SETS[c.dataset].items == "recordings" for c in self.cells)

    @property
    def scope(self) -> str:
        """What a table of these rows is about, for its title."""
        return f"{REAL_EVENTS * self.real_events}{SCOPES[self.prefix]}{self.tier} tier"

    @property
    def scale(self) -> str:
        """The tier and its scale, a sentence."""
        return f"Tier {self.tier}: {SCALE[self.tier]}."

    @cached_property
    def groups(self) -> dict[tuple[Cell, Precision], list[Row]]:
        """The rows by cell and precision, each sorted by seed."""
        found = groupby(self.rows, key=lambda row: (row.key.cell, row.precision))
        return {name: list(group) for name, group in found}

    @cached_property
    def parts(self) -> dict[tuple[Cell, Precision], Parts]:
        """What longer training and what CBP does to every quantised network that has a parent.

        The seeds are those of the control, too, where it has run by the same recipe.
        """
        found = {}
        for (cell, precision), group in self.groups.items():
            if precision not in QUANTISED:
                continue
            runs = self.comparable(cell, "fp32", "fp32_control", precision)
            # A control of another recipe says nothing: other epochs, another learning rate.
            threes = [rows for rows in runs if rows[1].recipe_hash == rows[2].recipe_hash]
            if not (several := threes or self.comparable(cell, "fp32", precision)):
                continue
            parents, *controls, quantised = zip(*several, strict=True)
            found[cell, precision] = Parts(
                cell=cell,
                precision=precision,
                whole=difference(parents, quantised),
                training=difference(parents, controls[0]) if controls else None,
                cbp=difference(controls[0], quantised) if controls else None,
                seeds=tuple(row.seed for row in parents),
                rows=len(group),
                drops_differ=any(one.epoch_lr_drop != two.epoch_lr_drop for _, one, two in threes),
            )
        return found

    def of(self, cell: Cell, precision: Precision) -> list[Row]:
        """Return the rows of a cell and precision, sorted by seed; none where nothing has run."""
        return self.groups.get((cell, precision), [])

    def sibling(self, row: Row, precision: Precision) -> Row | None:
        """Return the row of the same cell and seed at another precision, if it is here."""
        return next((r for r in self.of(row.key.cell, precision) if r.seed == row.seed), None)

    def parent(self, row: Row) -> Row | None:
        """Return the row of the run that a run starts from, if there is one and it is here."""
        above = row.key.parent()
        return self.sibling(row, above.precision) if above else None

    def comparable(self, cell: Cell, *precisions: Precision) -> list[tuple[Row, ...]]:
        """Return the rows of each seed that has all these precisions, on one set of test images.

        Left out is a row whose parent is to be compared with it and has changed since.
        """

        def fits(row: Row) -> bool:
            above = row.key.parent()
            return above is None or above.precision not in precisions or self.descends(row)

        by_seed = [
            {row.seed: row for row in self.of(cell, name) if fits(row)} for name in precisions
        ]
        seeds = sorted(set.intersection(*map(set, by_seed)))
        found = [tuple(rows[seed] for rows in by_seed) for seed in seeds]
        images = [{(row.data_checksum, row.test_images) for row in rows} for rows in found]
        one = next((each for each in images if len(each) == 1), None)
        return [rows for rows, each in zip(found, images, strict=True) if each == one]

    def difference(
        self, cell: Cell, before: Precision, after: Precision, confidence: float = CONFIDENCE
    ) -> Difference | None:
        """Return the accuracy of ``after`` minus ``before`` over the seeds of `comparable`."""
        twos = self.comparable(cell, before, after)
        if not twos:
            return None
        old, new = zip(*twos, strict=True)
        return difference(old, new, confidence=confidence)

    def time_steps(self, cell: Cell) -> str:
        """Return T of the paper, and ours where the recipe of a run has another one."""
        mine = [row.recipe for row in self.rows if row.key.cell == cell]
        ours = {recipe.get("time_steps", cell.time_steps) for recipe in mine} - {cell.time_steps}
        found = ", ".join(map(str, sorted(ours)))
        return f"{cell.time_steps} (ours {found})" if ours else str(cell.time_steps)

    def marks(self, *several: Sequence[Row]) -> str:
        """Return a blank and the `MARKS` that weaken a number made of these rows, or nothing.

        Args:
            several: Groups of rows, each of one cell and precision.
        """
        found = set()
        for group in several:
            if any(is_stale(row, self.hashes) for row in group):
                found.add("†")
            if any(row.git_dirty for row in group):
                found.add("‡")
            if not all(self._has_parent(row) for row in group):
                found.add("¶")
            if len({row.recipe_hash for row in group}) > 1:
                found.add("◇")
            if len({(row.data, row.data_checksum) for row in group}) > 1:
                found.add("▽")
            if any(_scales_otherwise(row) for row in group):
                found.add("‖")
        return " " * bool(found) + "".join(mark for mark in MARKS if mark in found)

    def descends(self, row: Row) -> bool:
        """Return whether the parent's row is here and right on the images it was then."""
        parent = self.parent(row)
        if parent is None or parent.test_images != row.test_images:
            return False
        counts = pair(*(unpack_correct(r.correct, r.test_images) for r in (parent, row)))
        found = (counts.parent_only_right, counts.child_only_right, parent.accuracy_file)
        return found == (row.parent_only_right, row.child_only_right, row.accuracy_parent)

    def _has_parent(self, row: Row) -> bool:
        """Return whether a run descends from its parent, and that from the ANN above it."""
        if row.parent is None:
            return True
        parent = self.parent(row)
        return parent is not None and self.descends(row) and self._has_parent(parent)

    def table(
        self,
        title: str,
        header: tuple[str, ...],
        lines: Sequence[tuple[str, ...]],
        notes: Sequence[str],
    ) -> Table:
        """Return a table of these rows: its title names them, the last notes explain its marks."""
        marked = meanings(cell for line in (*lines, notes) for cell in line)
        if self.hashes is None:
            marked.append("Whether recipes have changed since was not checked.")
        shown = tuple(lines) or ((NOT_RUN, *[""] * (len(header) - 1)),)
        return Table(f"{title}, {self.scope}", header, shown, (*notes, *marked))


def meanings(texts: Iterable[str]) -> list[str]:
    """Return one sentence about each of the `MARKS` that stands in some of the texts."""
    text = "".join(texts)
    return [f"{mark} {meaning}." for mark, meaning in MARKS.items() if mark in text]


def _scales_otherwise(row: Row) -> bool:
    """Return whether a quantised network's levels have another scale than the paper's."""
    papers = LATER["cbp"]["scale"]
    return row.precision in QUANTISED and row.recipe.get("cbp", {}).get("scale", papers) != papers


def all_tiers(rows: Sequence[Row], hashes: Hashes = None) -> list[TierRows]:
    """Return the rows of every tier, of the paper's cells first."""
    return [
        TierRows(rows, tier, cells, hashes) for tier in TIERS for cells in CELLS_BY_PREFIX.values()
    ]


def difference(
    before: Sequence[Row], after: Sequence[Row], *, confidence: float = CONFIDENCE
) -> Difference:
    """Return the accuracy of the files of ``after`` minus those of ``before``, seed by seed."""
    return paired_difference(right_images(before), right_images(after), confidence)


def right_images(rows: Sequence[Row]) -> NDArray[np.bool_]:
    """Return which images the files of rows get right, ``[S, N]``."""
    return np.stack([unpack_correct(row.correct, row.test_images) for row in rows])


def is_stale(row: Row, hashes: Hashes) -> bool | None:
    """Return whether the recipe of a run is gone or has changed since; None if that is unknown."""
    return None if hashes is None else hashes.get(str(row.key)) != row.recipe_hash


def current_hashes(rows: Iterable[Row]) -> dict[str, str]:
    """Return run key -> hash of today's recipe; a run whose recipe is gone is left out."""
    hashes = {str(row.key): shipped_hash(row.key) for row in rows}
    return {name: found for name, found in hashes.items() if found is not None}
