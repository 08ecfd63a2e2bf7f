"""Stop a run before the time is up, at an epoch from which the same command continues."""

import re
from collections.abc import Callable
from typing import Any, Final

from pytorch_lightning import Callback, LightningModule, Trainer

from repro.device.machine import device_time
from repro.errors import OutOfTimeError, UserError

EVERY: Final = 8  # batches between two looks at the clock, for which a GPU is waited for
UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0}


def seconds_in(words: str) -> float:
    """Return a duration in seconds.

    Args:
        words: Hours, minutes and seconds, or seconds alone.

    Raises:
        UserError: No duration above 0.

    >>> [seconds_in(words) for words in ("9m", "1h30m", "90", "1.5h")]
    [540.0, 5400.0, 90.0, 5400.0]
    """
    number = r"\d+(?:\.\d+)?"
    found = re.fullmatch(rf"(?:({number})h)?(?:({number})m)?(?:({number})s?)?", words.strip())
    parts = zip(found.groups(), UNITS.values(), strict=True) if found else []
    seconds = sum(float(part) * unit for part, unit in parts if part)
    if not seconds > 0:
        raise UserError(f"invalid duration {words!r}: give 9m, 1h30m or 540s")
    return seconds


class Deadline(Callback):
    """End a training after the last epoch that fits; place this callback behind all others.

    An epoch that is under way and would not be finished in time is given up as soon as that shows:
    the next call repeats it.

    Attributes:
        at: When the time is up, on ``clock``, s.
        longest: Longest epoch so far, evaluation and checkpoint included, s; 0 before the first.
    """

    def __init__(self, at: float, clock: Callable[[], float] = device_time) -> None:
        """Start with no epoch known."""
        self.at, self.clock, self.longest = at, clock, 0.0
        self._started = self._trained = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where not even the longest epoch so far would fit; else start the clock.

        Raises:
            OutOfTimeError: It would not.
        """
        self._started = self.clock()
        if self._started + self.longest > self.at:
            raise OutOfTimeError(self._started + self.longest - self.at)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401  (Lightning's signature)
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Give the epoch up where its batches, as fast as those after the first, will not fit.

        Raises:
            OutOfTimeError: They will not.
        """
        if batch_idx > 1 and batch_idx % EVERY:
            return
        now = self.clock()
        if batch_idx == 0:  # compiles kernels, fills caches
            self._trained = now
        a_batch = (now - self._trained) / max(1, batch_idx)
        end = now + a_batch * (trainer.num_training_batches - 1 - batch_idx)
        if end > self.at:
            raise OutOfTimeError(end - self.at)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note how long the epoch took."""
        self.longest = max(self.longest, self.clock() - self._started)
