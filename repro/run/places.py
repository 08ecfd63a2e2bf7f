"""Where a run reads and writes, and whether it is done."""

import dataclasses
import json
from pathlib import Path

from repro.cells import RunKey
from repro.errors import UserError
from repro.files import write_atomically
from repro.recipes.fields import Recipe
from repro.recipes.spec import as_dict, recipe_hash
from repro.results.row import Row
from repro.results.rows import read_row
from repro.tracking.logger import Mode


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a run reads and writes.

    Attributes:
        runs: Folder of the run folders.
        rows: Folder of the rows.
        data_dir: Data sets; None for CBP_DATA, else ``data``.
        wandb: Whether W&B is told: ``online``, ``offline`` (synchronised later) or ``off``.
        wandb_project: Project of the W&B run.
        parent_runs: Folder of the parent's run folder; None for ``runs``.
        parent_rows: Folder of the parent's row; None for ``rows``.
        ablation: Name of the ablation that the run belongs to, for W&B, where a run's name does not
            tell; None for a run of the tables.
        skip_damaged: Whether damaged recordings are left out.
        devices: GPUs that train it together, or processes where there is no GPU.
        deadline: When the time for the run is up, by ``time.monotonic``, s; None for never.
    """

    runs: Path = Path("runs")
    rows: Path = Path("results/rows")
    data_dir: Path | None = None
    wandb: Mode = "off"
    wandb_project: str = "cbp-qsnn"
    parent_runs: Path | None = None
    parent_rows: Path | None = None
    ablation: str | None = None
    skip_damaged: bool = False
    devices: int = 1
    deadline: float | None = None


def finished_row(key: RunKey, recipe: Recipe, places: Places) -> Row | None:
    """Return the row if it and the weights are there and made by this recipe.

    A row alone, as in a fresh clone, does not count: its run is made again, weights and row.
    """
    path = places.rows / f"{key}.json"
    if not path.exists() or not (places.runs / str(key) / "model.safetensors").exists():
        return None
    row = read_row(path)
    if row.recipe_hash != (now := recipe_hash(recipe, key.precision)):
        raise UserError(
            f"{path} was made by another recipe ({row.recipe_hash}, now {now}): "
            "delete it to run again, or choose another --rows and --runs"
        )
    return row


def parent_places(places: Places) -> tuple[Path, Path]:
    """Return the folders of the parent's run folder and of its row."""
    return places.parent_runs or places.runs, places.parent_rows or places.rows


def write_config(folder: Path, key: RunKey, recipe: Recipe) -> None:
    """Write ``config.json``, or check that the folder was started with the same numbers."""
    path = folder / "config.json"
    config = {
        "key": str(key),
        "recipe": as_dict(recipe, key.precision),
        "recipe_hash": recipe_hash(recipe, key.precision),
        "trained": not key.is_conversion,
    }
    text = json.dumps(config, sort_keys=True, indent=1) + "\n"
    if not path.exists():
        write_atomically(path, text)
    elif path.read_text("utf-8") != text:
        raise UserError(
            f"{folder} was started with another recipe (config.json): delete the folder to start "
            "anew, or choose another --runs"
        )
