"""Command line: ``python -m repro COMMAND --help`` says what a command takes.

Dispatch only; torch is imported by the commands that use it.
"""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from datamodules.errors import DataError
from repro.arguments import (
    CampaignArguments,
    CostsArguments,
    ExportArguments,
    InferArguments,
    InspectArguments,
    NirArguments,
    ReportArguments,
    ReproduceArguments,
    RunArguments,
    SimulateArguments,
    SweepArguments,
    TablesArguments,
)
from repro.cells import CELLS, SIMULATED, Precision, RunKey, Tier, cell_named, find_cell
from repro.errors import MissingParentError, UserError
from repro.parsing import parse, parse_override
from repro.quantise_arguments import QuantiseArguments

if TYPE_CHECKING:
    from repro.campaign import Campaign
    from repro.recipe_fields import Recipe
    from repro.rows import Row
    from repro.sweep import Run

T = TypeVar("T")
# A run that W&B starts again gets all that it knows of it as arguments, not only the grid point.
OF_WANDB: Final = ("--_wandb", "--key", "--origin", "--recipe")


def command_run(arguments: Sequence[str]) -> int:
    """Train one run and say in words what came of it."""
    chosen, key, recipe = parse_run(arguments)

    from repro.devices import help_out, is_helper
    from repro.run import Places, assist, run
    from repro.sweep import ending_like_ctrl_c
    from repro.words import run_in_words

    runs, rows = folders(chosen, key, recipe)
    places = Places(runs, rows, chosen.data_dir, chosen.wandb, chosen.wandb_project)
    places = replace(
        places,
        parent_runs=chosen.runs,
        parent_rows=chosen.rows,
        ablation=chosen.ablation,
        skip_damaged=chosen.skip_damaged,
        devices=chosen.devices,
    )
    if is_helper(chosen.devices):
        return help_out(lambda: assist(key, recipe, places))
    if chosen.devices > 1 and sys.argv[1:] != ["run", *arguments]:
        raise UserError("several devices take a command line: python -m repro run")
    try:
        with ending_like_ctrl_c():
            print(run_in_words(run(key, recipe, places)))
    except MissingParentError as error:
        parent = key.parent()
        assert parent is not None
        made_by = parent_command(arguments, parent.precision)
        raise UserError(f"{key} starts from {parent}, not there yet: {made_by}") from error
    return 0


def parent_command(words: Sequence[str], precision: Precision) -> str:
    """Return the command that makes the parent of the run that these words name.

    >>> words = ["--method", "stbp", "--precision", "binary", "--cbp.lr", "1", "--width=2"]
    >>> parent_command(words, "fp32")
    'python -m repro run --method stbp --width=2 --precision fp32'
    """
    kept: list[str] = []
    dropping = False
    for word in words:
        if word.startswith("--"):
            dropping = word.startswith(
                ("--precision", "--cbp.", "--no-cbp.", "--ablation", *OF_WANDB)
            )
        if not dropping:
            kept.append(word)
    return shlex.join(["python", "-m", "repro", "run", *kept, "--precision", precision])


def command_sweep(arguments: Sequence[str]) -> int:
    """Run sweep files on this machine or on a Ray cluster."""
    chosen = parse(SweepArguments, arguments)
    from repro.sweep import plan, run_sweep
    from repro.sweep_file import load

    runs = plan([load(path) for path in chosen.files], chosen.settings(), resolve)
    if not chosen.dry_run:
        return run_sweep(runs, chosen.make_engine())
    for run in runs:
        if not run.is_done:
            print(run.command)
    return 0


def resolve(words: Sequence[str]) -> "Run":
    """Return the run of a sweep that these words, ``run`` and its arguments, name."""
    from repro.recipes import recipe_hash
    from repro.sweep import Run

    chosen, key, recipe = parse_run(words[1:])
    runs, rows = folders(chosen, key, recipe)
    made = recipe_hash(recipe, key.precision)
    name = str(runs.relative_to(chosen.runs) / str(key))
    run = Run(name, tuple(words), made, runs / str(key), rows / f"{key}.json")
    if (parent := key.parent()) is None:
        return run
    places = (chosen.runs / str(parent), chosen.rows / f"{parent}.json")
    return replace(run, parent=places, parent_command=parent_command(words[1:], parent.precision))


def command_reproduce(arguments: Sequence[str]) -> int:
    """Run every cell of a tier, then the tables."""
    chosen = parse(ReproduceArguments, arguments)
    from repro.recipes import RECIPES, find_recipe
    from repro.report import require_published
    from repro.run import Places, run
    from repro.words import run_in_words

    require_published(chosen.results)
    places = Places(chosen.runs, chosen.rows, chosen.data_dir)
    ready = [cell for cell in (*CELLS, *SIMULATED) if (cell, chosen.tier) in RECIPES]
    keys = [RunKey(c, p, s, chosen.tier) for c in ready for s in chosen.seeds for p in c.precisions]
    without_data: dict[str, str] = {}  # cell -> what is missing
    for number, key in enumerate(keys, 1):
        print(f"[{number}/{len(keys)}] {key}", flush=True)
        if str(key.cell) in without_data:
            continue
        try:
            print(run_in_words(run(key, find_recipe(key.cell, key.tier), places)), flush=True)
        except DataError as error:  # the other cells may have theirs
            without_data[str(key.cell)] = str(error)
            print(f"not run: {error}", file=sys.stderr)
    write_tables(TablesArguments(rows=chosen.rows, results=chosen.results), chosen.tier)
    command_report([f"--{name}={getattr(chosen, name)}" for name in ("rows", "results", "runs")])
    for cell, missing in without_data.items():
        print(f"cbp-qsnn: {cell} was not run: {missing}", file=sys.stderr)
    return 1 if without_data else 0


def command_campaign(arguments: Sequence[str]) -> int:
    """Go on with the table for as long as there is time; pack what travels."""
    started = time.monotonic()
    chosen = parse(CampaignArguments, arguments)
    from datamodules.cifar import find_folder
    from repro.campaign import PRIORITY, Campaign
    from repro.commit import git_state
    from repro.deadline import seconds_in
    from repro.kit import ROOT, prepare, use
    from repro.travel import unpack

    budget = seconds_in(chosen.time_budget) if chosen.time_budget else None
    cells = tuple(map(cell_named, chosen.cells)) or PRIORITY
    data_dir = find_folder(chosen.data_dir)
    if chosen.prepare is not None:
        print("\n".join(map(str, prepare(chosen.prepare, cells, chosen.tier, data_dir))))
        return 0
    if chosen.kit is not None:
        use(chosen.kit, cells, chosen.tier, data_dir)
    if chosen.take is not None:
        for name in unpack(chosen.take, chosen.runs, chosen.rows):
            print(f"taken over: {name}")
    commit = git_state(ROOT)[0]
    campaign = Campaign(cells, chosen.tier, chosen.seeds, chosen.runs, chosen.rows, commit)
    if chosen.plan:
        return plan_campaign(campaign, data_dir)
    return go_on(campaign, data_dir, started, budget, chosen)


def plan_campaign(campaign: "Campaign", data_dir: Path) -> int:
    """Print what each run that is left will cost here."""
    from repro.estimate import plan
    from repro.recipes import find_recipe
    from repro.run import Places

    keys = [key for key in campaign.all_runs() if not campaign.has_row(key)]
    recipes = [find_recipe(key.cell, key.tier) for key in keys]
    width = shutil.get_terminal_size((100, 24)).columns
    print(plan(keys, recipes, Places(campaign.runs, campaign.rows, data_dir), width))
    return 0


def go_on(
    campaign: "Campaign",
    data_dir: Path,
    started: float,
    budget: float | None,
    chosen: CampaignArguments,
) -> int:
    """Make runs until shortly before the time is up, and pack what travels."""
    from repro.campaign import packed_in_words, reserve, run_slice, slice_in_words
    from repro.recipes import find_recipe
    from repro.run import Places, run
    from repro.sweep import ending_like_ctrl_c
    from repro.words import run_in_words

    places = Places(campaign.runs, campaign.rows, data_dir)

    def make(key: RunKey, deadline: float | None) -> None:
        row = run(key, find_recipe(key.cell, key.tier), replace(places, deadline=deadline))
        print(run_in_words(row), flush=True)

    deadline = None if budget is None else started + budget - reserve(budget)
    with ending_like_ctrl_c():
        found = run_slice(campaign, make, deadline)
    if chosen.out is not None:
        print(packed_in_words(campaign, found, chosen.out, chosen.limit))
    print(slice_in_words(campaign, found))
    return int(bool(found.failed or found.without_data))


def command_tables(arguments: Sequence[str]) -> int:
    """Regenerate all tables."""
    return write_tables(parse(TablesArguments, arguments), None)


def write_tables(chosen: TablesArguments, show: Tier | None) -> int:
    """Write the tables; print those of one tier, or the names of all files."""
    from repro.report import require_published, write_tables

    require_published(chosen.results)
    return write_tables(read_rows_of(chosen), chosen.results, show)


def read_rows_of(chosen: TablesArguments) -> "list[Row]":
    """Return the rows of the folder or of the W&B project that was named."""
    if chosen.source == "rows":
        from repro.rows import read_rows

        return read_rows(chosen.rows)
    from repro.wandb_rows import read_wandb_rows

    found = read_wandb_rows(chosen.source.removeprefix("wandb:"))
    for note in found.notes:
        print(note, file=sys.stderr)
    return found.rows


def command_report(arguments: Sequence[str]) -> int:
    """Write the page of the report and say where it is."""
    chosen = parse(ReportArguments, arguments)
    from repro.page.document import Sources, write_page
    from repro.published import read_published
    from repro.report import current_hashes, memory_of_cells

    published, rows = read_published(chosen.results / "paper.csv"), read_rows_of(chosen)
    sources = Sources(
        rows=rows,
        published=published,
        memory=memory_of_cells(),
        hashes=current_hashes(rows),
        results=chosen.results,
        runs=chosen.runs,
    )
    page = write_page(sources, chosen.out or chosen.runs / "report.html")
    print(f"Report: {page}, {page.stat().st_size / 1e6:.1f} MB")
    return 0


def command_export(arguments: Sequence[str]) -> int:
    """Write a packed file and print what is in it."""
    chosen = parse(ExportArguments, arguments)
    from repro.export import export
    from repro.packed_contents import describe

    out = chosen.out or Path(f"{chosen.run.resolve().name}.safetensors")
    print(describe(export(chosen.run, out, chosen.epoch)))
    return 0


def command_inspect(arguments: Sequence[str]) -> int:
    """Print what is in a packed file."""
    chosen = parse(InspectArguments, arguments)
    from repro.packed_contents import describe

    print(describe(chosen.file))
    return 0


def command_infer(arguments: Sequence[str]) -> int:
    """Evaluate a packed file and print what came of it."""
    chosen = parse(InferArguments, arguments)
    from repro.infer import infer_in_words
    from repro.packed_cell import open_cell

    cell = open_cell(chosen.file, chosen.images, chosen.batch_size, chosen.data_dir)
    print(infer_in_words(cell, chosen.arithmetic, chosen.compare))
    return 0


def command_costs(arguments: Sequence[str]) -> int:
    """Print what an inference costs; write it where asked to."""
    chosen = parse(CostsArguments, arguments)
    from repro.costs_file import costs_in_words, measure_cell, require_kind, write_costs
    from repro.packed_cell import open_cell

    require_kind(chosen.out)
    cell = open_cell(chosen.file, chosen.images, chosen.batch_size, chosen.data_dir)
    costs = measure_cell(cell)
    print(costs_in_words(costs, shutil.get_terminal_size().columns))
    if chosen.out is not None:
        write_costs(chosen.out, costs)
    return 0


def command_nir(arguments: Sequence[str]) -> int:
    """Write a NIR graph and say in words what is in it."""
    chosen = parse(NirArguments, arguments)
    from repro.nir_file import export_nir

    print(export_nir(chosen.file, chosen.out))
    return 0


def command_quantise(arguments: Sequence[str]) -> int:
    """Quantise a person's own network and say in words what came of it."""
    chosen = parse(QuantiseArguments, arguments)
    from repro.quantise import quantise
    from repro.run import quiet_lightning
    from repro.sweep import ending_like_ctrl_c

    quiet_lightning()
    with ending_like_ctrl_c():
        print(quantise(chosen, shutil.get_terminal_size((100, 24)).columns))
    return 0


def command_simulate(arguments: Sequence[str]) -> int:
    """Simulate a data set and say in words what came of it."""
    chosen = parse(SimulateArguments, arguments)
    from datamodules.simulation.simulate import simulate_in_words

    print(
        simulate_in_words(
            chosen.name,
            data_dir=chosen.data_dir,
            recordings_per_class=chosen.recordings_per_class,
            jobs=chosen.jobs,
            figure=chosen.figure,
        )
    )
    return 0


def command_cells(arguments: Sequence[str]) -> int:
    """List the nine cells, the simulated ones, and the tiers that can be run."""
    from repro.recipes import RECIPES

    for cell in (*CELLS, *SIMULATED):
        tiers = [tier for c, tier in RECIPES if c == cell]
        print(f"{cell!s:35} T {cell.time_steps:<3} {', '.join(tiers) or 'not yet'}")
    return 0


COMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "run": command_run,
    "sweep": command_sweep,
    "reproduce": command_reproduce,
    "campaign": command_campaign,
    "tables": command_tables,
    "report": command_report,
    "export": command_export,
    "inspect": command_inspect,
    "infer": command_infer,
    "costs": command_costs,
    "nir": command_nir,
    "quantise": command_quantise,
    "simulate": command_simulate,
    "cells": command_cells,
}


def parse_run(arguments: Sequence[str]) -> tuple[RunArguments, RunKey, "Recipe"]:
    """Return the parsed arguments of ``run``, the name of the run and its recipe."""
    from repro.recipes import find_recipe

    chosen, overrides = parse_known(arguments)
    key = RunKey(
        find_cell(chosen.method, chosen.dataset, chosen.network),
        chosen.precision,
        chosen.seed,
        chosen.tier,
    )
    shipped = find_recipe(key.cell, key.tier)
    recipe = parse_override(shipped, overrides, f"run of {key.cell}")
    if recipe.data != shipped.data:
        raise UserError(
            f"data is {recipe.data}: a run of {key.cell} at the {key.tier} tier reads "
            f"{shipped.data}, and no table mixes data sets"
        )
    return chosen, key, recipe


def folders(chosen: RunArguments, key: RunKey, recipe: "Recipe") -> tuple[Path, Path]:
    """Return the folder of run folders and that of rows; an ablation has them for each recipe."""
    if chosen.ablation is None:
        return chosen.runs, chosen.rows
    from repro.recipes import recipe_hash

    apart = Path(chosen.ablation, recipe_hash(recipe, key.precision))
    return chosen.runs / apart, chosen.rows / apart


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


def commands_in_words() -> str:
    """Return a line for every command."""
    lines = (f"  {name:10} {(run.__doc__ or '').splitlines()[0]}" for name, run in COMMANDS.items())
    head = "usage: python -m repro COMMAND [OPTIONS]; --help behind a command lists its options"
    return "\n".join([head, "", *lines])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 with one line on standard error for what a person can mend."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Read when torch is loaded. Idle OpenMP threads that spin take the cores from those that work:
    # on a busy two-core machine a step took 6 times longer with them.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not words or words[0] in ("-h", "--help"):
        print(commands_in_words())
        return 0
    try:
        if words[0] not in COMMANDS:
            raise UserError(f"unknown command {words[0]}: one of {', '.join(COMMANDS)}")
        return COMMANDS[words[0]](words[1:])
    except (UserError, DataError, OSError) as error:
        print(f"cbp-qsnn: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("cbp-qsnn: interrupted; the same command continues", file=sys.stderr)
        return 130
    return 2
