"""Weights & Biases: a run tells it what it does, and neither fails nor waits for its sake.

A server that does not answer at the start, or refuses, makes the run log offline; one that dies
later costs at most ``FINISH_SECONDS`` at the end, and `repro.tracking.lineage` its part. Either way
what was logged is in the run folder, and ``wandb sync`` delivers it.
"""

import base64
import json
import os
import signal
import sys
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from datamodules.errors import DataError
from repro.cells import Precision
from repro.errors import UserError
from repro.recipes.spec import RunSpec
from repro.results.row import Row
from repro.results.rows import row_to_text
from repro.tracking.tags import tags_of

if TYPE_CHECKING:
    from pytorch_lightning.loggers import WandbLogger

Mode = Literal["online", "offline", "off"]
LATENT: Final = "latent/"  # before the name of a layer: its histograms
# False is what Lightning takes for none; wandb is imported when it is asked for.
Logger: TypeAlias = "WandbLogger | Literal[False]"
JOB_TYPES: Final[dict[Precision, str]] = {
    "ann": "pretrain",
    "fp32": "pretrain",
    "fp32_control": "control",
    "binary": "cbp",
    "ternary": "cbp",
}
# So long the server may take to answer at the start, and to take the rest at the end, in seconds.
START_SECONDS: Final = 30.0
FINISH_SECONDS: Final = 45.0
STOPPED_SECONDS: Final = 10.0  # so long it may take to say whether it stopped the run
STOPPED: Final = """query Stopped($project: String!, $entity: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { stopped shouldStop } }
}"""


def is_in_sweep(mode: Mode) -> bool:
    """Return whether an agent started this process, so that a W&B sweep waits for its run."""
    return mode != "off" and "WANDB_SWEEP_ID" in os.environ


@dataclass(frozen=True)
class LogPlace:
    """Where W&B keeps a run.

    Attributes:
        folder: Run folder; W&B writes into ``wandb`` there.
        mode: Whether W&B is told: ``online``, ``offline`` (synchronised later) or ``off``.
        project: Project of the W&B run.
        ablation: Name of the ablation that the run belongs to, if any.
    """

    folder: Path
    mode: Mode
    project: str
    ablation: str | None = None


@contextmanager
def wandb_logger(spec: RunSpec, place: LogPlace) -> Iterator[Logger]:
    """Yield Lightning's W&B logger when the user asked for W&B, else False.

    The W&B run ends with the block, with the exit code that the process will have. One that was
    interrupted is marked as preempted: a sweep gives it to the next agent, which resumes it. One
    that W&B itself ends (``early_terminate``, a click in its pages) is not.

    Raises:
        UserError: W&B does not start, without a login, say.
    """
    if place.mode == "off":
        yield False
        return
    logger = start(spec, place)
    try:
        yield logger
    except KeyboardInterrupt:
        if not (is_in_sweep(place.mode) and is_stopped(logger)):
            logger.experiment.mark_preempting()
        finish(logger, 130)
        raise
    except BaseException as error:
        finish(logger, 2 if isinstance(error, UserError | DataError | OSError) else 1)
        raise
    finish(logger, 0)


def start(spec: RunSpec, place: LogPlace) -> "WandbLogger":
    """Return a logger whose W&B run has begun: offline if the server does not take it."""
    import wandb

    try:
        return open_logger(spec, place)
    except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
        raise UserError(
            f"W&B does not start ({error}): run wandb login, or use --wandb offline"
        ) from error
    except wandb.errors.CommError as error:
        wandb.teardown()  # else the run's id, which a sweep gives, counts as in use
        logger = open_logger(spec, replace(place, mode="offline"))
        reason = " ".join(str(error).split())
        say(f"W&B does not take the run ({reason}): it logs offline; {sync_later(logger)}")
        return logger


def is_stopped(logger: "WandbLogger") -> bool:
    """Return whether the server requires the run to end; without an answer it does not.

    To the run, the signal of its agent is the same as that of a machine that is taken away.
    """
    import wandb

    run = logger.experiment
    if run.offline:
        return False
    try:
        login = base64.b64encode(f"api:{wandb.Api(timeout=int(STOPPED_SECONDS)).api_key}".encode())
        named = {"project": run.project, "entity": run.entity, "run": run.id}
        request = urllib.request.Request(
            f"{run.settings.base_url}/graphql",
            json.dumps({"query": STOPPED, "variables": named}).encode(),
            {"Content-Type": "application/json", "Authorization": f"Basic {login.decode()}"},
        )
        with urllib.request.urlopen(request, timeout=STOPPED_SECONDS) as answer:
            found = json.load(answer)["data"]["project"]["run"]
        return bool(found["stopped"] or found["shouldStop"])
    except Exception as error:  # wandb's own failures are plain Exceptions of a private module
        say(f"W&B does not say whether it stopped the run ({error}): it counts as preempted")
        return False


def open_logger(spec: RunSpec, place: LogPlace) -> "WandbLogger":
    """Return a logger whose W&B run has begun.

    The recipe stands under one name: W&B starts a preempted run again with the whole configuration
    as arguments, of which ``run`` leaves out ``--key`` and ``--recipe``.
    """
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    place.folder.mkdir(
        parents=True, exist_ok=True
    )  # W&B looks for the git commit from here upwards
    key, ablation = spec.key, {"ablation": place.ablation} if place.ablation else {}
    logger = WandbLogger(
        name=str(key),
        project=place.project,
        save_dir=place.folder,
        mode="offline" if place.mode == "offline" else None,  # else the user's WANDB_MODE holds
        group=str(key.cell),
        job_type=JOB_TYPES[key.precision],
        tags=tags_of(spec, place.ablation),
        config={"key": str(key), **ablation, "recipe": spec.values},
        settings=wandb.Settings(**patience(wandb.Settings.model_fields)),
    )
    logger.experiment.summary.update({"key": str(key)})
    return logger


def patience(known: Collection[str]) -> dict[str, Any]:
    """Return the settings that bound the waiting, where the user's environment says nothing.

    Args:
        known: Names of the settings that this version of wandb has; 0.26 cannot bound the end.

    >>> patience({"init_timeout"})
    {'init_timeout': 30.0}
    """
    bounds = {"init_timeout": START_SECONDS, "finish_timeout": FINISH_SECONDS}
    mine = {name: s for name, s in bounds.items() if f"WANDB_{name.upper()}" not in os.environ}
    # A stop by W&B is a request to end as the agent's: whichever is second is not heard.
    wanted = {
        **mine,
        "finish_timeout_raises": True,
        "stop_fn": lambda: signal.raise_signal(signal.SIGTERM),
    }
    return {name: value for name, value in wanted.items() if name in known}


def finish(logger: "WandbLogger", exit_code: int) -> None:
    """End the W&B run; do not wait for a server that takes nothing."""
    try:
        logger.experiment.finish(exit_code=exit_code)
    except TimeoutError:
        say(f"W&B did not take everything in time; {sync_later(logger)}")


def log_histograms(logger: Logger, counts: Mapping[str, Sequence[int]], edge: float) -> None:
    """Log histograms of latent weights, if there is a logger.

    Args:
        logger: Of the run.
        counts: Weights in each bin, by layer.
        edge: Bins are of one width, from ``-edge`` to ``edge``.
    """
    if logger:
        import numpy as np
        import wandb

        drawn: dict[str, Any] = {}
        for name, found in counts.items():
            edges = np.linspace(-edge, edge, len(found) + 1)
            drawn[LATENT + name] = wandb.Histogram(np_histogram=(np.array(found), edges))
        logger.log_metrics(drawn)


def log_outcome(logger: Logger, row: Row) -> None:
    """Put the numbers of the row into the summary of the W&B run."""
    if logger:
        logger.experiment.summary.update(
            {
                "test/accuracy": row.accuracy_file,
                "test/accuracy_last": row.accuracy_last,
                "memory/packed_bytes": row.file_bytes,
                "row": row_to_text(row),
            }
        )


def sync_later(logger: "WandbLogger") -> str:
    """Return in words how what was logged reaches the server later."""
    words = "wandb sync" if logger.experiment.offline else "wandb sync --include-online"
    return f"later: {words} {Path(logger.experiment.dir).parent}"


def say(line: str) -> None:
    """Print a line on standard error."""
    print(f"cbp-qsnn: {line}", file=sys.stderr, flush=True)
