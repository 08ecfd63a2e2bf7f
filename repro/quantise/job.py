"""CBP on a user's own LightningModule: from trained weights to a packed file that is read back.

The same arguments again continue where they stopped: beside the file, a folder ``<name>.run`` holds
the arguments, the state after the last whole epoch, and the summary.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor

from repro import packing
from repro.cbp.callback import Cbp
from repro.cbp.layers import convert, plan, prepare
from repro.cbp.levels import Levels
from repro.errors import UserError, in_words
from repro.files import sha256, write_atomically
from repro.quantise.arguments import QuantiseArguments
from repro.quantise.import_path import make
from repro.quantise.plan import memory_in_words, plan_in_words
from repro.quantise.resume import KeepLast
from repro.quantise.trained_weights import load_into, read_state
from repro.run.checkpoint import PlainCheckpointIO
from repro.run_folder import RunFolder

Metrics = dict[str, float]
PLACES: Final = ("out", "dry_run")  # arguments that do not change the weights


def quantise(job: QuantiseArguments, width: int = 100) -> str:
    """Return in words what would be quantised (dry run), or what was, and at what cost.

    Args:
        job: What to do.
        width: Columns of the terminal.

    Raises:
        UserError: Anything a user can fix; nothing is written before model, weights, levels and
            data are good.
    """
    module = fresh_module(job)
    state = None if job.checkpoint is None else read_state(job.checkpoint)
    if state is not None:
        load_into(module, state, str(job.checkpoint))
    planned = plan(module, **choice(job))
    untrained = fresh_module(job)
    load_into(untrained, module.state_dict(), job.model)
    prepare(untrained, **choice(job))
    packing.encoded(untrained, convert(untrained))  # what no file can hold is refused here
    if job.dry_run:
        return plan_in_words(module, planned, width)
    assert job.out is not None
    data = make_data(job)
    require_trainable(module, data, job)
    folder = job.out.with_name(job.out.name + ".run")
    with RunFolder(folder).locked(), in_one_line():
        start_or_continue(folder, job)
        if (done := finished(folder, job.out)) is not None:
            return done
        print(plan_in_words(module, planned, width), flush=True)
        before = measure(module, data)
        rounded = measure(untrained, data) if before else {}
        levels = train(module, data, job, folder)
        named = {"model": job.model, "model_args": " ".join(job.model_args)}
        size = packing.pack(job.out, module, levels, named | {"levels": "; ".join(job.levels)})
        again = read_back(job, module)
        after = measure(again, data)
        text = summary(job, size, memory_in_words(again, levels), before, rounded, after)
        note = {"sha256": sha256(job.out), "text": text}
        write_atomically(folder / "summary.json", json.dumps(note) + "\n")
    return text


def fresh_module(job: QuantiseArguments) -> LightningModule:
    """Return the user's module, made anew from the seed."""
    seed_everything(job.seed, verbose=False)
    module = make(job.model, job.model_args)
    if not isinstance(module, LightningModule):
        raise UserError(
            f"{job.model} makes a {type(module).__name__}: give a LightningModule, which says how "
            "it is trained"
        )
    return module


def make_data(job: QuantiseArguments) -> LightningDataModule:
    """Return the user's datamodule."""
    assert job.data is not None
    data = make(job.data, job.data_args)
    if not isinstance(data, LightningDataModule):
        raise UserError(f"{job.data} makes a {type(data).__name__}: give a LightningDataModule")
    return data


def require_trainable(
    module: LightningModule, data: LightningDataModule, job: QuantiseArguments
) -> None:
    """Raise UserError unless the module says how it is trained, and the data on what."""
    for source, owner, base, needed in (
        (job.model, module, LightningModule, ("training_step", "configure_optimizers")),
        (job.data, data, LightningDataModule, ("train_dataloader",)),
    ):
        for name in needed:
            if not is_overridden(name, owner, base):
                raise UserError(f"{source} has no {name}: Lightning cannot train without it")


def choice(job: QuantiseArguments) -> dict[str, Any]:
    """Return the arguments of ``prepare`` and ``Cbp`` that say which layers become what."""
    return {
        "levels": job.level_choice(),
        "keep": () if job.ends else None,
        "layers": job.layers,
        "exclude": job.exclude,
        "scale": job.scale,
    }


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn Lightning's complaints about a module or its data into a UserError."""
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(f"Lightning cannot train this: {in_words(error)}") from error


def start_or_continue(folder: Path, job: QuantiseArguments) -> None:
    """Write the arguments, or check that the folder was started with the same.

    Raises:
        UserError: Others started it.
    """
    config = {name: str(value) for name, value in dataclasses.asdict(job).items()}
    config = {name: value for name, value in config.items() if name not in PLACES}
    if job.checkpoint is not None:
        config["checkpoint"] = sha256(job.checkpoint)
    path = folder / "config.json"
    if not path.exists():
        write_atomically(path, json.dumps(config, indent=1) + "\n")
        return
    try:
        before = dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: delete {folder} to start anew") from error
    if differing := [name for name in config if before.get(name) != config[name]]:
        raise UserError(
            f"{folder} was started with another {', '.join(differing)}: delete it to start anew, "
            "or give another --out"
        )


def finished(folder: Path, out: Path) -> str | None:
    """Return the summary if the file is there as it was written; None if there is work to do."""
    path = folder / "summary.json"
    if not path.exists() or not out.exists():
        return None
    note = json.loads(path.read_text("utf-8"))
    return str(note["text"]) if note["sha256"] == sha256(out) else None


def train(
    module: LightningModule, data: LightningDataModule, job: QuantiseArguments, folder: Path
) -> dict[str, Levels]:
    """Train with CBP to the last epoch; leave plain layers that hold levels, return the levels."""
    cbp = Cbp(settings=job.settings, **choice(job))
    last = folder / "last.ckpt"
    seed_everything(job.seed, verbose=False)
    trainer = quiet_trainer(
        max_epochs=job.epochs,
        callbacks=[cbp, KeepLast(last, cbp)],
        plugins=[PlainCheckpointIO()],
        default_root_dir=folder,
        enable_progress_bar=sys.stderr.isatty(),
    )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    return convert(module)


def quiet_trainer(**fields: Any) -> Trainer:  # noqa: ANN401  (arguments of Trainer)
    """Return a Trainer on one device that writes nothing by itself."""
    quiet = {"enable_progress_bar": False, "default_root_dir": None}
    return Trainer(
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **(quiet | fields),
    )


def read_back(job: QuantiseArguments, module: LightningModule) -> LightningModule:
    """Return a fresh module with the file's weights, every tensor compared with the trained one."""
    assert job.out is not None
    again, state = fresh_module(job), packing.unpack(job.out)[0]
    load_into(again, state, str(job.out))
    loaded, trained = again.state_dict(), module.state_dict()
    wrong = [name for name, tensor in trained.items() if not same(loaded[name], tensor)]
    if wrong:
        raise UserError(
            f"a fresh {job.model} does not hold what the file has ({', '.join(wrong[:5])}): its "
            "load_state_dict changes tensors"
        )
    return again


def same(a: Tensor, b: Tensor) -> bool:
    """Say whether tensors are equal, NaN included."""
    return bool(torch.equal(torch.nan_to_num(a.cpu()), torch.nan_to_num(b.cpu())))


def measure(module: LightningModule, data: LightningDataModule) -> Metrics:
    """Return what the module logs on the test data, else on the validation data; else nothing."""
    for step, loader, act in (
        ("test_step", "test_dataloader", "test"),
        ("validation_step", "val_dataloader", "validate"),
    ):
        if is_overridden(step, module, LightningModule) and is_overridden(
            loader, data, LightningDataModule
        ):
            trainer = quiet_trainer()
            found = getattr(trainer, act)(module, datamodule=data, verbose=False)
            return {name: float(value) for part in found for name, value in part.items()}
    return {}


def summary(
    job: QuantiseArguments,
    size: int,
    memory: str,
    before: Metrics,
    rounded: Metrics,
    after: Metrics,
) -> str:
    """Return the end of the run in words."""
    lines = [f"{job.out}: {size:,} bytes, read back into a fresh {job.model}, every tensor equal"]
    lines.append(memory)
    accuracies = [name for name in before if "acc" in name.lower()] or list(before)
    lines += [
        f"{name}: {before[name]:.4f} before, {rounded[name]:.4f} rounded without training, "
        f"{after[name]:.4f} after CBP"
        for name in accuracies
    ]
    if not before:
        lines.append("accuracy: not measured, the module logs nothing on test or validation data")
    if job.checkpoint is None:
        lines.append("no --checkpoint: CBP started from the weights that the model is made with")
    return "\n".join(lines)
