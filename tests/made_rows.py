"""Rows of runs that never ran, for tests of whatever reads rows."""

from typing import Any

import numpy as np

from repro.cells import CELLS, Cell, RunKey
from repro.provenance import versions
from repro.results.row import PARENT, Row, pack_correct
from repro.results.statistics import pair

STBP = CELLS[1]


def make_row(
    correct: np.ndarray, parent: np.ndarray | None = None, cell: Cell = STBP, **changes: object
) -> Row:
    """A row of which only the images that were right, and the changes, matter.

    It is binary if a parent is given, else FP32, unless the changes say otherwise. A run that has a
    parent by its name and is given none has one that is right on the same images.
    """
    accuracy = float(correct.mean())
    fields: dict[str, Any] = {
        **{"method": cell.method, "dataset": cell.dataset, "network": cell.network},
        **{"precision": "fp32" if parent is None else "binary", "seed": 0, "tier": "desk"},
        **{"recipe": {"time_steps": 4, "cbp": {}}},
        **{"recipe_hash": "1a", "git_sha": "0" * 40, "git_dirty": False, "versions": versions()},
        **{"device": "cpu", "data_checksum": "2b", "data": "cifar10", "train_images": 100},
        **{"val_images": 10, "test_images": len(correct), "epochs": 3, "epochs_done": 3},
        **{"wall_seconds": 1.5, "accuracy_last": accuracy, "accuracy_best_test": accuracy},
        **{"accuracy_selected": accuracy, "epoch_best_test": 1, "epoch_selected": 2},
        **{"accuracy_val_selected": 0.5, "accuracy_file": accuracy, "cfs_first": None},
        **{"cfs_last": None, "weights": 1000, "quantised_weights": 0, "fp32_bytes": 4000.0},
        **{"weights_only_bytes": 4000.0, "everything_bytes": 4100.0, "file_bytes": 4264},
        **dict.fromkeys(PARENT),
        **{"correct": pack_correct(correct)},
        **changes,
    }
    key = RunKey(cell, fields["precision"], fields["seed"], fields["tier"])
    if (above := key.parent()) is not None:
        parent = correct if parent is None else parent
        counts = pair(parent, correct)
        fields |= {
            **{"parent": str(above), "parent_file_sha256": "3c"},
            **{"accuracy_parent": float(parent.mean())},
            **{"difference_from_parent": counts.difference},
            **{"parent_only_right": counts.parent_only_right},
            **{"child_only_right": counts.child_only_right},
            **{"mcnemar_p": pair(parent, correct).mcnemar_p},
        }
    if key.is_conversion:
        assert parent is not None
        conversion = {"ann": float(parent.mean()), "uncalibrated": 0.1, "light": accuracy}
        fields |= {"epochs_done": 0, "epoch_selected": 0, "epoch_best_test": 0}
        fields |= {"conversion": conversion}
        fields["recipe"] = fields["recipe"] | {"conversion": {"pipeline": "light"}}
    if bits := {"binary": 1, "ternary": 2}.get(key.precision):
        fields |= {
            **{"cfs_first": 0.5, "cfs_last": 0.25, "quantised_weights": 960},
            **{"weights_only_bytes": (40 * 32 + bits * 960) / 8},
            **{"everything_bytes": 420.0, "file_bytes": 441},
        }
    return Row(**(fields | changes))


def right(count: int, of: int = 20) -> np.ndarray:
    """The first ``count`` images right."""
    return np.arange(of) < count


def family(
    cell: Cell = STBP, *, seed: int = 0, images: int = 20, shift: int = 0, **counts: int
) -> list[Row]:
    """Rows of one seed by precision -> images right; each is compared with its parent's images.

    A ``shift`` makes other images right, as another seed would.
    """
    correct = {name: np.roll(right(count, of=images), shift) for name, count in counts.items()}
    rows = []
    for precision, mine in correct.items():
        above = RunKey(cell, precision, seed, "desk").parent()  # type: ignore[arg-type]
        parent = correct.get(above.precision) if above else None
        rows.append(make_row(mine, parent, cell, precision=precision, seed=seed))
    return rows
