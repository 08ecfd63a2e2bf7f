"""A deadline: durations in words, and when a training ends before it."""

from types import SimpleNamespace
from typing import Any

import pytest

from repro.errors import OutOfTimeError, UserError
from repro.run.deadline import Deadline, seconds_in


@pytest.mark.parametrize("words", ["", "m", "-3m", "9 m", "1m1h", "0s", "nine"])
def test_no_duration(words: str) -> None:
    with pytest.raises(UserError, match=r"invalid duration .*: give 9m, 1h30m or 540s"):
        seconds_in(words)


class Clock:
    """A clock that is set by hand."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


def train(deadline: Deadline, clock: Clock, epochs: int, batch: float, rest: float) -> int:
    """Run the callback through epochs of ten batches; return how many were finished."""
    trainer: Any = SimpleNamespace(num_training_batches=10)
    module: Any = None
    for epoch in range(epochs):
        try:
            deadline.on_train_epoch_start(trainer, module)
            for number in range(10):
                clock.time += batch
                deadline.on_train_batch_end(trainer, module, None, None, number)
        except OutOfTimeError:
            return epoch
        clock.time += rest
        deadline.on_train_epoch_end(trainer, module)
    return epochs


def test_epochs_that_fit_are_finished_and_no_other_is_begun() -> None:
    clock = Clock()
    assert train(Deadline(100.0, clock), clock, 20, batch=1.0, rest=5.0) == 6  # 15 s each
    assert clock.time == 90.0  # the seventh, which would end at 105, is not begun
    clock = Clock()
    assert train(Deadline(1000.0, clock), clock, 20, batch=1.0, rest=5.0) == 20


def test_a_first_epoch_that_will_not_fit_is_given_up_early() -> None:
    clock = Clock()
    assert train(Deadline(100.0, clock), clock, 20, batch=50.0, rest=5.0) == 0
    assert clock.time == 100.0  # after two batches: the first alone tells no speed
    assert str(OutOfTimeError(400.2)) == "400 s too short"
