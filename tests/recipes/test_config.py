"""``config.json`` is what the run was started with, or it is refused."""

import json
from pathlib import Path

import pytest

from repro.errors import UserError
from repro.files import checksum
from repro.recipes.config import Config, read_config

RECIPE = {"lr": 0.1, "cbp": {"epochs": 2}}


def write(folder: Path, **changes: object) -> Path:
    fields = {"key": "a", "recipe": RECIPE, "recipe_hash": checksum(RECIPE)[:16], "trained": True}
    path = folder / "config.json"
    path.write_text(json.dumps({k: v for k, v in {**fields, **changes}.items() if v is not None}))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_config(write(tmp_path)) == Config("a", RECIPE, checksum(RECIPE)[:16])
    assert read_config(write(tmp_path, trained=None)).trained  # an older one does not say it


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": None}, "missing fields: key"),
        ({"key": 1}, "key is 1"),
        ({"recipe": []}, "recipe is "),
        ({"recipe": {"lr": 0.2}}, "recipe_hash is .*, which is not that of the recipe"),
        ({"trained": "no"}, "trained is 'no'"),
        ({"colour": "red"}, "unknown fields: colour"),
    ],
)
def test_what_was_changed_is_one_line(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"config\.json: {said}.*: delete it"):
        read_config(write(tmp_path, **changes))
