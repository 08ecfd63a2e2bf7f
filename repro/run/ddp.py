"""Several devices for one run: one process each, started by Lightning from the same command line.

The first process holds the folder, writes everything and makes the row; the others train beside it.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from pytorch_lightning import Trainer

from datamodules.errors import DataError
from datamodules.processes import PARENT
from repro.errors import UserError

PATIENCE: Final = 2.0  # s; in that time a first process that fails ends the others


def is_helper(devices: int) -> bool:
    """Return whether this process trains beside the first one of a run on several devices."""
    return devices > 1 and process_number() > 0


def process_number() -> int:
    """Return the number of this process among those that Lightning started, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0))


def require_devices(devices: int) -> None:
    """Check that there are so many GPUs, or none.

    Raises:
        UserError: There are some, but not so many.
    """
    if torch.cuda.is_available() and devices > (there := torch.cuda.device_count()):
        raise UserError(f"devices is {devices}, but there are {there} GPUs: give that, or less")


def trainer_fields(devices: int) -> dict[str, Any]:
    """Return what Lightning's Trainer is told about devices."""
    return {
        "accelerator": "gpu" if torch.cuda.is_available() else "cpu",
        "devices": devices,
        "strategy": "ddp" if devices > 1 else "auto",
    }


@contextmanager
def helpers_of(trainer: Trainer) -> Iterator[None]:
    """End the helpers of a training with this process, and where it fails here.

    Raises:
        UserError: It fails because a helper did.
        KeyboardInterrupt: In place of Lightning's answer to Ctrl-C.
    """
    os.environ[PARENT] = str(os.getpid())  # nobody else ends what hangs in a collective
    try:
        yield
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    except Exception as error:
        helpers = getattr(trainer.strategy.launcher, "procs", [])
        if helpers and isinstance(error, RuntimeError):  # a collective's; ours are none
            time.sleep(PATIENCE)
        codes = {number: helper.poll() for number, helper in enumerate(helpers, 1)}
        ended = [f"process {number} with code {code}" for number, code in codes.items() if code]
        for helper in helpers:
            helper.kill()  # what hangs in a collective hears nothing else
        if ended and isinstance(error, RuntimeError):
            raise UserError(f"{', '.join(ended)} ended: the same command continues") from error
        raise
    finally:
        del os.environ[PARENT]


def help_out(train: Callable[[], object]) -> int:
    """Train beside the first process; return the exit code.

    What both find wrong is left to the first process to say: it ends its helpers. What only this
    one finds ends the first process, whose Lightning watches the exit codes.
    """
    try:
        train()
    except KeyboardInterrupt:
        return 130
    except (UserError, DataError, OSError) as error:
        time.sleep(PATIENCE)
        print(f"cbp-qsnn, process {process_number()}: {error}", file=sys.stderr)
        return 2
    except RuntimeError:
        time.sleep(PATIENCE)  # where the first process is gone, nothing is to be said
        raise
    return 0
