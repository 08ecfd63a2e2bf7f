"""Multinomial logistic regression on exactly the images of a datamodule: what any net must beat."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from datamodules.base import PART_NAMES, DataModule, ImageArguments, PartName
from datamodules.cifar import CifarDataModule
from datamodules.cifar import Name as CifarName
from datamodules.digits import DigitsDataModule
from datamodules.errors import DataError
from datamodules.events import EventDataModule
from datamodules.loaders import Part
from repro.build import make_data
from repro.cells import BEYOND, SIMULATED
from repro.recipes.shipped import RECIPES

OF_EVENTS: Final = {
    recipe.data: recipe
    for (cell, tier), recipe in RECIPES.items()
    if tier == "desk" and cell in (*SIMULATED, *BEYOND)
}
DATA: Final = (*get_args(CifarName), "digits", *OF_EVENTS)
C_GRID: Final = (1e-4, 1e-3, 1e-2)  # inverse strength of the L2 penalty, ascending
MAX_ITERATIONS: Final = 2_000  # of L-BFGS; sklearn warns of a fit that needs more
# Largest gradient at which L-BFGS stops. On 10,000 CIFAR-10 images the default, 1e-4, takes about
# three times as long and moves the test accuracy by less than 0.1 points.
TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class LinearResult:
    """A fitted linear model.

    Attributes:
        dataset: Data set.
        train_images: Images it was fitted on.
        val_images: Images ``C`` was chosen on.
        test_images: Images of ``accuracy_test``.
        C: Inverse strength of the L2 penalty, the best of the grid on the validation images.
        accuracy_train: Fraction, 0 to 1.
        accuracy_val: Fraction, 0 to 1.
        accuracy_test: Fraction, 0 to 1.
        data_checksum: sha256 of the images and labels, as in a row.
        by_frame: Whether it sees every frame of events apart, not their sum.
    """

    dataset: str
    train_images: int
    val_images: int
    test_images: int
    C: float
    accuracy_train: float
    accuracy_val: float
    accuracy_test: float
    data_checksum: str
    by_frame: bool = False


def make_datamodule(data: str, data_dir: str | None, **counts: int) -> DataModule:
    """Return the datamodule of that data set with so many images of every part; 0 for all.

    Recordings become frames as in the desk recipe of their cell.
    """
    if data in OF_EVENTS:
        changes: dict[str, Any] = {**counts}
        recipe = replace(OF_EVENTS[data], **changes)
        return make_data(recipe, seed=0, data_dir=Path(data_dir) if data_dir else None)
    base: ImageArguments = {"batch_size": 1, "seed": 0, "augment": False}
    base.update(counts)  # type: ignore[typeddict-item]
    if data == "digits":
        return DigitsDataModule(**base)
    return CifarDataModule(data, data_dir, **base)  # type: ignore[arg-type]


def flatten(
    data: DataModule, part: PartName, by_frame: bool = False
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return features and labels.

    These are pixels ``[N, 3072]``, or events by polarity and pixel ``[N, 2*H*W]``, of every frame
    apart ``[N, T*2*H*W]`` where asked for.
    """
    if isinstance(data, EventDataModule):
        found = data.parts[part]
        if by_frame:
            return found.frames.reshape(len(found.labels), -1).astype(np.float32), found.labels
        counts = np.stack([frames.sum(0, dtype=np.float32) for frames in found.frames])
        return counts.reshape(len(counts), -1), found.labels
    images: Part = getattr(data, part)
    return images.images.flatten(1).numpy().astype(np.float32), images.labels.numpy()


def fit_linear(dataset: str, datamodule: DataModule, by_frame: bool = False) -> LinearResult:
    """Return the best linear model of the grid, by validation accuracy; a tie goes to the lower C.

    Pixels, or counts of events, are standardised by mean and standard deviation of the training
    images. Every fit starts from the one with the next stronger penalty.
    """
    datamodule.setup("fit")
    parts = [flatten(datamodule, part, by_frame) for part in PART_NAMES]
    scaler = StandardScaler().fit(parts[0][0])
    train, val, test = ((scaler.transform(x), y) for x, y in parts)
    model = LogisticRegression(tol=TOLERANCE, max_iter=MAX_ITERATIONS, warm_start=True)
    fits = []
    for inverse_penalty in C_GRID:
        model.set_params(C=inverse_penalty).fit(*train)
        accuracies = [float(model.score(*part)) for part in (train, val, test)]
        fits.append((inverse_penalty, *accuracies))
    chosen, accuracy_train, accuracy_val, accuracy_test = max(fits, key=lambda fit: fit[2])
    return LinearResult(
        dataset=dataset,
        train_images=len(train[1]),
        val_images=len(val[1]),
        test_images=len(test[1]),
        C=chosen,
        accuracy_train=accuracy_train,
        accuracy_val=accuracy_val,
        accuracy_test=accuracy_test,
        data_checksum=datamodule.checksum,
        by_frame=by_frame,
    )


def write_result(path: Path, result: LinearResult) -> None:
    """Write the result as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(asdict(result), indent=2) + "\n")
    os.replace(temporary, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print the accuracies and write them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.linear_model", description=__doc__)
    parser.add_argument("--data", choices=DATA, required=True)
    for part in ("train", "val", "test"):
        parser.add_argument(
            f"--{part}-images", type=int, default=0, metavar="N", help="first N; 0 (default): all"
        )
    parser.add_argument("--data-dir", help="folder of the data set; default: CBP_DATA, then data")
    parser.add_argument("--by-frame", action="store_true", help="see every frame of events apart")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args(arguments)
    counts = {
        f"{part}_images": getattr(given, f"{part}_images") for part in ("train", "val", "test")
    }
    try:
        data = make_datamodule(given.data, given.data_dir, **counts)
        result = fit_linear(given.data, data, given.by_frame)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{result.dataset}, {result.train_images} training images, C {result.C:g}: accuracy"
        f" {result.accuracy_train:.2%} train, {result.accuracy_val:.2%} validation,"
        f" {result.accuracy_test:.2%} test ({result.test_images} images)"
    )
    if given.out:
        write_result(given.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
