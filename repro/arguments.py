"""Arguments of the commands, checked; what a run needs beyond them is in its recipe."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from repro.cells import Precision, Tier
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.sweep import Engine


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
