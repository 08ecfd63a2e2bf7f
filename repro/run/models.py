"""Models to take home: packed files of runs, with their epochs, beside the rows.

``results/models`` holds the packed file of every quantised row and those of the parents of seed 0,
``results/logs`` the epochs and histograms of every row.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from repro import packing
from repro.cells import QUANTISED
from repro.errors import UserError
from repro.files import write_atomically
from repro.recipes.spec import RunSpec
from repro.results.row import Row
from repro.run.places import Places
from repro.run_folder import RunFolder

ROWS: Final = Path("results/rows")
MODELS: Final = Path("results/models")
LOGS: Final = Path("results/logs")
PREFIX: Final = "model:"


def model_file(name: str) -> Path:
    """Return the file of ``model:NAME``.

    Raises:
        UserError: There is none of this name.
    """
    if not name.startswith(PREFIX):
        raise UserError(f"{name!r} is no name of a model: give {PREFIX}NAME")
    known = {path.stem: path for path in sorted(MODELS.glob("*.safetensors"))}
    if name.removeprefix(PREFIX) not in known:
        raise UserError(f"{name} is not in {MODELS}: python -m repro models lists what is there")
    return known[name.removeprefix(PREFIX)]


def located(path: Path) -> Path:
    """Return the path itself, or the file of a ``model:NAME``."""
    return model_file(str(path)) if str(path).startswith(PREFIX) else path


def is_of(row: Row, file: Path) -> bool:
    """Return whether a packed file was written by the run of a row."""
    if not file.is_file() or file.stat().st_size != row.file_bytes:
        return False
    said = packing.metadata(file)
    return (said.get("run"), said.get("recipe_hash")) == (str(row.key), row.recipe_hash)


def keep(rows: Iterable[Row], runs: Path, models: Path = MODELS, logs: Path = LOGS) -> list[str]:
    """Copy models and logs of rows whose run folders are here; return the names of those runs."""
    kept = []
    for row in rows:
        place = RunFolder(runs / str(row.key))
        if not is_of(row, place.model):
            continue
        kept.append(str(row.key))
        if row.precision in QUANTISED or (row.precision == "fp32" and row.seed == 0):
            write_atomically(models / f"{row.key}.safetensors", place.model.read_bytes())
        for log in (place.metrics, place.histograms):
            if log.is_file():
                write_atomically(logs / str(row.key) / log.name, log.read_bytes())
    return kept


def in_words(rows: Sequence[Row], models: Path = MODELS) -> str:
    """Return the models that are here, a line each: accuracy and bytes by its row."""
    by_name = {str(row.key): row for row in rows}
    lines, total = [], 0
    for path in sorted(models.glob("*.safetensors")):
        row, size = by_name.get(path.stem), path.stat().st_size
        total += size
        if row is None or not is_of(row, path):
            lines.append(f"{PREFIX}{path.stem}  no row of this file: do not use it")
            continue
        lines.append(
            f"{PREFIX}{path.stem}  {100 * row.accuracy_file:.2f} % of {row.test_images:,} test "
            f"images, {size:,} bytes, {100 * size / row.fp32_bytes:.1f} % of the weights in FP32"
        )
    return "\n".join([*lines, f"{len(lines)} models, {total / 1e6:.1f} MB"])


def place_parent(name: str, spec: RunSpec, places: Places) -> None:
    """Put a model and its row where the run that starts from it looks for its parent.

    Args:
        name: ``model:NAME``.
        spec: The run that starts from it.
        places: Of that run.

    Raises:
        UserError: There is no such model, or it is another run's.
    """
    file, parent = model_file(name), spec.key.parent()
    if file.stem != str(parent):
        raise UserError(f"parent is {name}, but {spec.key} starts from {parent}: give that one")
    assert parent is not None
    place = places.of_parent(parent)
    if not place.model.exists():
        write_atomically(place.model, file.read_bytes())
    shipped = ROWS / place.row.name
    if not place.row.exists() and shipped.is_file():
        write_atomically(place.row, shipped.read_bytes())
