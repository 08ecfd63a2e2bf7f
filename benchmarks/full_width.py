"""What the paper's own networks cost here, at full width, T and image size.

``python -m benchmarks.full_width`` measures a few real batches of every kind of run of the paper
tier's image cells, in float32 and with the CBP phase in spike-exact bfloat16, and prints what
``python -m repro campaign --plan`` does: seconds an image, an epoch and a run.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import environment
from repro.campaign.campaign import PRIORITY
from repro.campaign.estimate import Estimate, estimate
from repro.cells import Cell, RunKey, Tier, find_cell
from repro.errors import UserError
from repro.recipes.shipped import find_recipe
from repro.recipes.spec import RunSpec
from repro.run.places import Places

BF16: Final = "spikes_bf16"


def kinds(cell: Cell, tier: Tier) -> list[tuple[RunKey, str]]:
    """Return the kinds of runs of a cell that cost differently; ternary costs what binary does."""
    keys = [RunKey(cell, precision, 0, tier) for precision in cell.precisions[:-1]]
    return [*((key, "float32") for key in keys), (keys[-1], BF16)]


def measure(key: RunKey, arithmetic: str, data_dir: Path | None) -> Estimate:
    """Count and measure a kind of run."""
    recipe: Any = find_recipe(key.cell, key.tier)
    if arithmetic == BF16:
        recipe = replace(recipe, cbp=replace(recipe.cbp, arithmetic=BF16))
    return estimate(RunSpec(key, recipe), Places(data_dir=data_dir))


def as_dict(found: Estimate, arithmetic: str) -> dict[str, object]:
    """Return an estimate for JSON."""
    return {
        "cell": str(found.key.cell),
        "precision": found.key.precision,
        "arithmetic": arithmetic,
        "GFLOP an image": round(found.flop / 1e9, 2),
        "training, s an image": round(found.train_seconds, 5),
        "evaluation, s an image": round(found.evaluation_seconds, 5),
        "epochs": found.epochs,
        "s an epoch": round(found.epoch_seconds),
        "hours": round(found.seconds / 3600, 1),
    }


def main() -> int:
    """Measure, print a line each, and write all if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", nargs="*", default=[str(cell) for cell in PRIORITY])
    parser.add_argument("--tier", default="paper")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    chosen = parser.parse_args()
    found = []
    try:
        for name in chosen.cells:
            for key, arithmetic in kinds(find_cell(*name.split("/")), chosen.tier):
                found.append(as_dict(measure(key, arithmetic, chosen.data_dir), arithmetic))
                print(json.dumps(found[-1]), flush=True)
    except UserError as error:
        print(f"full_width: {error}", file=sys.stderr)
        return 2
    result = {"tier": chosen.tier, "environment": environment(), "full width": found}
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
