"""Which tables a run belongs to, for those who look for it in W&B."""

from repro.cells import CELLS_BY_PREFIX, QUANTISED, RunKey
from repro.recipes.spec import RunSpec
from repro.results.published import LOSS_PAIRS, RISE_CELL


def tables_of(key: RunKey) -> tuple[str, ...]:
    """Return the tables that have a number of the run, as ``results/`` names them.

    Simulated events, and cells beyond the paper, have tables of their own.

    >>> from repro.cells import find_cell
    >>> tables_of(RunKey(find_cell("stbp", "cifar100"), "binary", 0, "desk"))
    ('comparison', 'files', 'accuracy', 'control')
    >>> tables_of(RunKey(find_cell("surrogate", "cifar10_dvs_sim"), "fp32", 0, "desk"))[2:]
    ('simulated_accuracy', 'simulated_control')
    """
    found = ["comparison", "files"]
    if key.precision != "ann":
        found += ["accuracy", "control"]
    if key.is_conversion:
        found.append("conversion")
    claimed = {*LOSS_PAIRS, (RISE_CELL, "binary")}
    of_pairs = QUANTISED if key.precision == "fp32" else (key.precision,)
    if any((key.cell, precision) in claimed for precision in of_pairs):
        found.append("claims")
    prefix = next(name for name, cells in CELLS_BY_PREFIX.items() if key.cell in cells)
    return tuple(prefix + name for name in found)


def tags_of(spec: RunSpec, ablation: str | None) -> list[str]:
    """Return the tags of a W&B run: tier, precision, and where its number goes.

    That is a ``table:`` for each of `tables_of`; or ``ablation`` and its name; or ``own-recipe``
    for numbers that the project does not ship, which no table shows unmarked. Runs on simulated
    events have ``simulated``, too.
    """
    key = spec.key
    tags = [key.tier, key.precision, *["simulated"] * key.cell.simulated]
    if ablation is not None:
        return [*tags, "ablation", f"ablation:{ablation}"]
    if not spec.is_shipped:
        return [*tags, "own-recipe"]
    return [*tags, *(f"table:{name}" for name in tables_of(key))]
