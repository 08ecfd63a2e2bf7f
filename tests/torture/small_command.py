"""The command line with a smoke recipe of seconds, and ``pack``, for `test_kills`."""

import signal
from dataclasses import replace
from pathlib import Path


def command_pack(words: list[str]) -> int:
    """Read a packed file and write it again."""
    from repro.packing import pack, unpack

    state, levels = unpack(Path(words[0]))
    pack(Path(words[1]), state, levels)
    return 0


def main() -> int:
    """Change the recipe, and start as ``python -m repro`` does."""
    from repro.__main__ import start
    from repro.cells import find_cell
    from repro.cli.dispatch import COMMANDS
    from repro.recipes.shipped import RECIPES

    COMMANDS["pack"] = command_pack  # of the library alone
    small = find_cell("stbp", "cifar10"), "smoke"
    recipe = RECIPES[small]
    RECIPES[small] = replace(
        recipe,
        **{"width": 1 / 32, "time_steps": 2, "epochs": 3, "cbp": replace(recipe.cbp, epochs=3)},
        **{"train_images": 200, "val_images": 50, "test_images": 100},
    )
    return start()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise SystemExit(main())
