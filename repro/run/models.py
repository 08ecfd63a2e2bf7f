"""Models to take home: packed files of runs, with their epochs, beside the rows.

``results/models`` holds packed files: of quantised rows, of the FP32 parents of seed 0, and of all
FP32 parents of snn_calibration/cifar100. ``results/logs`` holds epochs and histograms of rows. Of
an ablation the ANNs are kept, from which further parents can be converted. A model is called what
its row is below ``results/rows``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from repro import packing
from repro.cells import QUANTISED
from repro.errors import UserError
from repro.files import write_atomically
from repro.recipes.config import read_config
from repro.recipes.spec import RunSpec
from repro.results.published import RISE_CELL
from repro.results.row import Row
from repro.results.rows import read_row
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
    known = _files(MODELS)
    if name.removeprefix(PREFIX) not in known:
        raise UserError(f"{name} is not in {MODELS}: python -m repro models lists what is there")
    return known[name.removeprefix(PREFIX)]


def _files(folder: Path) -> dict[str, Path]:
    """Return the models below a folder by name."""
    return {_name(path, folder): path for path in sorted(folder.rglob("*.safetensors"))}


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def rows_by_name(folder: Path = ROWS) -> dict[str, Row]:
    """Return the rows below a folder, those of ablations too, by the names of their models."""
    return {_name(path, folder): read_row(path) for path in sorted(folder.rglob("*.json"))}


def located(path: Path) -> Path:
    """Return the path itself, or the file of a ``model:NAME``."""
    return model_file(str(path)) if str(path).startswith(PREFIX) else path


def recorded_recipe(file: Path) -> dict[str, Any]:
    """Return the recipe that the run of a packed file recorded; empty if there is none to read.

    It stands in the ``config.json`` beside the file, or in the row of a model that is kept.

    Raises:
        UserError: The row of a model that is kept is damaged.
    """
    config, inside, kept = file.with_name("config.json"), file.resolve(), MODELS.resolve()
    if inside.is_relative_to(kept) and not config.exists():
        row = ROWS / f"{_name(inside, kept)}.json"
        return read_row(row).recipe if row.exists() else {}
    try:
        return read_config(config).recipe
    except UserError:
        return {}


def is_of(row: Row, file: Path) -> bool:
    """Return whether a packed file was written by the run of a row."""
    if not file.is_file() or file.stat().st_size != row.file_bytes:
        return False
    said = packing.metadata(file)
    return (said.get("run"), said.get("recipe_hash")) == (str(row.key), row.recipe_hash)


def keep(
    rows: Mapping[str, Row], runs: Path, models: Path = MODELS, logs: Path = LOGS
) -> list[str]:
    """Copy models and logs of rows whose run folders are here; return the names of those runs."""
    kept = []
    for name, row in rows.items():
        place, of_ablation = RunFolder(runs / name), "/" in name
        if not is_of(row, place.model) or (of_ablation and row.precision != "ann"):
            continue
        kept.append(name)
        parent = row.precision == "fp32" and (row.seed == 0 or row.key.cell == RISE_CELL)
        if of_ablation or parent or row.precision in QUANTISED:
            write_atomically(models / f"{name}.safetensors", place.model.read_bytes())
        for log in (place.metrics, place.histograms):
            if log.is_file() and not of_ablation:
                write_atomically(logs / name / log.name, log.read_bytes())
    return kept


def in_words(rows: Mapping[str, Row], models: Path = MODELS) -> str:
    """Return the models that are here, a line each: accuracy and bytes by its row."""
    lines, total = [], 0
    for name, path in _files(models).items():
        row, size = rows.get(name), path.stat().st_size
        total += size
        if row is None or not is_of(row, path):
            lines.append(f"{PREFIX}{name}  no row of this file: do not use it")
            continue
        lines.append(
            f"{PREFIX}{name}  {100 * row.accuracy_file:.2f} % of {row.test_images:,} test "
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
    shipped = ROWS / f"{_name(file, MODELS)}.json"
    if not place.row.exists() and shipped.is_file():
        write_atomically(place.row, shipped.read_bytes())
