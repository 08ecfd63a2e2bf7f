"""Files that are whole or absent, on the disk before they count, and their checksums."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from repro.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of ``path`` at the end of the block.

    A reader sees the old file or the new one, whole, also after a power failure. Where the block or
    the disk fails, the old file stays and nothing else is left. Links are followed; a pipe or a
    device is written to and not replaced.

    Raises:
        UserError: The file cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            _sync_folder(target.parent)
        finally:
            with contextlib.suppress(OSError):  # an error before is the one to show
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot write: {error.strerror or error}; check that the folder exists and "
            "has room"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Bring the new name in a folder to the disk, where folders can be opened for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write a file, text as UTF-8, and return its path; see `replacing`. Its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path


def sha256(path: Path) -> str:
    """Return the checksum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
