"""``config.json`` of a run folder: what the run was started with."""

from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from repro.files import checksum
from repro.schema import STRICT, read


@dataclass(frozen=True, config=STRICT)
class Config:
    """What a run was started with.

    Attributes:
        key: Name of the run.
        recipe: The numbers that it uses, JSON values only.
        recipe_hash: Hash of these.
        trained: Whether it trains: a conversion does not.

    Raises:
        ValueError: The hash is not that of the recipe.
    """

    key: str
    recipe: dict[str, Any]
    recipe_hash: str
    trained: bool = True

    def __post_init__(self) -> None:
        """Refuse a recipe that was changed."""
        if checksum(self.recipe)[:16] != self.recipe_hash:
            raise ValueError(f"recipe_hash is {self.recipe_hash}, which is not that of the recipe")


def read_config(path: Path) -> Config:
    """Return what the run was started with.

    Raises:
        UserError: The file is missing or damaged.
    """
    return read(path, Config, "delete it; the command of that run writes it again")
