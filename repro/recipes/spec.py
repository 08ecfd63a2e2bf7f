"""What a recipe says of one run: its values, its hash, its phase, its epochs."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from repro.cells import Phase, Precision, RunKey
from repro.errors import UserError
from repro.recipes.fields import Recipe
from repro.recipes.shipped import RECIPES, find_recipe


def phase_of(key: RunKey) -> Phase:
    """Return the phase of a run."""
    if key.has_cbp_phase:
        return "cbp"
    return "ann" if key.precision == "ann" else "pretrain"


def recipe_of(key: RunKey, wanted: str, file: Path) -> Recipe:
    """Return the recipe of that hash: the one that ships, or that of ``config.json`` beside.

    Raises:
        UserError: Neither has this hash.
    """
    shipped = find_recipe(key.cell, key.tier) if (key.cell, key.tier) in RECIPES else None
    if shipped is not None:
        if recipe_hash(shipped, key.precision) == wanted:
            return shipped
        recorded = _recorded(shipped, file.parent / "config.json")
        if recorded is not None and recipe_hash(recorded, key.precision) == wanted:
            return recorded
    raise UserError(
        f"{file} was made by recipe {wanted} of {key}, which is not the one of this version: put "
        "the config.json of its run folder beside it, or use the version that wrote it"
    )


def _recorded(shipped: Recipe, config: Path) -> Recipe | None:
    """Return the shipped recipe with the fields that a ``config.json`` has, None if it fits not."""
    try:
        fields = json.loads(config.read_text("utf-8"))["recipe"]
        recorded: Recipe = _with_fields(shipped, fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return recorded


def _with_fields(fields_of: Any, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return a copy of a nested dataclass with the fields that a JSON object has."""
    changed = {}
    for name, value in values.items():
        old = getattr(fields_of, name)
        changed[name] = _with_fields(old, value) if dataclasses.is_dataclass(old) else value
    return replace(fields_of, **changed)


# Parts of a recipe that make no difference to a run, and so not to its name and hash either.
UNUSED: Final[dict[Precision, tuple[str, ...]]] = {
    "ann": ("cbp", "conversion", "time_steps", "spike_dropout"),
    "fp32": ("cbp", "spike_dropout"),
}
# Choices that came later, at what was before them: rows from then keep their hash.
LATER: Final = {"spike_dropout": 0.0, "matmul": "float32"}
LATER_OF_CBP: Final = {"period": 0}


def as_dict(recipe: Recipe, precision: Precision) -> dict[str, object]:
    """Return the recipe as nested plain values, for JSON, without what the run does not use."""
    fields = dataclasses.asdict(recipe)
    if "conversion" in fields and fields["conversion"]["pipeline"] != "weights":
        fields["conversion"].pop("weight_steps")
        fields["conversion"].pop("weight_lr")
    fields["cbp"] = _without(fields["cbp"], LATER_OF_CBP)
    left_out = UNUSED.get(precision, ())
    return {k: v for k, v in _without(fields, LATER).items() if k not in left_out}


def _without(fields: Mapping[str, Any], unchanged: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields but for those that have the value named."""
    return {k: v for k, v in fields.items() if k not in unchanged or v != unchanged[k]}


def recipe_hash(recipe: Recipe, precision: Precision) -> str:
    """Return the first 16 hex digits of the SHA-256 of ``as_dict`` in canonical JSON."""
    text = json.dumps(as_dict(recipe, precision), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def epochs_of(key: RunKey, recipe: Recipe) -> int:
    """Return the epochs of the run's phase."""
    return recipe.cbp.epochs if key.has_cbp_phase else recipe.epochs
