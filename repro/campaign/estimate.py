"""What a run will cost here: operations by counting, seconds by a few batches on this device."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning import Callback
from torch.utils.flop_counter import FlopCounterMode

from datamodules.base import DataModule
from datamodules.errors import DataError
from repro.build import make_data
from repro.cells import RunKey
from repro.device.machine import device_in_words, device_time
from repro.methods.base import SpikingModule
from repro.recipes.spec import RunSpec
from repro.run.places import Places
from repro.run.training import make_cbp, make_module, make_trainer, set_up_process
from repro.table import Table

COUNTED: Final = 2  # images that operations are counted on
BATCHES: Final = 3  # measured, after one that is not
# Without a GPU a measured batch is smaller where the recipe's would take minutes and all memory.
CPU_FLOP: Final = 2e11  # operations of a step
CPU_BATCH: Final = 4  # images, however many operations they take


@dataclass(frozen=True)
class Estimate:
    """What an epoch costs.

    Attributes:
        key: The run.
        epochs: Epochs of its recipe; 0 of a conversion.
        images: Training images an epoch.
        evaluated: Validation and test images an epoch.
        flop: Floating-point operations of training on one image, a multiplication and an addition
            counted as two; those of convolutions and linear layers, forward and backward.
        train_seconds: Of training on one image, s.
        evaluation_seconds: Of evaluating one image, s.
    """

    key: RunKey
    epochs: int
    images: int
    evaluated: int
    flop: float
    train_seconds: float
    evaluation_seconds: float

    @property
    def epoch_seconds(self) -> float:
        """Expected seconds an epoch."""
        return self.images * self.train_seconds + self.evaluated * self.evaluation_seconds

    @property
    def seconds(self) -> float:
        """Expected seconds in all; of a conversion those of evaluating its steps."""
        return max(1, self.epochs) * self.epoch_seconds


class Stopwatch(Callback):
    """Times the batches of a short training; the device has finished whenever it is looked at.

    Attributes:
        train: When each training batch had ended, and the first of them, s.
        evaluation: When each evaluation batch had ended, s.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.train: list[float] = []
        self.evaluation: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: ANN401  (Lightning's arguments)
        """Note the time."""
        self.train.append(device_time())

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Note the time."""
        self.evaluation.append(device_time())


def estimate(spec: RunSpec, places: Places) -> Estimate:
    """Count and measure a run: fresh weights, real batches; nothing is kept."""
    set_up_process()
    key, recipe = spec.key, spec.recipe
    data = make_data(recipe, key.seed, places.data_dir)
    data.setup("fit")
    evaluated = data.size("val") + data.size("test")
    if key.is_conversion:
        control = RunKey(key.cell, "fp32_control", key.seed, key.tier)
        child = estimate(RunSpec(control, recipe), places)
        passes = 2 * data.size("test") + evaluated  # ANN not counted; two steps, then validation
        return Estimate(key, 0, 0, passes, 0.0, 0.0, child.evaluation_seconds)
    module = make_module(spec, data.classes, None)
    flop = count(module, data)
    batch = spec.batch_size
    if not torch.cuda.is_available():
        batch = min(batch, max(CPU_BATCH, int(CPU_FLOP / flop)))
    data.batch_size = batch
    watch = measure(spec, module, data)
    trained = (watch.train[-1] - watch.train[0]) / (len(watch.train) - 1) / batch
    checked = (watch.evaluation[-1] - watch.evaluation[0]) / (len(watch.evaluation) - 1)
    return Estimate(
        key=key,
        epochs=spec.epochs,
        images=data.size("train"),
        evaluated=evaluated,
        flop=flop,
        train_seconds=trained,
        evaluation_seconds=checked / batch,
    )


def count(module: SpikingModule, data: DataModule) -> float:
    """Return the operations of a training step on one image, on the CPU."""
    batch = next(iter(data.training_batches()))
    few = tuple(tensor[:COUNTED] for tensor in batch)
    counter = FlopCounterMode(display=False)
    module.train()
    with counter:
        loss = module.training_step(data.on_after_batch_transfer(few, 0), 0)
        torch.autograd.backward(loss)
    module.zero_grad()
    return counter.get_total_flops() / len(few[0])


def measure(spec: RunSpec, module: SpikingModule, data: DataModule) -> Stopwatch:
    """Train on a few batches, and evaluate as many, as the run itself would."""
    watch = Stopwatch()
    callbacks: list[Callback] = [make_cbp(spec)] if spec.key.has_cbp_phase else []
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            spec,
            Path(folder),
            max_epochs=1,
            limit_train_batches=BATCHES + 1,
            limit_val_batches=BATCHES + 1,
            callbacks=[*callbacks, watch],
            logger=False,
            enable_progress_bar=False,
        )
        trainer.fit(module, datamodule=data)
    return watch


def plan(specs: Sequence[RunSpec], places: Places, width: int) -> str:
    """Return a table of what each run will cost here, measured once for each kind of run.

    Args:
        specs: Runs and their numbers.
        places: Where the data are.
        width: Columns of the terminal.
    """
    known: dict[tuple[object, ...], Estimate | str] = {}
    head = ("run", "GFLOP", "ms", "TFLOP/s", "epochs", "s/epoch", "hours")
    lines, total = [], 0.0
    for spec in specs:
        key = spec.key
        kind = (key.cell, key.precision)
        if kind not in known:
            try:
                known[kind] = estimate(spec, places)
            except DataError as error:
                known[kind] = str(error)
        found = known[kind]
        if isinstance(found, str):
            lines.append((str(key), *["n/a"] * (len(head) - 1)))
            continue
        total += found.seconds
        lines.append((str(key), *in_columns(found)))
    table = Table(
        f"What is left to run, measured on {device_in_words(1)}",
        head,
        tuple(lines),
        (
            "GFLOP, ms: of training on one image. Counted are convolutions and linear layers, "
            "forward and backward; a multiplication and an addition are two operations. A "
            "conversion trains nothing: its seconds are those of evaluating its steps.",
            f"Total {total / 3600:.1f} hours.",
            *sorted({f"n/a: {found}" for found in known.values() if isinstance(found, str)}),
        ),
    )
    return table.to_terminal(width)


def in_columns(found: Estimate) -> tuple[str, ...]:
    """Return the columns of a line behind the run's name."""
    rate = found.flop / found.train_seconds / 1e12 if found.train_seconds else 0.0
    return (
        f"{found.flop / 1e9:.1f}" if found.epochs else "",
        f"{1e3 * found.train_seconds:.2f}" if found.epochs else "",
        f"{rate:.2f}" if found.epochs else "",
        str(found.epochs),
        f"{found.epoch_seconds:.0f}",
        f"{found.seconds / 3600:.2f}",
    )
