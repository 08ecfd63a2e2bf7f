"""What must not change by accident: recipe hashes of all shipped runs, bytes of generated files.

``python tests/pins.py`` writes ``pins.json`` anew, when a recipe or a row has changed on purpose.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Final

from paths import ROOT

FILE: Final = Path(__file__).with_name("pins.json")
GENERATED: Final = ("*.md", "*.csv", "*.tex", "*.svg")


def generated_files(results: Path) -> list[Path]:
    """What the rows make; the published numbers are read, not written."""
    found = {path for pattern in GENERATED for path in results.glob(pattern)}
    return sorted(found - {results / "paper.csv"})


def current() -> dict[str, dict[str, str]]:
    from repro.cells import RunKey
    from repro.recipes.shipped import RECIPES
    from repro.recipes.spec import RunSpec

    recipes = {
        f"{cell} {precision} {tier}": RunSpec(RunKey(cell, precision, 0, tier), recipe).hash
        for (cell, tier), recipe in RECIPES.items()
        for precision in cell.precisions
    }
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in generated_files(ROOT / "results")
    }
    return {"recipes": recipes, "results": files}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    FILE.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n")
