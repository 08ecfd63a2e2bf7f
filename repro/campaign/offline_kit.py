"""What a machine without network and git needs for a campaign: data in shards, and the commit."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final, get_args

from datamodules.cifar import Name
from repro.campaign.cifar_shards import restore, write_shards
from repro.cells import Cell, Tier
from repro.provenance import ROOT, STAMP, git_state, write_stamp
from repro.recipes.shipped import find_recipe

COMMIT: Final = "commit.json"


def datasets(cells: Iterable[Cell], tier: Tier) -> list[Name]:
    """Return the data sets of the cells that travel in shards, each once."""
    read = {find_recipe(cell, tier).data for cell in cells}
    return [name for name in get_args(Name) if name in read]


def prepare(folder: Path, cells: Iterable[Cell], tier: Tier, data_dir: Path) -> list[Path]:
    """Fill a folder with the shards of the cells' data and the commit; return what was written.

    Raises:
        UserError: The code has changes: no row could name it.
        DataError: The data are missing and not downloadable.
    """
    written = [write_stamp(ROOT, folder / COMMIT)]
    for name in datasets(cells, tier):
        written += write_shards(name, data_dir, folder / name)
    return written


def use(folder: Path, cells: Iterable[Cell], tier: Tier, data_dir: Path) -> None:
    """Restore the data from a folder that `prepare` filled; learn the commit where git is absent.

    Raises:
        DataError: A shard is absent or damaged.
    """
    if (folder / COMMIT).exists() and git_state(ROOT)[0] == "unknown":
        shutil.copyfile(folder / COMMIT, ROOT / STAMP)
    for name in datasets(cells, tier):
        if (folder / name).is_dir() and restore(name, folder / name, data_dir):
            print(f"{name}: restored from {folder / name}", flush=True)
