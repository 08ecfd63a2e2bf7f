"""The run that another one starts from."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from repro import packing
from repro.errors import MissingParentError, UserError
from repro.files import sha256
from repro.recipes.spec import RunSpec
from repro.results.row import PARENT, Row, unpack_correct
from repro.results.rows import read_row
from repro.results.statistics import pair
from repro.run.places import Places


@dataclass(frozen=True)
class Parent:
    """The run that another one starts from.

    Attributes:
        row: Its row.
        state: Its weights, from its saved file.
        sha256: Checksum of that file.
    """

    row: Row
    state: dict[str, Tensor]
    sha256: str


def parent_fields(parent: Parent | None, correct: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return the comparison with the parent on the same test images; None for a parent."""
    if parent is None:
        return dict.fromkeys(PARENT)
    pairs = pair(unpack_correct(parent.row.correct, parent.row.test_images), correct)
    return {
        "parent": str(parent.row.key),
        "parent_file_sha256": parent.sha256,
        "accuracy_parent": parent.row.accuracy_file,
        "difference_from_parent": pairs.difference,
        "parent_only_right": pairs.parent_only_right,
        "child_only_right": pairs.child_only_right,
        "mcnemar_p": pairs.mcnemar_p,
    }


def load_parent(spec: RunSpec, places: Places) -> Parent | None:
    """Return the parent's row and weights; None for a run that starts from fresh weights.

    Raises:
        UserError: It is missing (the message is the command that makes it), or was made by another
            recipe.
    """
    if (above := spec.parent) is None:
        return None
    place, parent = places.of_parent(above.key), above.key
    if not place.is_complete:
        raise MissingParentError(
            f"{spec.key} starts from {parent}, which is missing: {parent.command()}"
        )
    row = read_row(place.row)
    now = json.loads(json.dumps(above.values))
    if differing := [name for name in now if row.recipe.get(name) != now[name]]:
        raise UserError(
            f"{parent} was made by another recipe, {', '.join(differing)} differ: give its values "
            f"({places.rows / f'{parent}.json'}), or make a parent in another --runs and --rows"
        )
    state, _ = packing.unpack(place.model)
    return Parent(row, state, sha256(place.model))
