"""Rows of a W&B project, for tables of runs that ran elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from repro.errors import UserError
from repro.rows import Row, row_from_text

SUMMARY: Final = "row"  # key of a run's summary: its row as JSON
ABLATION: Final = "ablation"  # key of a run's config: the name of its ablation
TIMEOUT: Final = 60  # s, for one answer of the server


@dataclass(frozen=True)
class Found:
    """What a project holds.

    Attributes:
        rows: One row per run key, sorted by key.
        notes: A sentence per run that is left out, and why.
    """

    rows: list[Row]
    notes: list[str]


def read_wandb_rows(project: str) -> Found:
    """Return the rows that the runs of a project have in their summaries.

    Args:
        project: ``<entity>/<project>``; the server is W&B's own setting (WANDB_BASE_URL).

    Raises:
        UserError: The name is no such pair, the server cannot be asked, or a row is damaged.
    """
    if project.count("/") != 1 or not all(project.split("/")):
        raise UserError(f"{project!r} is no W&B project: give wandb:<entity>/<project>")
    import wandb

    try:
        runs = list(wandb.Api(timeout=TIMEOUT).runs(project, order="+created_at"))
    except (wandb.Error, ValueError, OSError) as error:  # an absent project is a ValueError
        said = " ".join(str(error).split())
        raise UserError(
            f"W&B project {project} cannot be read ({said}): check its name, and wandb login"
        ) from error
    return choose(runs)


def choose(runs: Iterable[Any]) -> Found:
    """Return one row per run key: of several runs of one key, the one created last.

    Args:
        runs: W&B runs, oldest first.

    Raises:
        UserError: A row is damaged.
    """
    rows: dict[str, tuple[Row, str]] = {}
    notes = []
    for run in runs:
        name = f"{run.name} ({run.id})"
        if ablation := run.config.get(ABLATION):
            notes.append(f"{name} is of the ablation {ablation}: no run of the tables.")
            continue
        if (text := run.summary.get(SUMMARY)) is None:
            notes.append(f"{name} is {run.state} and has no row.")
            continue
        try:
            row = row_from_text(text)
        except ValueError as error:
            raise UserError(f"the row of {name} is damaged ({error}): delete that run") from error
        if (key := str(row.key)) in rows:
            notes.append(f"{key} has run twice: {rows[key][1]} is left out, {run.id} is newer.")
        rows[key] = (row, run.id)
    return Found([row for _, (row, _) in sorted(rows.items())], notes)
