"""Command line: ``python -m repro`` and a command.

Commands: run | sweep | reproduce | campaign | tables | report | export | inspect | infer |
costs | nir | quantise | simulate | cells.

Dispatch only; torch is imported by the commands that use it.
"""

import contextlib
import io
import math
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import tyro

from datamodules.errors import DataError
from repro.cells import CELLS, SIMULATED, Precision, RunKey, Tier, cell_named, find_cell
from repro.errors import MissingParentError, UserError
from repro.quantise_arguments import QuantiseArguments

if TYPE_CHECKING:
    from repro.campaign import Campaign
    from repro.recipe_fields import Recipe
    from repro.rows import Row
    from repro.sweep import Engine, Run

T = TypeVar("T")
# A run that W&B starts again gets all that it knows of it as arguments, not only the grid point.
OF_WANDB: Final = ("--_wandb", "--key", "--origin", "--recipe")


@dataclass(frozen=True)
class RunArguments:
    """Train one run to its row; the same command again resumes it.

    Every field of the recipe can be changed after these arguments: see --help with a cell.

    Attributes:
        method: tssl_bp, stbp, surrogate or snn_calibration.
        dataset: cifar10, cifar100, dvs128_gesture, cifar10_dvs, imagenet, or simulated
            dvs128_gesture_sim or cifar10_dvs_sim.
        network: Only where a method has two networks on a data set.
        precision: fp32 pre-trains (or, for snn_calibration, converts the run called ann); binary,
            ternary and fp32_control, which trains on as long with FP32 weights, start from the fp32
            run of the same seed.
        tier: paper as published, paper_short with its schedule shortened, desk in minutes on two
            cores, smoke in seconds.
        seed: 0 and up.
        runs: Folder of run folders.
        rows: Folder of rows.
        data_dir: Data sets; by default the variable CBP_DATA, else data.
        skip_damaged: Leave damaged recordings of events out; the row says how many.
        wandb: Tell Weights & Biases: online, offline (synchronise later) or off.
        wandb_project: Project there.
        devices: GPUs that train the run together, each on its share of every batch; without a GPU,
            processes. A conversion takes one.
        ablation: Name of an ablation: run and row go to <name>/<recipe hash> below --runs and
            --rows, away from the tables; the parent is still the one of the tables.
    """

    method: str
    dataset: str
    network: str | None = None
    precision: Precision = "fp32"
    tier: Tier = "smoke"
    seed: int = 0
    runs: Path = Path("runs")
    rows: Path = Path("results/rows")
    data_dir: Path | None = None
    skip_damaged: bool = False
    wandb: Literal["online", "offline", "off"] = "off"
    wandb_project: str = "cbp-qsnn"
    devices: int = 1
    ablation: str | None = None

    def __post_init__(self) -> None:
        """Refuse an ablation that is no plain folder name, and no device."""
        if self.devices < 1:
            raise UserError(f"devices is {self.devices}: give 1 or more")
        if self.ablation is not None and not re.fullmatch(r"[a-z0-9_-]{1,40}", self.ablation):
            raise UserError(
                f"ablation is {self.ablation!r}: give up to 40 small letters, digits, _ and -"
            )


@dataclass(frozen=True)
class SweepArguments:
    """Run W&B sweep files without an account, on this machine or on a Ray cluster.

    Runs that are there are left out, parents come before children. Arguments that are given replace
    those of the files.

    Attributes:
        files: Sweep files, for example sweeps/12_fp32_stbp.yaml.
        jobs: Runs at a time on this machine; the cores are divided among them.
        engine: local for this machine, ray for a Ray cluster that is there (docs/clusters.md).
        address: host:port of the Ray cluster; by default the variable RAY_ADDRESS, else the cluster
            that this machine belongs to.
        cpus_per_run: Cores that a run takes on the Ray cluster.
        gpus_per_run: GPUs that a run takes there; with 0.5 two runs share one.
        dry_run: Print the commands of the runs that are not there yet, start nothing.
        tier: paper as published, paper_short with its schedule shortened, desk in minutes on two
            cores, smoke in seconds.
        runs: Folder of run folders.
        rows: Folder of rows.
        data_dir: Data sets; by default the variable CBP_DATA, else data.
        wandb: Tell Weights & Biases: online, offline (synchronise later) or off.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    jobs: int = 1
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    cpus_per_run: float = 1.0
    gpus_per_run: float = 0.0
    dry_run: bool = False
    tier: Tier | None = None
    runs: Path | None = None
    rows: Path | None = None
    data_dir: Path | None = None
    wandb: Literal["online", "offline", "off"] = "off"

    def __post_init__(self) -> None:
        """Refuse no files, no jobs, and what the engine would not look at."""
        if not self.files:
            raise UserError("no sweep file: give one, or more")
        if self.jobs < 1:
            raise UserError(f"jobs is {self.jobs}: give 1 or more")
        if not (0 < self.cpus_per_run < math.inf and 0 <= self.gpus_per_run < math.inf):
            raise UserError(
                f"a run takes {self.cpus_per_run} CPUs and {self.gpus_per_run} GPUs: give more "
                "than 0 CPUs and no fewer than 0 GPUs"
            )
        of_ray = (self.address, self.cpus_per_run, self.gpus_per_run) != (None, 1, 0)
        if self.engine == "local" and of_ray:
            raise UserError("--address, --cpus-per-run and --gpus-per-run go with --engine ray")
        if self.engine == "ray" and self.jobs != 1:
            raise UserError("--jobs goes with --engine local: Ray fills its nodes")

    def settings(self) -> dict[str, str]:
        """Return the arguments of ``run`` that replace those of the files."""
        names = ("tier", "runs", "rows", "data_dir", "wandb")
        given = {name.replace("_", "-"): getattr(self, name) for name in names}
        return {name: str(value) for name, value in given.items() if value is not None}

    def make_engine(self) -> "Engine":
        """Return what makes the runs."""
        if self.engine == "ray":
            from repro.ray_engine import RayEngine

            return RayEngine(self.address, self.cpus_per_run, self.gpus_per_run)
        from repro.local_engine import LocalEngine

        return LocalEngine(self.jobs)


@dataclass(frozen=True)
class ReproduceArguments:
    """Run every cell that exists at a tier, parents before children, then write the tables.

    A cell whose data are not to be had is left out and named at the end; the exit code is then 1.

    Attributes:
        tier: paper as published, paper_short with its schedule shortened, desk in minutes on two
            cores, smoke in seconds.
        seeds: Seeds of every cell.
        runs: Folder of run folders.
        rows: Folder of rows.
        results: Folder of the tables.
        data_dir: Data sets; by default the variable CBP_DATA, else data.
    """

    tier: Tier = "smoke"
    seeds: tuple[int, ...] = (0,)
    runs: Path = Path("runs")
    rows: Path = Path("results/rows")
    results: Path = Path("results")
    data_dir: Path | None = None


@dataclass(frozen=True)
class CampaignArguments:
    """Run a whole tier in slices: each call goes on with the most valuable unfinished run.

    Attributes:
        time_budget: Time of this call, for example 9m or 1h30m; by default it ends with the table.
        tier: Tier; the paper's by default.
        seeds: Seeds; the first one of every cell comes before the second one of any.
        cells: Cells in order of their value, for example snn_calibration/cifar100; by default the
            five on CIFAR, the headline first.
        out: Pack what must travel into this folder, in files of at most 16 MiB.
        limit: MiB of all packed files together. Rows, metrics and packed models come first; FP32
            models and the state of the unfinished run travel if they fit.
        take: Before that, take over what an earlier call packed there.
        kit: Folder that --prepare filled: restore the data from it, and learn the commit.
        prepare: Fill that folder for a machine without network and git, and do nothing else.
        plan: Print what each run that is left will cost on this device, and do nothing else.
        runs: Folder of run folders.
        rows: Folder of rows.
        data_dir: Data sets; by default the variable CBP_DATA, else data.
    """

    time_budget: str | None = None
    tier: Tier = "paper"
    seeds: tuple[int, ...] = (0, 1, 2)
    cells: tuple[str, ...] = ()
    out: Path | None = None
    limit: int = 60
    take: Path | None = None
    kit: Path | None = None
    prepare: Path | None = None
    plan: bool = False
    runs: Path = Path("runs")
    rows: Path = Path("results/rows")
    data_dir: Path | None = None


@dataclass(frozen=True)
class TablesArguments:
    """Regenerate tables and figures from the rows and the published numbers.

    Attributes:
        source: Where the rows are: ``rows``, the folder of that argument, or
            ``wandb:<entity>/<project>``, the runs of a W&B project.
        rows: Folder of rows.
        results: Folder of the tables; holds paper.csv.
    """

    source: Annotated[str, tyro.conf.arg(name="from")] = "rows"
    rows: Path = Path("results/rows")
    results: Path = Path("results")

    def __post_init__(self) -> None:
        """Refuse a source of another kind."""
        if self.source != "rows" and not self.source.startswith("wandb:"):
            raise UserError(f"from is {self.source!r}: give rows or wandb:<entity>/<project>")


@dataclass(frozen=True)
class ReportArguments(TablesArguments):
    """Write one HTML page of tables, figures and all runs; it needs no network.

    Attributes:
        source: As in tables.
        rows: Folder of rows.
        results: Folder that holds paper.csv; only read.
        runs: Folder of run folders, for curves and histograms of the runs that are here.
        out: File to write; by default report.html in that folder.
    """

    runs: Path = Path("runs")
    out: Path | None = None


@dataclass(frozen=True)
class ExportArguments:
    """Write a run's packed weight file: 1 bit a binary weight, 2 bits a ternary one.

    Attributes:
        run: Run folder, for example runs/stbp-cifar10-binary-desk-s0.
        out: File to write; by default the run's name in this folder.
        epoch: The epoch picked on validation, or the last one.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    epoch: Literal["selected", "last"] = "selected"


@dataclass(frozen=True)
class InspectArguments:
    """Print layers, levels, bytes and ratio of a packed weight file, its checksum verified.

    Attributes:
        file: A file written by export.
    """

    file: Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class InferArguments:
    """Evaluate a cell's packed file on the test images, weights packed until a layer needs them.

    Attributes:
        file: A file written by export, or the folder of a finished run.
        images: First test images used; 0 for as many as the recipe says.
        batch_size: Images at a time; by default the recipe's.
        data_dir: Data sets; by default the variable CBP_DATA, else data.
        arithmetic: float32 gives the unpacked network's outputs bit for bit; int8 counts spikes in
            integers, which is faster on most processors, and rounds otherwise.
        compare: Also run the unpacked network, and compare.
    """

    file: Annotated[Path, tyro.conf.Positional]
    images: int = 0
    batch_size: int | None = None
    data_dir: Path | None = None
    arithmetic: Literal["float32", "int8"] = "float32"
    compare: bool = False


@dataclass(frozen=True)
class CostsArguments:
    """Print spikes, synaptic operations, energy estimate and memory per inference of a packed file.

    Attributes:
        file: A file written by export, or the folder of a finished run.
        images: First test images measured.
        batch_size: Images at a time; by default the recipe's.
        data_dir: Data sets; by default the variable CBP_DATA, else data.
        out: Also write the numbers there: JSON, or CSV where the name ends so.
    """

    file: Annotated[Path, tyro.conf.Positional]
    images: int = 100
    batch_size: int | None = None
    data_dir: Path | None = None
    out: Path | None = None


@dataclass(frozen=True)
class NirArguments:
    """Write the network of a packed file as a NIR graph, for other frameworks and chips.

    Weights of quantised layers are whole numbers; scale, bits and levels stand in the metadata.

    Attributes:
        file: A file written by export, or the folder of a finished run, of stbp or tssl_bp.
        out: File to write; by default the run's name in this folder.
    """

    file: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None


@dataclass(frozen=True)
class SimulateArguments:
    """Make recordings of a simulated event camera, in the files that the real data sets have.

    Runs make what they need by themselves; this command shows it, or spreads it over processes.

    Attributes:
        name: cifar10_dvs_sim, digits_dvs_sim, dvs128_gesture_sim or gesture_smoke_sim.
        data_dir: Data sets; by default the variable CBP_DATA, else data. The recordings go to a
            folder of that name there; CIFAR-10 is read there.
        recordings_per_class: Of images; by default as many as the data set is described with.
        jobs: Processes.
        figure: PNG or SVG to draw: frames of every class over time.
    """

    name: Annotated[str, tyro.conf.Positional]
    data_dir: Path | None = None
    recordings_per_class: int | None = None
    jobs: int = 1
    figure: Path | None = None


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
    from repro import kit
    from repro.campaign import PRIORITY, Campaign
    from repro.commit import git_state
    from repro.deadline import seconds_in
    from repro.travel import unpack

    budget = seconds_in(chosen.time_budget) if chosen.time_budget else None
    cells = tuple(map(cell_named, chosen.cells)) or PRIORITY
    data_dir = find_folder(chosen.data_dir)
    if chosen.prepare is not None:
        print("\n".join(map(str, kit.prepare(chosen.prepare, cells, chosen.tier, data_dir))))
        return 0
    if chosen.kit is not None:
        kit.use(chosen.kit, cells, chosen.tier, data_dir)
    if chosen.take is not None:
        for name in unpack(chosen.take, chosen.runs, chosen.rows):
            print(f"taken over: {name}")
    commit = git_state(kit.ROOT)[0]
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


def parse(kind: type[T], arguments: Sequence[str], **options: Any) -> T:  # noqa: ANN401
    """Return the parsed arguments; a bad one is a UserError of one line.

    Args:
        kind: Dataclass of the command.
        arguments: Words after the command.
        options: Passed on to ``tyro.cli``.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed: T = tyro.cli(kind, args=list(arguments), **options)
            return parsed
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(plain_line(errors.getvalue())) from None


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


def parse_override(recipe: T, words: Sequence[str], title: str) -> T:
    """Return the recipe with the fields changed that the words name."""
    words = [plain_flag(word) for word in words]
    return parse(type(recipe), words, default=recipe, description=f"Recipe of the {title}.")


def plain_flag(word: str) -> str:
    """Return the flag that says the same as a truth value in W&B's words; other words unchanged.

    >>> [plain_flag(word) for word in ("--augment=True", "--cbp.window=False", "--lr=1")]
    ['--augment', '--cbp.no-window', '--lr=1']
    """
    if word.startswith("--") and word.endswith("=True"):
        return word.removesuffix("=True")
    if word.startswith("--") and word.endswith("=False"):
        parts = word[2:].removesuffix("=False").split(".")
        return "--" + ".".join([*parts[:-1], f"no-{parts[-1]}"])
    return word


def plain_line(box: str) -> str:
    """Return the text of tyro's box as one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    text = re.sub(r"[│╭╮╰╯─┌┐└┘|]+|-{5,}", " ", text)
    return " ".join(text.split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 with one line on standard error for what a person can mend."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Read when torch is loaded. Idle OpenMP threads that spin take the cores from those that work:
    # on a busy two-core machine a step took 6 times longer with them.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
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
