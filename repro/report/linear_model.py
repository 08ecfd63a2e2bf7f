"""The linear model that a network must beat."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from repro.cells import SIMULATED, Tier
from repro.errors import UserError
from repro.results.row import Row


@dataclass(frozen=True)
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
    """

    dataset: str
    train_images: int
    test_images: int
    C: float
    accuracy_val: float
    accuracy_test: float
    data_checksum: str

    @property
    def simulated(self) -> bool:
        """Whether it read simulated events."""
        return self.dataset in {cell.dataset for cell in SIMULATED}

    def note(self, rows: Iterable[Row]) -> str:
        """Return the line below the accuracy table; ``≠`` marks other images than the rows'."""
        seen = "events by pixel and polarity" if self.simulated else "pixels"
        name = f"linear model (logistic regression on the {seen} of {self.dataset})"
        found = (
            f"{100 * self.accuracy_test:.2f} % of {self.test_images:,} test images, "
            f"{100 * self.accuracy_val:.2f} % on validation, where its penalty was picked "
            f"(C {self.C:g}; {self.train_images:,} training images)."
        )
        mine = [row for row in rows if row.data == self.dataset]
        read: dict[str, set[str]] = {}
        for row in mine:
            read.setdefault(str(row.key.cell), set()).add(row.data_checksum)
        same = [cell for cell, checksums in read.items() if checksums == {self.data_checksum}]
        if same:
            return f"On the same images as {' and '.join(same)} a {name} has {found}"
        why = "their data checksums differ" if mine else "no run of this tier read that data set"
        return f"≠ On other images than the runs' ({why}; do not compare) a {name} has {found}"


def read_linear_model(path: Path) -> LinearModel:
    """Return the linear model of a file ``linear_<dataset>_<tier>.json``; other fields are ignored.

    Raises:
        UserError: The file is damaged, or its name is not that of its data set.
    """
    try:
        fields = json.loads(path.read_text("utf-8"))
        names = {field.name: field.type for field in dataclasses.fields(LinearModel)}
        model = LinearModel(**{name: fields[name] for name in names})
        for name, kind in names.items():
            value = fields[name]
            if not isinstance(value, (int, float) if kind is float else kind):  # type: ignore[arg-type]
                raise ValueError(f"{name} is {value!r}")
        if not path.name.startswith(f"linear_{model.dataset}_"):
            raise ValueError(f"it is about {model.dataset}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no linear model ({error}): restore it from git, or delete it"
        ) from error
    return model


def linear_models(results: Path, tier: Tier) -> list[LinearModel]:
    """Return the linear models of ``<results>/linear_<dataset>_<tier>.json``, sorted by name."""
    return [read_linear_model(path) for path in sorted(results.glob(f"linear_*_{tier}.json"))]
