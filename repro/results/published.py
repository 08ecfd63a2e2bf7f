"""The published numbers, as ``results/paper.csv`` has them: value, grade and source of each."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.cells import CELLS, QUANTISED, Cell, Precision, find_cell
from repro.errors import UserError

# Abstract of the paper, grade P.
LOSS_BOUND: Final = -0.01  # worst-case loss below 1 % on these data sets
LOSS_DATASETS: Final = ("cifar10", "dvs128_gesture", "cifar10_dvs")
RISE: Final = 0.0372  # rise of RISE_CELL, binary, at RISE_MEMORY of the FP32 weights
RISE_CELL: Final = find_cell("snn_calibration", "cifar100")
RISE_MEMORY: Final = 0.035
LOSS_PAIRS: Final[tuple[tuple[Cell, Precision], ...]] = tuple(
    (cell, precision) for cell in CELLS if cell.dataset in LOSS_DATASETS for precision in QUANTISED
)

UNKNOWN: Final = "n/a"
PAPER_COLUMNS: Final = (
    *("method", "dataset", "network", "time_steps", "precision"),
    *("quantity", "value", "unit", "grade", "source"),
)
GRADES: Final = (
    "Grade of a published number: P the authors' own text, code or logs; S quoted by another "
    "paper; D derived by arithmetic or by counting layers; H the authors' comments in their "
    "repository's history, before the paper's text; n/a not found."
)


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        cell: Line of the paper's table.
        precision: ``fp32``, ``binary``, ``ternary``, or ``any``.
        quantity: What is measured, for example ``accuracy``.
        value: The digits as published, or ``n/a``.
        unit: Unit of the value.
        grade: P, S, D, H or n/a.
        source: Where it was found.
    """

    cell: Cell
    precision: str
    quantity: str
    value: str
    unit: str
    grade: str
    source: str


PublishedNumbers = Mapping[tuple[Cell, str, str], Published]  # by cell, precision and quantity


def read_published(path: Path) -> PublishedNumbers:
    """Return the published numbers of a file like ``results/paper.csv``.

    Raises:
        UserError: The file is missing, or a line is not one of a cell of the paper.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: run in the project's folder, or restore it from git"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text ({error}): restore it from git") from error
    reader = csv.reader(io.StringIO(text))
    if (header := tuple(next(reader, ()))) != PAPER_COLUMNS:
        raise UserError(f"{path}: columns {list(header)}, expected {list(PAPER_COLUMNS)}")
    published = {}
    for line in reader:
        try:
            found = _published(line)
        except ValueError as error:
            raise UserError(
                f"{path} line {reader.line_num}: {error}; restore it from git"
            ) from error
        published[found.cell, found.precision, found.quantity] = found
    return published


def _published(line: list[str]) -> Published:
    """Return the number of one line.

    Raises:
        ValueError: The line has other columns, not a cell of the paper, or not a number.
    """
    if len(line) != len(PAPER_COLUMNS):
        raise ValueError(f"{len(line)} columns, expected {len(PAPER_COLUMNS)}")
    *name, precision, quantity, value, unit, grade, source = line
    cells = [c for c in CELLS if [c.method, c.dataset, c.network, str(c.time_steps)] == name]
    if not cells:
        raise ValueError(f"no cell {'/'.join(name)}")
    if not re.fullmatch(rf"{UNKNOWN}|[0-9]+(\.[0-9]+)?", value):
        raise ValueError(f"value {value!r}, expected a number or {UNKNOWN}")
    return Published(cells[0], precision, quantity, value, unit, grade, source)


def published_value(published: PublishedNumbers, cell: Cell, precision: str, quantity: str) -> str:
    """Return the published digits, or n/a where the file has no such line."""
    item = published.get((cell, precision, quantity))
    return item.value if item else UNKNOWN
