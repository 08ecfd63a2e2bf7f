"""Where a run reads and writes, and whether it is done."""

import dataclasses
import json
from pathlib import Path

from repro.cells import RunKey
from repro.errors import UserError
from repro.files import write_atomically
from repro.recipes.config import Config, read_config
from repro.recipes.spec import RunSpec
from repro.results.row import Row
from repro.results.rows import read_row
from repro.run_folder import RunFolder
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
        wandb_media: Whether it gets the histograms of latent weights.
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
    wandb_media: bool = False
    parent_runs: Path | None = None
    parent_rows: Path | None = None
    ablation: str | None = None
    skip_damaged: bool = False
    devices: int = 1
    deadline: float | None = None

    def of(self, key: RunKey) -> RunFolder:
        """Return the place of the run."""
        return RunFolder.of(key, self.runs, self.rows)

    def of_parent(self, key: RunKey) -> RunFolder:
        """Return the place of the run that others start from."""
        return RunFolder.of(key, self.parent_runs or self.runs, self.parent_rows or self.rows)


def finished_row(spec: RunSpec, place: RunFolder) -> Row | None:
    """Return the row if it and the weights are there and made by this recipe.

    A row alone, as in a fresh clone, does not count: its run is made again, weights and row.
    """
    if not place.is_complete:
        return None
    row = read_row(place.row)
    if row.recipe_hash != spec.hash:
        raise UserError(
            f"{place.row} was made by another recipe ({row.recipe_hash}, now {spec.hash}): "
            "delete it to run again, or choose another --rows and --runs"
        )
    return row


def write_config(place: RunFolder, spec: RunSpec) -> None:
    """Write ``config.json``, or check that the folder was started with the same numbers."""
    config = Config(str(spec.key), spec.values, spec.hash, not spec.key.is_conversion)
    text = json.dumps(vars(config), sort_keys=True, indent=1) + "\n"
    if not place.config.exists():
        write_atomically(place.config, text)
    elif place.config.read_bytes() != text.encode():
        read_config(place.config)  # says so where it is damaged
        raise UserError(
            f"{place.path} was started with another recipe (config.json): delete the folder to "
            "start anew, or choose another --runs"
        )
