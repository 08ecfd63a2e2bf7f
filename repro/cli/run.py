"""``run``: one run to its row."""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from tyro.conf import arg

from repro.cells import ALL_CELLS, METHODS, Precision, RunKey, Tier, find_cell
from repro.cli.parsing import DATA, ROWS, RUNS, TIER, WANDB, parse, parse_override
from repro.errors import MissingParentError, UserError

if TYPE_CHECKING:
    from repro.recipes.spec import RunSpec

DATASETS: Final = tuple(dict.fromkeys(cell.dataset for cell in ALL_CELLS))


@dataclass(frozen=True)
class RunArguments:
    """Train one run to its row; the same command again resumes it.

    Every field of the recipe can be changed after these arguments: see --help with a cell.

    Attributes:
        network: Only where a method has two networks on a data set.
        precision: fp32 pre-trains (or, for snn_calibration, converts the run called ann); binary,
            ternary and fp32_control, fine-tuned for the same number of epochs with FP32 weights,
            start from the fp32 run of the same seed.
        seed: 0 and up.
        skip_damaged: Leave damaged recordings of events out; the row says how many.
        wandb_project: Project of W&B.
        wandb_media: Log histograms of the latent weights of every quantised layer and epoch to W&B.
        devices: GPUs that train the run together, each on its share of every batch; without a GPU,
            processes. A conversion takes one.
        ablation: Name of an ablation: run and row go to <name>/<recipe hash> below --runs and
            --rows, away from the tables; the parent is still the one of the tables.
        chain: What a run of an ablation starts from: a run of the tables, or of the ablation.
        parent: model:NAME of `python -m repro models`, where the parent has not been trained here.
    """

    method: Annotated[str, arg(help=f"{', '.join(METHODS[:-1])} or {METHODS[-1]}.")]
    dataset: Annotated[str, arg(help=f"{', '.join(DATASETS)}; see `python -m repro cells`.")]
    network: str | None = None
    precision: Precision = "fp32"
    tier: Annotated[Tier, TIER] = "smoke"
    seed: int = 0
    runs: Annotated[Path, RUNS] = Path("runs")
    rows: Annotated[Path, ROWS] = Path("results/rows")
    data_dir: Annotated[Path | None, DATA] = None
    skip_damaged: bool = False
    wandb: Annotated[Literal["online", "offline", "off"], WANDB] = "off"
    wandb_project: str = "cbp-qsnn"
    wandb_media: bool = False
    devices: int = 1
    ablation: str | None = None
    chain: Literal["tables", "ablation"] = "tables"
    parent: str | None = None

    def __post_init__(self) -> None:
        """Refuse an ablation that is not a plain folder name, and fewer devices than one."""
        if self.devices < 1:
            raise UserError(f"devices is {self.devices}: give 1 or more")
        if self.ablation is not None and not re.fullmatch(r"[a-z0-9_-]{1,40}", self.ablation):
            raise UserError(
                f"ablation is {self.ablation!r}: give up to 40 small letters, digits, _ and -"
            )


# A run that W&B starts again gets all that it knows of it as arguments, not only the grid point.
OF_WANDB: Final = ("--_wandb", "--key", "--origin", "--recipe")


def command_run(arguments: Sequence[str]) -> int:
    """Train one run and say in words what came of it."""
    chosen, spec = parse_run(arguments)

    from repro.interrupts import ending_like_ctrl_c
    from repro.report.run_summary import run_in_words
    from repro.run.ddp import help_out, is_helper
    from repro.run.lifecycle import assist, run
    from repro.run.places import Places

    parent_runs, parent_rows = folders_of_parent(chosen, spec)
    places = Places(
        *folders(chosen, spec),
        chosen.data_dir,
        chosen.wandb,
        chosen.wandb_project,
        chosen.wandb_media,
        parent_runs=parent_runs,
        parent_rows=parent_rows,
        ablation=chosen.ablation,
        skip_damaged=chosen.skip_damaged,
        devices=chosen.devices,
    )
    if chosen.parent is not None:
        from repro.run.models import place_parent

        place_parent(chosen.parent, spec, places)
    if is_helper(chosen.devices):
        return help_out(lambda: assist(spec, places))
    if chosen.devices > 1 and sys.argv[1:] != ["run", *arguments]:
        raise UserError("several devices take a command line: python -m repro run")
    try:
        with ending_like_ctrl_c():
            print(run_in_words(run(spec, places)))
    except MissingParentError as error:
        parent = spec.key.parent()
        assert parent is not None
        made_by = parent_command(arguments, parent.precision)
        raise UserError(f"{spec.key} starts from {parent}, missing: {made_by}") from error
    return 0


def parent_command(words: Sequence[str], precision: Precision) -> str:
    """Return the command that makes the parent of the run that these words name.

    >>> words = ["--method", "stbp", "--precision", "binary", "--cbp.lr", "1", "--width=2"]
    >>> parent_command(words, "fp32")
    'python -m repro run --method stbp --width=2 --precision fp32'
    """
    kept: list[str] = []
    dropping = False
    apart = () if "--chain=ablation" in words else ("--ablation", "--chain")
    of_child = ("--precision", "--cbp.", "--no-cbp.", "--parent", *apart, *OF_WANDB)
    for word in words:
        if word.startswith("--"):
            dropping = word.startswith(of_child)
        if not dropping:
            kept.append(word)
    return shlex.join(["python", "-m", "repro", "run", *kept, "--precision", precision])


def parse_run(arguments: Sequence[str]) -> tuple[RunArguments, "RunSpec"]:
    """Return the parsed arguments of ``run``, and the run and its numbers."""
    from repro.recipes.spec import RunSpec

    chosen, overrides = parse_known(arguments)
    key = RunKey(
        find_cell(chosen.method, chosen.dataset, chosen.network),
        chosen.precision,
        chosen.seed,
        chosen.tier,
    )
    shipped = RunSpec.shipped(key).recipe
    recipe = parse_override(shipped, overrides, f"run of {key.cell}")
    if recipe.data != shipped.data:
        raise UserError(
            f"data is {recipe.data}: a run of {key.cell} at the {key.tier} tier reads "
            f"{shipped.data}, and no table mixes data sets"
        )
    return chosen, RunSpec(key, recipe)


def folders(chosen: RunArguments, spec: "RunSpec") -> tuple[Path, Path]:
    """Return the folder of run folders and that of rows; an ablation has them for each recipe."""
    if chosen.ablation is None:
        return chosen.runs, chosen.rows
    apart = Path(chosen.ablation, spec.hash)
    return chosen.runs / apart, chosen.rows / apart


def folders_of_parent(chosen: RunArguments, spec: "RunSpec") -> tuple[Path, Path]:
    """Return the folder of run folders and that of rows that the parent is in."""
    if chosen.chain == "ablation" and spec.parent is not None:
        return folders(chosen, spec.parent)
    return chosen.runs, chosen.rows


def parse_known(arguments: Sequence[str]) -> tuple[RunArguments, list[str]]:
    """Return the parsed arguments and the words that belong to the recipe."""
    words = [word for word in arguments if word.partition("=")[0] not in OF_WANDB]
    with_cell = {"--method", "--dataset"} <= {word.split("=")[0] for word in words}
    if with_cell:  # --help then shows the recipe
        asked = [word for word in words if word in ("-h", "--help")]
        words = [word for word in words if word not in asked]
    else:
        asked = []
    known: Any = parse(RunArguments, words, return_unknown_args=True)
    chosen, rest = known
    return chosen, [*rest, *asked]
