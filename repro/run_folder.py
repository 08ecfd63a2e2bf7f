"""What lies in a run folder, who holds it, and whether its run is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from repro.errors import UserError


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


def is_there(folder: Path, row: Path) -> bool:
    """Return whether a run left both weights and row."""
    return row.exists() and (folder / "model.safetensors").exists()
