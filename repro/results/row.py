"""The row of a run: its fields, their ranges and how they hang together."""

import dataclasses
import math
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Annotated, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from repro.cells import QUANTISED, Method, Precision, RunKey, Tier, find_cell
from repro.files import checksum
from repro.results.statistics import exact_p
from repro.schema import STRICT, Count, Fraction, Positive, Size

# What a conversion evaluates, in its order, by the pipeline of its recipe.
STEPS_TAKEN: Final = {
    "none": ("ann", "uncalibrated"),
    "light": ("ann", "uncalibrated", "light"),
    "potential": ("ann", "uncalibrated", "light", "potential"),
    "weights": ("ann", "uncalibrated", "light", "weights"),
    "qcfs": ("ann", "uncalibrated", "light", "qcfs"),
}
ROUNDING: Final = 1e-9  # of fractions
T = TypeVar("T")
OF_PARENT: Final = "of the parent"
OfParent = Annotated[T | None, OF_PARENT]  # a row has all fields of this kind, or none


@dataclass(frozen=True, config=STRICT)
class Row:
    """What one run found, and everything needed to say where it came from.

    Accuracies are fractions of the test images, 0 to 1, except ``accuracy_val_selected``. A field
    that has no meaning for a run (``cfs_first`` of an FP32 run, the parent of a parent) is None.

    Attributes:
        method: Pre-training method of the cell.
        dataset: Data set of the cell.
        network: Network of the cell.
        precision: See `RunKey`.
        seed: Seed of the run, 0 and up.
        tier: Scale of the experiment.
        recipe: Every field of the recipe, JSON values only.
        recipe_hash: Hash of the recipe.
        git_sha: Commit of the code, or ``unknown``.
        git_dirty: Whether the tree had changes outside ``results/``.
        versions: See `versions`.
        device: Device the run trained on, in words.
        data_checksum: Checksum of the data that was read.
        data: Data set really read, for example ``digits`` in the smoke tier.
        train_images: Training images.
        val_images: Validation images.
        test_images: Test images, 1 and up.
        epochs: Epochs of the recipe.
        epochs_done: Epochs that ran; 0 of a conversion, which trains nothing.
        wall_seconds: Wall time, s.
        accuracy_last: Accuracy at the last epoch.
        accuracy_best_test: Accuracy at the best test epoch: optimistic, the test set picked it.
        accuracy_selected: Accuracy at the epoch picked on validation.
        epoch_best_test: Best test epoch.
        epoch_selected: Epoch picked on validation.
        accuracy_val_selected: Accuracy on the validation images at that epoch.
        accuracy_file: Accuracy of the saved file, loaded into a fresh network.
        cfs_first: Constraint failure score after the first epoch.
        cfs_last: Constraint failure score after the last epoch.
        weights: Weights of all layers.
        quantised_weights: Those that are levels.
        fp32_bytes: Bytes of all weights at 32 bits.
        weights_only_bytes: Bytes of the weights at this precision; what the paper counts.
        everything_bytes: The same with biases, normalisation, scales and neuron parameters.
        file_bytes: Measured size of the saved file.
        parent: Run key of the parent, see `RunKey.parent`.
        parent_file_sha256: Checksum of the parent's weight file that was loaded.
        accuracy_parent: ``accuracy_file`` of the parent.
        difference_from_parent: ``accuracy_file - accuracy_parent``, a fraction, -1 to 1.
        parent_only_right: Test images that only the parent gets right (b).
        child_only_right: Test images that only this run gets right (c).
        mcnemar_p: Exact McNemar p of those two, 0 to 1.
        correct: Which test images the saved file gets right, see `pack_correct`.
        cfs_selected: Constraint failure score at the epoch picked on validation.
        g_selected: Window variable g then.
        conversion: Of a converted network: test accuracy of the ``ann``, ``uncalibrated`` and after
            each step of the calibration by its name (``light``, ``potential``, ``weights``), those
            of `STEPS_TAKEN`.
        epoch_lr_drop: Epoch, from 0, at which the learning rate of a CBP phase was first below its
            start; None if it never was, if that is not known, or if the run has no such phase.
        skipped: Damaged recordings that were left out; None for none.
        level_scale: Mean of a, the scale of the levels, over the quantised weights; None where not
            recorded.
        firing_rates: Spikes per neuron and time step of the saved file's network, by the module in
            front of the neurons, see `repro.run.evaluation`; None of an ANN, or where not recorded.

    Raises:
        ValueError: A value out of range or fields that contradict each other.
    """

    method: Method
    dataset: str
    network: str
    precision: Precision
    seed: Count
    tier: Tier
    recipe: dict[str, Any]
    recipe_hash: str
    git_sha: str
    git_dirty: bool
    versions: dict[str, str]
    device: str
    data_checksum: str
    data: str
    train_images: Count
    val_images: Count
    test_images: Positive
    epochs: Count
    epochs_done: Count
    wall_seconds: Size
    accuracy_last: Fraction
    accuracy_best_test: Fraction
    accuracy_selected: Fraction
    epoch_best_test: Count
    epoch_selected: Count
    accuracy_val_selected: Fraction
    accuracy_file: Fraction
    cfs_first: float | None
    cfs_last: float | None
    weights: Positive
    quantised_weights: Count
    fp32_bytes: Size
    weights_only_bytes: Size
    everything_bytes: Size
    file_bytes: Positive
    parent: OfParent[str]
    parent_file_sha256: OfParent[str]
    accuracy_parent: OfParent[Fraction]
    difference_from_parent: OfParent[float]
    parent_only_right: OfParent[Count]
    child_only_right: OfParent[Count]
    mcnemar_p: OfParent[Fraction]
    correct: str
    cfs_selected: float | None = None
    g_selected: Count | None = None
    conversion: dict[str, Fraction] | None = None
    epoch_lr_drop: Count | None = None
    skipped: Count | None = None
    level_scale: Size | None = None
    firing_rates: dict[str, Fraction] | None = None

    def __post_init__(self) -> None:
        """Refuse a row that contradicts itself."""
        if problem := next(chain.from_iterable(check(self) for check in CHECKS), None):
            raise ValueError(problem)

    @property
    def cfs_relative(self) -> float | None:
        """``cfs_last`` over twice ``level_scale``: narrow layers have larger weights."""
        if self.cfs_last is None or not self.level_scale:
            return None
        return self.cfs_last / (2 * self.level_scale)

    @property
    def key(self) -> RunKey:
        """Return the name of the run.

        Raises:
            UserError: No such cell.
        """
        cell = find_cell(self.method, self.dataset, self.network)
        return RunKey(cell, self.precision, self.seed, self.tier)


PARENT: Final = tuple(
    field.name
    for field in dataclasses.fields(Row)
    if OF_PARENT in getattr(field.type, "__metadata__", ())
)


def _contradictions(row: Row) -> Iterator[str]:
    """Yield fields of a row that do not fit each other, in words."""
    digits = 2 * -(-row.test_images // 8)
    if len(row.correct) != digits or not re.fullmatch("[0-9a-f]*", row.correct):
        yield f"correct is not hex of {row.test_images} bits"
        return
    right = int(unpack_correct(row.correct, row.test_images).sum())
    if abs(right - row.accuracy_file * row.test_images) > ROUNDING * row.test_images:
        yield f"correct has {right} right images, accuracy_file says {row.accuracy_file}"
    given = [name for name in PARENT if getattr(row, name) is not None]
    if len(given) not in (0, len(PARENT)):
        yield f"only {', '.join(given)} of the parent's fields are set"
    elif given:
        yield from _wrong_comparison(row)


def _wrong_comparison(row: Row) -> Iterator[str]:
    """Yield what does not fit in the comparison with the parent, in words."""
    assert row.child_only_right is not None
    assert row.parent_only_right is not None
    assert row.difference_from_parent is not None
    assert row.accuracy_parent is not None
    assert row.mcnemar_p is not None
    if (either := row.parent_only_right + row.child_only_right) > row.test_images:
        yield f"{either} images right in one of the two only, of {row.test_images} test images"
    pairs = row.child_only_right - row.parent_only_right
    if abs(pairs - row.difference_from_parent * row.test_images) > 0.5:
        yield f"difference_from_parent is {row.difference_from_parent}, the pairs say {pairs}"
    difference = row.accuracy_file - row.accuracy_parent
    if abs(difference - row.difference_from_parent) > ROUNDING:
        yield (
            f"difference_from_parent is {row.difference_from_parent}, the accuracies of the file "
            f"and of the parent say {difference:.6g}"
        )
    expected = exact_p(row.parent_only_right, row.child_only_right)
    if not math.isclose(row.mcnemar_p, expected, rel_tol=1e-6, abs_tol=sys.float_info.min):
        yield f"mcnemar_p is {row.mcnemar_p}, the pairs say {expected:.6g}"


def _relations(row: Row) -> Iterator[str]:
    """Yield what does not fit the name of the run: its parent, or that it is a conversion."""
    above = row.key.parent()
    if row.parent != (str(above) if above else None):
        yield f"parent is {row.parent}, expected {above}"
    if row.key.is_conversion != (row.conversion is not None):
        expected = "its accuracies" if row.key.is_conversion else "None, it converts nothing"
        yield f"conversion is {row.conversion}, expected {expected}"
    if row.conversion is not None:
        yield from _wrong_steps(row, row.conversion)


def _wrong_recipe(row: Row) -> Iterator[str]:
    """Yield what does not fit the recipe, in words."""
    if (made := checksum(row.recipe)[:16]) != row.recipe_hash:
        yield f"recipe_hash is {row.recipe_hash}, that of the recipe {made}"
    if (data := row.recipe.get("data", row.data)) != row.data:
        yield f"data is {row.data}, the recipe says {data}"


def _wrong_epochs(row: Row) -> Iterator[str]:
    """Yield what does not fit the number of epochs, or another accuracy of the same one."""
    trained = 0 if row.key.is_conversion else max(1, row.epochs)
    if row.epochs_done != trained:
        yield f"epochs_done is {row.epochs_done}, expected {trained}"
    last = max(0, trained - 1)
    for name in ("epoch_selected", "epoch_best_test", "epoch_lr_drop"):
        if (epoch := getattr(row, name) or 0) > last:
            yield f"{name} is {epoch}, the last epoch is {last}"
    accuracies: dict[int, float] = {}
    for name, epoch in (
        ("accuracy_last", last),
        ("accuracy_selected", row.epoch_selected),
        ("accuracy_best_test", row.epoch_best_test),
    ):
        accuracy, images = getattr(row, name), getattr(row, name) * row.test_images
        if abs(images - round(images)) > ROUNDING * row.test_images:
            yield f"{name} is {accuracy}, which is not a number of {row.test_images} images"
        if accuracy > row.accuracy_best_test:
            yield f"{name} is {accuracy}, above accuracy_best_test, {row.accuracy_best_test}"
        if (other := accuracies.setdefault(epoch, accuracy)) != accuracy:
            yield f"{name} is {accuracy}, another accuracy of epoch {epoch} is {other}"


def _wrong_memory(row: Row) -> Iterator[str]:
    """Yield counts of weights and bytes that do not fit each other, in words."""
    if not (row.precision in QUANTISED) <= row.quantised_weights <= row.weights:
        yield f"quantised_weights is {row.quantised_weights} of {row.weights}"
    if row.quantised_weights and row.precision not in QUANTISED:
        yield f"quantised_weights is {row.quantised_weights} of a run in {row.precision}"
    if row.fp32_bytes != 4 * row.weights:
        yield f"fp32_bytes is {row.fp32_bytes}, {row.weights} weights have {4 * row.weights}"
    sizes = row.weights_only_bytes, row.everything_bytes, row.file_bytes
    if sizes[0] > row.fp32_bytes or list(sizes) != sorted(sizes):
        yield f"bytes of weights, everything and file are {sizes}, each contains the one before"


CHECKS: Final = (_contradictions, _relations, _wrong_recipe, _wrong_epochs, _wrong_memory)


def _wrong_steps(row: Row, conversion: dict[str, float]) -> Iterator[str]:
    """Yield in what the steps of a conversion do not fit its recipe or its accuracy, in words."""
    pipeline = (row.recipe.get("conversion") or {}).get("pipeline")
    steps = STEPS_TAKEN.get(str(pipeline))
    if steps is None:
        yield f"the recipe's pipeline is {pipeline!r}, expected one of {', '.join(STEPS_TAKEN)}"
    elif conversion.keys() != set(steps):
        yield (
            f"conversion has {', '.join(sorted(conversion))}, the recipe's pipeline {pipeline} "
            f"takes {', '.join(steps)}"
        )
    elif abs(conversion[steps[-1]] - row.accuracy_selected) > ROUNDING:
        yield (
            f"conversion ends at {steps[-1]} {conversion[steps[-1]]}, accuracy_selected says "
            f"{row.accuracy_selected}"
        )


def pack_correct(correct: NDArray[np.bool_]) -> str:
    """Return which images were right as hex: eight images a byte, the first in the highest bit.

    Args:
        correct: ``[N]`` bool, in the order of the test set.

    >>> import numpy as np
    >>> pack_correct(np.array([True] + 7 * [False] + [True]))
    '8080'
    """
    return np.packbits(correct).tobytes().hex()


def unpack_correct(text: str, images: int) -> NDArray[np.bool_]:
    """Return which images were right, ``[N]`` bool, from `pack_correct`.

    Args:
        text: Hex of the packed bits.
        images: N, the number of test images.

    Raises:
        ValueError: The text does not hold that many bits.
    """
    if len(text) != 2 * -(-images // 8):
        raise ValueError(f"{len(text)} hex digits cannot hold {images} images: give the row's own")
    packed = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    return np.unpackbits(packed, count=images).astype(np.bool_)


def flat(value: object, name: str) -> Iterator[tuple[str, object]]:
    """Yield the values inside nested mappings by their dotted names.

    >>> list(flat({"a": {"b": 1}, "c": 2}, "recipe"))
    [('recipe.a.b', 1), ('recipe.c', 2)]
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}")
    else:
        yield name, value
