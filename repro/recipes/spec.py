"""One run and its numbers: everything that follows from a name and a recipe."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from repro.cells import Phase, Precision, RunKey
from repro.errors import UserError
from repro.files import checksum
from repro.recipes.fields import Pipeline, Recipe, SnnCalibrationRecipe
from repro.recipes.shipped import RECIPES, find_recipe

# Parts of a recipe that make no difference to a run, and so not to its name and hash either.
UNUSED: Final[dict[Precision, tuple[str, ...]]] = {
    "ann": ("cbp", "conversion", "time_steps", "spike_dropout", "alpha"),
    "fp32": ("cbp", "spike_dropout", "alpha"),
}
OF_WEIGHTS: Final = ("weight_steps", "weight_lr")
OF_QCFS: Final = ("qcfs_epochs", "qcfs_lr", "qcfs_levels")
OF_OTHER_PIPELINES: Final[dict[Pipeline, tuple[str, ...]]] = {
    "none": OF_WEIGHTS + OF_QCFS,
    "light": OF_WEIGHTS + OF_QCFS,
    "potential": OF_WEIGHTS + OF_QCFS,
    "weights": OF_QCFS,
    "qcfs": OF_WEIGHTS,
}
# Choices that came later, at what was before them: rows from then keep their hash.
LATER: Final[dict[str, Any]] = {
    "spike_dropout": 0.0,
    "alpha": 2.0,
    "matmul": "float32",
    "warmup_steps": 0,
    "initial_rate": 0.0,
    "zero_init_residual": False,
    "conversion": {"images": "first", "qcfs_levels": 0},
    "cbp": {
        "period": 0,
        "schedule": "constant",
        "warmup_steps": 0,
        "batch_size": 0,
        "scale": "layer",
    },
}


@dataclass(frozen=True)
class RunSpec:
    """A run and its numbers.

    Attributes:
        key: Name of the run.
        recipe: Its numbers, those of its cell's other precisions among them.
    """

    key: RunKey
    recipe: Recipe

    @classmethod
    def shipped(cls, key: RunKey) -> "RunSpec":
        """Return the run with the recipe that ships."""
        return cls(key, find_recipe(key.cell, key.tier))

    @property
    def values(self) -> dict[str, Any]:
        """The numbers that the run uses, as nested plain values for JSON."""
        fields = dataclasses.asdict(self.recipe)
        if isinstance(self.recipe, SnnCalibrationRecipe):
            for name in OF_OTHER_PIPELINES[self.recipe.conversion.pipeline]:
                fields["conversion"].pop(name)
            if self.recipe.conversion.qcfs_levels == self.recipe.time_steps:  # as 0 says
                fields["conversion"].pop("qcfs_levels", None)
        fields = _without(fields, LATER)
        left_out = UNUSED.get(self.key.precision, ())
        return {k: v for k, v in fields.items() if k not in left_out}

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of ``values`` in canonical JSON."""
        return checksum(self.values)[:16]

    @property
    def phase(self) -> Phase:
        """Phase of the module that the run ends with."""
        if self.key.has_cbp_phase:
            return "cbp"
        return "ann" if self.key.precision == "ann" else "pretrain"

    @property
    def epochs(self) -> int:
        """Epochs of the run's phase; a conversion trains none of them."""
        return self.recipe.cbp.epochs if self.key.has_cbp_phase else self.recipe.epochs

    @property
    def batch_size(self) -> int:
        """Images a step of the run's phase."""
        return (self.key.has_cbp_phase and self.recipe.cbp.batch_size) or self.recipe.batch_size

    @property
    def parent(self) -> "RunSpec | None":
        """The run that this one starts from, of the same recipe; None if it starts from nothing."""
        above = self.key.parent()
        return None if above is None else RunSpec(above, self.recipe)

    @property
    def is_shipped(self) -> bool:
        """Whether the numbers are those that ship."""
        return shipped_hash(self.key) == self.hash


def shipped_hash(key: RunKey) -> str | None:
    """Return the hash of the recipe that ships for a run; None where none does."""
    return RunSpec.shipped(key).hash if (key.cell, key.tier) in RECIPES else None


def _without(fields: Mapping[str, Any], unchanged: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields, and those inside them, but for those that have the value named."""
    return {
        name: _without(value, unchanged.get(name, {})) if isinstance(value, dict) else value
        for name, value in fields.items()
        if name not in unchanged or value != unchanged[name]
    }


def spec_of(key: RunKey, wanted: str, recorded: Mapping[str, Any], file: Path) -> RunSpec:
    """Return the run with the recipe of that hash: the one that ships, or the one recorded.

    Args:
        key: Name of the run.
        wanted: Hash of its recipe.
        recorded: Fields of a recipe that were recorded with the run; empty if none were.
        file: A file of the run, for the message.

    Raises:
        UserError: Neither has this hash.
    """
    if (key.cell, key.tier) in RECIPES:
        shipped = RunSpec.shipped(key)
        for found in (shipped, RunSpec(key, _with_recorded(shipped.recipe, recorded))):
            if found.hash == wanted:
                return found
    raise UserError(
        f"{file} was made by recipe {wanted} of {key}, which is not the one of this version: put "
        "the config.json of its run folder beside it (of a kept model, its row into results/rows), "
        "or use the version that wrote it"
    )


def _with_recorded(shipped: Recipe, fields: Mapping[str, Any]) -> Recipe:
    """Return the recipe with the fields recorded; itself if they do not fit."""
    try:
        before = {name: value for name, value in LATER.items() if hasattr(shipped, name)}
        recorded: Recipe = _with_fields(_with_fields(shipped, before), fields)
    except (ValueError, TypeError, AttributeError):
        return shipped
    return recorded


def _with_fields(fields_of: Any, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return a copy of a nested dataclass with the fields that a JSON object has."""
    changed = {}
    for name, value in values.items():
        old = getattr(fields_of, name)
        changed[name] = _with_fields(old, value) if dataclasses.is_dataclass(old) else value
    return replace(fields_of, **changed)
