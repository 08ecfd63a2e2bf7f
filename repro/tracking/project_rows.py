"""Rows of a W&B project, for tables of runs that ran elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from repro.errors import UserError
from repro.recipes.spec import shipped_hash
from repro.results.row import Row
from repro.results.rows import row_from_text
from repro.tracking.model_artifact import MODEL_OF

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

    Raises:
        UserError: See `runs_of`; or a row is damaged.
    """
    return choose(runs_of(project))


def runs_of(project: str) -> list[Any]:
    """Return the runs of a project, the oldest first.

    Args:
        project: ``<entity>/<project>``; the server is W&B's own setting (WANDB_BASE_URL).

    Raises:
        UserError: The name is not such a pair, or the server cannot be asked.
    """
    if project.count("/") != 1 or not all(project.split("/")):
        raise UserError(f"invalid W&B project {project!r}: name it <entity>/<project>")
    import wandb

    try:
        api = wandb.Api(timeout=TIMEOUT)  # not lazy: a page of whole runs in one answer
        return list(api.runs(project, order="+created_at", include_sweeps=False, lazy=False))
    except Exception as error:  # wandb's own failures are plain Exceptions of a private module
        said = " ".join(str(error).split())
        raise UserError(
            f"W&B project {project} cannot be read ({said}): check its name, and wandb login"
        ) from error


def choose(runs: Iterable[Any]) -> Found:
    """Return one row per run key of W&B runs, oldest first: of several of one key, the best one.

    A row of today's recipe goes before one of another, a clean tree before one with changes, and
    else the run created last before an older one.

    Raises:
        UserError: A row is damaged.
    """
    rows: dict[str, tuple[Row, str]] = {}
    notes = []
    for run in runs:
        if MODEL_OF in run.config:
            continue  # it only brought the model of another
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
        key, mine = str(row.key), (row, run.id)
        if key in rows:
            before = rows[key]
            better = preference(row) >= preference(before[0])
            kept, left = (mine, before) if better else (before, mine)
            (current, clean), (was_current, was_clean) = preference(kept[0]), preference(left[0])
            why = "of a tree without changes" if clean != was_clean else "newer"
            if current != was_current:
                why = "of today's recipe"
            notes.append(f"{key} has run twice: {left[1]} is left out, {kept[1]} is {why}.")
            mine = kept
        rows[key] = mine
    return Found([row for _, (row, _) in sorted(rows.items())], notes)


def preference(row: Row) -> tuple[bool, bool]:
    """Return what makes a row better than another of its key: today's recipe, a clean tree."""
    return shipped_hash(row.key) == row.recipe_hash, not row.git_dirty
