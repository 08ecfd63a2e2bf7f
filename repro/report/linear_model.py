"""The linear model that a network must beat."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from datamodules.catalogue import DATA_SETS
from repro.cells import CELLS_BY_PREFIX, Tier
from repro.errors import reading
from repro.recipes.shipped import RECIPES
from repro.results.row import Row
from repro.schema import STRICT, Count, Fraction, parse


@dataclass(frozen=True, config=STRICT | ConfigDict(extra="ignore"))
class LinearModel:
    """Logistic regression on the pixels: what a network must beat.

    Attributes:
        dataset: Data set that was read, for example ``digits``.
        train_images: Images it was fitted on.
        test_images: Images of ``accuracy_test``.
        C: Inverse strength of the penalty, picked on the validation images.
        accuracy_val: Fraction of the validation images, 0 to 1.
        accuracy_test: Fraction of the test images, 0 to 1.
        data_checksum: Checksum of all images and labels, as in a row.
        by_frame: Whether it sees every frame of events apart, not their sum.
    """

    dataset: str
    train_images: Count
    test_images: Count
    C: float
    accuracy_val: Fraction
    accuracy_test: Fraction
    data_checksum: str
    by_frame: bool = False

    @property
    def prefix(self) -> str:
        """With which cells it shares tables, see `CELLS_BY_PREFIX`: those that read its data."""
        for prefix, cells in CELLS_BY_PREFIX.items():
            if self.dataset in {
                recipe.data for (cell, _), recipe in RECIPES.items() if cell in cells
            }:
                return prefix
        return ""

    def note(self, rows: Iterable[Row]) -> str:
        """Return the line below the accuracy table; ``≠`` marks other images than the rows'."""
        recorded = self.dataset in DATA_SETS and DATA_SETS[self.dataset].items == "recordings"
        by = "frame, pixel and polarity" if self.by_frame else "pixel and polarity"
        seen = f"events by {by}" if recorded else "pixels"
        name = f"linear model (logistic regression on the {seen} of {self.dataset})"
        has = (
            f"{100 * self.accuracy_test:.2f} % of {self.test_images:,} test images, "
            f"{100 * self.accuracy_val:.2f} % on validation, where its penalty was picked "
            f"(C {self.C:g}; {self.train_images:,} training images)."
        )
        mine = [row for row in rows if row.data == self.dataset]
        read: dict[str, set[str]] = {}
        for row in mine:
            read.setdefault(str(row.key.cell), set()).add(row.data_checksum)
        same = sorted(cell for cell, found in read.items() if found == {self.data_checksum})
        if same:
            return f"On the same images as {' and '.join(same)} a {name} has {has}"
        why = "their data checksums differ" if mine else "no run of this tier read that data set"
        return f"≠ On other images than the runs' ({why}; do not compare) a {name} has {has}"


def read_linear_model(path: Path) -> LinearModel:
    """Return the linear model of a file ``linear_<dataset>_<tier>.json``; other fields are ignored.

    Raises:
        UserError: The file is damaged, or its name is not that of its data set.
    """
    with reading(path, "restore it from git, or delete it"):
        model = parse(path.read_bytes(), LinearModel)
        if not path.name.startswith(f"linear_{model.dataset}_"):
            raise ValueError(f"it is about {model.dataset}")
    return model


def linear_models(results: Path, tier: Tier) -> list[LinearModel]:
    """Return the linear models of ``<results>/linear_<dataset>_<tier>.json``, sorted by name."""
    return [read_linear_model(path) for path in sorted(results.glob(f"linear_*_{tier}.json"))]
