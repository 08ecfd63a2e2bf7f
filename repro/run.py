"""The life of a run, top to bottom: data, parent, training, conversion, packed file, row."""

import dataclasses
import hashlib
import json
import logging
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn

from datamodules.base import ImageDataModule
from datamodules.cifar import CifarDataModule
from datamodules.digits import DigitsDataModule
from repro import memory, packing, rows, statistics
from repro.cbp.callback import Cbp
from repro.cells import RunKey
from repro.errors import MissingParentError, UserError
from repro.export import export
from repro.history import History, SafeCheckpointIO
from repro.methods.base import Phase, SpikingModule, predictions
from repro.methods.stbp import Stbp
from repro.networks.convolution import to_channels_last_
from repro.recipes import CbpRecipe, Recipe, as_dict, recipe_hash

METHODS = {"stbp": Stbp}


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a run reads and writes.

    Attributes:
        runs: Folder of the run folders.
        rows: Folder of the rows.
        data_dir: Data sets; None for CBP_DATA, else ``data``.
        wandb: Whether W&B is told: ``online``, ``offline`` (synchronised later) or ``off``.
        wandb_project: Project of the W&B run.
    """

    runs: Path = Path("runs")
    rows: Path = Path("results/rows")
    data_dir: Path | None = None
    wandb: Literal["online", "offline", "off"] = "off"
    wandb_project: str = "cbp-qsnn"


def run(key: RunKey, recipe: Recipe, places: Places) -> rows.Row:
    """Make the row of a run: resume it where it stopped, do nothing where the row is there.

    Args:
        key: Name of the run.
        recipe: Its numbers.
        places: Where to read and write.

    Raises:
        UserError: Anything a person can mend: missing parent, damaged file, a folder in use, a row
            or a folder of another recipe, a loss that is no number.
        DataError: The data are absent or damaged.
    """
    torch.set_flush_denormal(True)  # denormals made steps 12 times slower
    if (row := finished_row(key, recipe, places)) is not None:
        return row
    parent = load_parent(key, recipe, places) if key.precision != "fp32" else None
    data = make_data(key, recipe, places)
    data.setup("fit")
    module = make_module(key, recipe, data.classes, parent)
    folder = places.runs / str(key)
    with locked(folder):  # nothing is written before data, parent and network are known to be good
        write_config(folder, key, recipe)
        with wandb_logger(key, recipe, places) as logger:
            history = train(key, recipe, folder, module, data, logger)
            file = export(folder, folder / "model.safetensors")
            row = make_row(key, recipe, data, history, file, parent)
            rows.write_row(row, places.rows)
            if logger:
                logger.experiment.summary.update(
                    {
                        "test/accuracy": row.accuracy_file,
                        "test/accuracy_last": row.accuracy_last,
                        "memory/packed_bytes": row.file_bytes,
                    }
                )
    return row


def finished_row(key: RunKey, recipe: Recipe, places: Places) -> rows.Row | None:
    """Return the row if it and the weights are there and made by this recipe.

    A row alone, as in a fresh clone, does not count: its run is made again, weights and row.
    """
    path = places.rows / f"{key}.json"
    if not path.exists() or not (places.runs / str(key) / "model.safetensors").exists():
        return None
    row = rows.read_row(path)
    if row.recipe_hash != (now := recipe_hash(recipe, key.precision)):
        raise UserError(
            f"{path} was made by another recipe ({row.recipe_hash}, now {now}): "
            "delete it to run again, or choose another --rows and --runs"
        )
    return row


@dataclasses.dataclass(frozen=True)
class Parent:
    """The FP32 run that a quantised run starts from.

    Attributes:
        row: Its row.
        state: Its weights, from its saved file.
        sha256: Checksum of that file.
    """

    row: rows.Row
    state: dict[str, Tensor]
    sha256: str


def load_parent(key: RunKey, recipe: Recipe, places: Places) -> Parent:
    """Return the parent's row and weights.

    Raises:
        UserError: There is none (the message is the command that makes it), or it was made by
            another recipe of pre-training.
    """
    parent = key.parent()
    file = places.runs / str(parent) / "model.safetensors"
    if not file.exists() or not (places.rows / f"{parent}.json").exists():
        raise MissingParentError(
            f"{key} starts from {parent}, which is not there: {parent.command()}"
        )
    row = rows.read_row(places.rows / f"{parent}.json")
    now = as_dict(recipe, "fp32")
    if differing := [name for name in now if row.recipe.get(name) != now[name]]:
        raise UserError(
            f"{parent} was made by another recipe, {', '.join(differing)} differ: see its row"
        )
    state, _ = packing.unpack(file)
    return Parent(row, state, hashlib.sha256(file.read_bytes()).hexdigest())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process alone.

    Raises:
        UserError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{folder} is in use by another process: wait for it, or choose another --runs"
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_config(folder: Path, key: RunKey, recipe: Recipe) -> None:
    """Write ``config.json``, or check that the folder was started with the same numbers."""
    path = folder / "config.json"
    config = {
        "key": str(key),
        "recipe": as_dict(recipe, key.precision),
        "recipe_hash": recipe_hash(recipe, key.precision),
    }
    text = json.dumps(config, sort_keys=True, indent=1) + "\n"
    if not path.exists():
        rows.write_atomically(path, text)
    elif path.read_text("utf-8") != text:
        raise UserError(
            f"{folder} was started with another recipe (config.json): delete the folder to start "
            "anew, or choose another --runs"
        )


def make_data(key: RunKey, recipe: Recipe, places: Places) -> ImageDataModule:
    """Return the datamodule of the recipe's data set."""
    shared: Any = {
        "batch_size": recipe.batch_size,
        "seed": key.seed,
        "augment": recipe.augment,
        "train_images": recipe.train_images,
        "val_images": recipe.val_images,
        "test_images": recipe.test_images,
    }
    if recipe.data == "digits":
        return DigitsDataModule(**shared)
    # CIFAR-100 is normalised with CIFAR-10's constants in the stbp recipe (departures).
    dataset: Any = recipe.data
    return CifarDataModule(dataset, places.data_dir, "cifar10", **shared)


def make_module(key: RunKey, recipe: Recipe, classes: int, parent: Parent | None) -> SpikingModule:
    """Return the method's module, initialised from the seed or from the parent's weights."""
    phase: Phase = "pretrain" if parent is None else "cbp"
    torch.manual_seed(key.seed)
    module = METHODS[key.cell.method](recipe, classes, phase)
    if parent is not None:
        load_weights(module.network, parent.state, f"the saved file of {key.parent()}")
    to_channels_last_(module.network)
    return module


def load_weights(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict into a network.

    Raises:
        UserError: It belongs to another network.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        wrong = " ".join(str(error).split())[:200]
        raise UserError(f"{source} does not fit the recipe's network: {wrong}") from error


def make_cbp(precision: str, recipe: CbpRecipe) -> Cbp:
    """Return the callback with the recipe's numbers."""
    fields = dataclasses.asdict(recipe)
    for name in ("epochs", "lr", "momentum"):  # the optimiser of the weights is the module's
        fields.pop(name)
    return Cbp(precision, **fields)


def train(
    key: RunKey,
    recipe: Recipe,
    folder: Path,
    module: SpikingModule,
    data: ImageDataModule,
    logger: Any,  # noqa: ANN401  (a W&B logger or False; wandb is imported when it is asked for)
) -> History:
    """Train to the last epoch, from ``last.ckpt`` where there is one; return the history."""
    cbp = None if module.phase == "pretrain" else make_cbp(key.precision, recipe.cbp)
    history = History(folder, cbp)
    last = folder / "last.ckpt"
    callbacks: list[Callback] = [history] if cbp is None else [cbp, history]
    quiet_lightning()
    trainer = Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=1,
        max_epochs=epochs_of(key, recipe),
        callbacks=callbacks,
        plugins=[SafeCheckpointIO()],
        logger=logger,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        default_root_dir=folder,
    )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
    except SystemExit as stop:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from stop
    return history


def quiet_lightning() -> None:
    """Keep Lightning's tips and one deprecation inside it from the user; warnings still show."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Lightning 2.6 asks torch's pytree in a way that torch deprecates.
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)


def epochs_of(key: RunKey, recipe: Recipe) -> int:
    """Return the epochs of the run's phase."""
    return recipe.epochs if key.precision == "fp32" else recipe.cbp.epochs


@contextmanager
def wandb_logger(key: RunKey, recipe: Recipe, places: Places) -> Iterator[Any]:
    """Yield Lightning's W&B logger when the user asked for W&B, else False.

    The W&B run ends with the block: as failed if that raises.

    Raises:
        UserError: W&B does not start, for want of a login, say.
    """
    if places.wandb == "off":
        yield False
        return
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    logger = WandbLogger(
        name=str(key),
        project=places.wandb_project,
        save_dir=places.runs / str(key),
        offline=places.wandb == "offline",
        group=str(key.cell),
        job_type="pretrain" if key.precision == "fp32" else "cbp",
        tags=[key.tier, key.precision],
        config={"key": str(key), **as_dict(recipe, key.precision)},
    )
    try:
        logger.experiment.summary.update({"key": str(key)})
    except wandb.Error as error:
        raise UserError(
            f"W&B does not start ({error}): run wandb login, or use --wandb offline"
        ) from error
    try:
        yield logger
    except BaseException:
        logger.experiment.finish(exit_code=1)
        raise
    logger.experiment.finish()


def make_row(
    key: RunKey,
    recipe: Recipe,
    data: ImageDataModule,
    history: History,
    file: Path,
    parent: Parent | None,
) -> rows.Row:
    """Load the saved file into a fresh network, evaluate that, and gather everything in a row."""
    state, levels = packing.unpack(file)
    network = METHODS[key.cell.method](recipe, data.classes, "pretrain").network
    load_weights(network, state, str(file))
    to_channels_last_(network)
    correct = right_answers(network, data)
    counted = memory.count(
        network, {name.removesuffix(".weight"): layer.bits for name, layer in levels.items()}
    )
    # The commit that trained; several, after a resume, count as a tree with changes.
    commit = history.commits[-1]
    return rows.Row(
        method=key.cell.method,
        dataset=key.cell.dataset,
        network=key.cell.network,
        precision=key.precision,
        seed=key.seed,
        tier=key.tier,
        recipe=as_dict(recipe, key.precision),
        recipe_hash=recipe_hash(recipe, key.precision),
        git_sha=commit.removesuffix("+changes"),
        git_dirty=commit.endswith("+changes") or len(history.commits) > 1,
        versions=rows.versions(),
        device=device_in_words(),
        data_checksum=data.checksum,
        data=recipe.data,
        train_images=len(data.train.labels),
        val_images=len(data.val.labels),
        test_images=len(data.test.labels),
        epochs=epochs_of(key, recipe),
        accuracy_file=float(correct.mean()),
        weights=counted.weights,
        quantised_weights=counted.quantised_weights,
        fp32_bytes=counted.fp32_bytes,
        weights_only_bytes=counted.weights_only_bytes,
        everything_bytes=counted.everything_bytes,
        file_bytes=file.stat().st_size,
        correct=rows.pack_correct(correct),
        **history_fields(history),
        **parent_fields(parent, correct),
    )


def right_answers(network: nn.Module, data: ImageDataModule) -> npt.NDArray[np.bool_]:
    """Return which test images the network gets right, in their order."""
    network.eval()
    right = []
    with torch.no_grad():
        for batch in data.test_dataloader():
            images, labels = data.on_after_batch_transfer(batch, 0)
            right.append(predictions(network(images)) == labels)
    answers: npt.NDArray[np.bool_] = torch.cat(right).numpy()
    return answers


def history_fields(history: History) -> dict[str, Any]:
    """Return the fields of a row that the epochs tell; epochs are counted from 0."""
    epochs, selected = history.epochs, history.selected
    best = max(epochs, key=lambda epoch: epoch["test_accuracy"])
    return {
        "epochs_done": len(epochs),
        "wall_seconds": round(history.seconds, 1),
        "accuracy_last": epochs[-1]["test_accuracy"],
        "accuracy_best_test": best["test_accuracy"],
        "accuracy_selected": selected["test_accuracy"],
        "epoch_best_test": int(best["epoch"]),
        "epoch_selected": int(selected["epoch"]),
        "accuracy_val_selected": selected["val_accuracy"],
        "cfs_first": epochs[0].get("cfs"),
        "cfs_last": epochs[-1].get("cfs"),
        "cfs_selected": selected.get("cfs"),
        "g_selected": int(selected["g"]) if "g" in selected else None,
    }


def parent_fields(parent: Parent | None, correct: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return the comparison with the parent on the same test images; None for a parent."""
    names = (
        *("parent", "parent_file_sha256", "accuracy_parent", "difference_from_parent"),
        *("parent_only_right", "child_only_right", "mcnemar_p"),
    )
    if parent is None:
        return dict.fromkeys(names)
    before = rows.unpack_correct(parent.row.correct, parent.row.test_images)
    pairs = statistics.pair(before, correct)
    values = (
        str(parent.row.key),
        parent.sha256,
        parent.row.accuracy_file,
        pairs.difference,
        pairs.parent_only_right,
        pairs.child_only_right,
        statistics.mcnemar_p(before, correct),
    )
    return dict(zip(names, values, strict=True))


def device_in_words() -> str:
    """Return the device that Lightning chose, by name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"
