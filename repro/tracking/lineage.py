"""Lineage in W&B: the model of every run is an artifact, and a run names the parent that it used.

An artifact has the name of its run and holds the weight file and the row. Its aliases tell the
recipe, by which a machine without the parent asks for it, and the file, by which one that has it
says which version it used. Nothing here makes a run fail or wait long for the server.
"""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from repro import packing
from repro.cells import RunKey
from repro.errors import UserError
from repro.recipes.spec import RunSpec
from repro.results.row import Row
from repro.results.rows import row_from_text, row_to_text, write_row
from repro.run_folder import RunFolder
from repro.tracking.logger import Logger, say
from repro.tracking.model_artifact import FILE, ROW, TYPE, Model, record

T = TypeVar("T")
ORIGIN: Final = ("git_sha", "git_dirty", "data_checksum", "parent", "parent_file_sha256")
# In seconds: one answer, and the transfer of a model while the server answers. The end of a run
# without one takes three answers, `RECORD_SECONDS` and `FINISH_SECONDS`: less than two minutes.
ANSWER_SECONDS: Final = 15.0
TRANSFER_SECONDS: Final = 1800.0


class NoAnswerError(Exception):
    """W&B did not do what it was asked for; the message says why."""


def in_time(work: Callable[[], T], seconds: float) -> T:
    """Return what ``work`` returns.

    Raises:
        NoAnswerError: It raised, or was not done after so many seconds; then it is left behind.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def note() -> None:
        try:
            results.append(work())
        except Exception as error:  # wandb's own failures are plain Exceptions of a private module
            errors.append(error)

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise NoAnswerError(" ".join(str(errors[0]).split())) from errors[0]
    if not results:
        raise NoAnswerError(f"no answer within {seconds:g} s")
    return results[0]


def artifact_name(key: RunKey, ablation: str | None, recipe_hash: str) -> str:
    """Return the name of a run's artifact; an ablation's tells the recipe, as its folder does."""
    return str(key) if ablation is None else f"{key}-{ablation}-{recipe_hash}"


def recipe_alias(recipe_hash: str) -> str:
    """Return the alias of the newest version that this recipe made."""
    return f"recipe-{recipe_hash}"


def file_alias(sha256: str) -> str:
    """Return the alias of the version with this weight file."""
    return f"sha256-{sha256[:16]}"


def log_origin(logger: Logger, origin: Mapping[str, Any]) -> None:
    """Put into the W&B run's configuration where its numbers come from, and link the parent.

    Without the server, or where it has no such artifact, the configuration alone names the parent.

    Args:
        logger: Of the run.
        origin: The fields `ORIGIN` of its row, as far as they are known.
    """
    if not logger:
        return
    run = logger.experiment
    run.config.update({"origin": dict(origin)}, allow_val_change=True)
    parent, sha256 = origin["parent"], origin["parent_file_sha256"]
    if parent is None or run.offline:
        return
    name = f"{parent}:{file_alias(sha256)}"
    try:
        in_time(lambda: run.use_artifact(name, type=TYPE), ANSWER_SECONDS)
    except NoAnswerError as error:
        say(f"W&B does not link the parent {name} ({error}): the run's configuration names it")


def log_model(logger: Logger, row: Row, file: Path, ablation: str | None) -> None:
    """Log the weight file and the row as an artifact; offline, ``wandb sync`` delivers it.

    Online this waits for a large file while the server answers. W&B keeps no copy of what
    an online run cannot deliver, so an offline run then holds the artifact.

    Args:
        logger: Of the run.
        row: Its row.
        file: Its weight file. It is not copied: it must stay until it is delivered.
        ablation: Name of the ablation that the run belongs to, if any.
    """
    if not logger:
        return
    run = logger.experiment
    model = model_of(row, file, ablation)
    if run.offline:
        run.log_artifact(model.artifact(), aliases=model.aliases)
        return
    artifact = model.artifact()
    try:
        in_time(lambda: run.log_artifact(artifact, aliases=model.aliases), ANSWER_SECONDS)
        wait_while_answered(artifact)
    except NoAnswerError as error:
        said = f"W&B did not take the model as an artifact ({error})"
        fields = {name: getattr(run, name) for name in ("project", "entity", "name", "group", "id")}
        folder = str(Path(run.dir).parents[2])  # <folder>/wandb/run-<id>/files
        try:
            say(f"{said}; later: wandb sync {record(model, {**fields, 'folder': folder})}")
        except OSError as problem:
            say(f"{said}, and it is not recorded for later ({problem}): it is in {file}")


def model_of(row: Row, file: Path, ablation: str | None) -> Model:
    """Return what the artifact of a run is made of; arguments as of `log_model`."""
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    metadata = {
        **{name: getattr(row, name) for name in ORIGIN},
        "sha256": sha256,
        "bytes": len(content),
        "recipe_hash": row.recipe_hash,
        "test_accuracy": row.accuracy_file,
    }
    name = artifact_name(row.key, ablation, row.recipe_hash)
    aliases = ["latest", recipe_alias(row.recipe_hash), file_alias(sha256)]
    return Model(name, aliases, metadata, str(file.resolve()), row_to_text(row))


def wait_while_answered(artifact: Any) -> None:  # noqa: ANN401
    """Wait until an artifact is on the server.

    Raises:
        NoAnswerError: The server refused it, or fell silent.
    """
    import wandb

    start = time.monotonic()
    while time.monotonic() < start + TRANSFER_SECONDS:
        try:
            artifact.wait(timeout=int(ANSWER_SECONDS))
            return
        except wandb.sdk.artifacts.exceptions.WaitTimeoutError:
            in_time(lambda: wandb.Api(timeout=int(ANSWER_SECONDS)).viewer, ANSWER_SECONDS)
        except Exception as error:  # as in `in_time`
            raise NoAnswerError(" ".join(str(error).split())) from error
    raise NoAnswerError(f"not done within {TRANSFER_SECONDS:g} s")


def fetch_parent(logger: Logger, parent: RunSpec, place: RunFolder) -> None:
    """Put the parent's weight file and row where a run of this machine would have left them.

    Nothing happens where they are, where a run of the parent was begun here, or where W&B does not
    have it, which is said.

    Args:
        logger: Of the child.
        parent: The newest version that its recipe made is taken.
        place: Where its files belong.
    """
    if not logger or logger.experiment.offline or place.is_complete or place.config.exists():
        return
    name, run = f"{parent.key}:{recipe_alias(parent.hash)}", logger.experiment
    runs = place.path.parent
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".parent-", dir=runs) as folder:
        try:
            found = in_time(lambda: run.use_artifact(name, type=TYPE), ANSWER_SECONDS)
            in_time(lambda: download(found, folder), TRANSFER_SECONDS)
        except NoAnswerError as error:
            say(f"W&B has no parent {name} to start from ({error})")
            return
        row = checked(Path(folder), parent, str(found.metadata.get("sha256")))
        place.path.mkdir(parents=True, exist_ok=True)
        os.replace(Path(folder, FILE), place.model)
    write_row(row, place.row.parent)
    say(f"parent taken from W&B: {name} ({row.file_bytes:,} bytes)")


def download(artifact: Any, folder: str) -> None:  # noqa: ANN401
    """Fetch the two files of an artifact, and nothing else that it may hold."""
    for name in (FILE, ROW):
        artifact.get_entry(name).download(root=folder, skip_cache=True)


def checked(folder: Path, parent: RunSpec, sha256: str) -> Row:
    """Return the row of downloaded files that are whole and belong to each other.

    Raises:
        UserError: They do not.
    """
    file = folder / FILE
    try:
        row = row_from_text((folder / ROW).read_text("utf-8"))
        content, named = file.read_bytes(), packing.metadata(file)
        pairs = {
            "sha256 of the file": (hashlib.sha256(content).hexdigest(), sha256),
            "run of the row": (str(row.key), str(parent.key)),
            "run of the file": (named.get("run"), str(parent.key)),
            "recipe of the row": (row.recipe_hash, parent.hash),
            "recipe of the file": (named.get("recipe_hash"), parent.hash),
            "size of the file": (len(content), row.file_bytes),
        }
        for what, (found, wanted) in pairs.items():
            if found != wanted:
                raise ValueError(f"{what} is {found}, expected {wanted}")
    except (OSError, ValueError) as error:
        raise UserError(
            f"the artifact {parent.key} of W&B is damaged ({error}): delete that version there, or "
            f"make the parent here: {parent.key.command()}"
        ) from error
    return row
