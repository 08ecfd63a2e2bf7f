"""``sweep``: the runs of W&B's sweep files, without an account."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from repro.cells import Tier
from repro.cli.parsing import DATA, ROWS, RUNS, TIER, WANDB, parse
from repro.cli.run import folders, folders_of_parent, parent_command, parse_run
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.sweep.plan import Run
    from repro.sweep.sweep import Engine


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
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    jobs: int = 1
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    cpus_per_run: float = 1.0
    gpus_per_run: float = 0.0
    dry_run: bool = False
    tier: Annotated[Tier | None, TIER] = None
    runs: Annotated[Path | None, RUNS] = None
    rows: Annotated[Path | None, ROWS] = None
    data_dir: Annotated[Path | None, DATA] = None
    wandb: Annotated[Literal["online", "offline", "off"], WANDB] = "off"

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
            from repro.sweep.ray_engine import RayEngine

            return RayEngine(self.address, self.cpus_per_run, self.gpus_per_run)
        from repro.sweep.local_engine import LocalEngine

        return LocalEngine(self.jobs)


def command_sweep(arguments: Sequence[str]) -> int:
    """Run sweep files on this machine or on a Ray cluster."""
    chosen = parse(SweepArguments, arguments)
    from repro.sweep.plan import plan
    from repro.sweep.sweep import run_sweep
    from repro.sweep.sweep_file import load

    runs = plan([load(path) for path in chosen.files], chosen.settings(), resolve)
    if not chosen.dry_run:
        return run_sweep(runs, chosen.make_engine())
    for run in runs:
        if not run.is_done:
            print(run.command)
    return 0


def resolve(words: Sequence[str]) -> "Run":
    """Return the run of a sweep that these words, ``run`` and its arguments, name."""
    from repro.run_folder import RunFolder
    from repro.sweep.plan import Run

    chosen, spec = parse_run(words[1:])
    runs, rows = folders(chosen, spec)
    name = str(runs.relative_to(chosen.runs) / str(spec.key))
    run = Run(name, tuple(words), spec.hash, RunFolder.of(spec.key, runs, rows))
    if (parent := spec.key.parent()) is None:
        return run
    place = RunFolder.of(parent, *folders_of_parent(chosen, spec))
    return replace(run, parent=place, parent_command=parent_command(words[1:], parent.precision))
