"""Files that are whole or absent, on the disk before they count, and their checksums."""

import contextlib
import glob
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from repro.errors import FULL, UserError, of_file

HOUR: Final = 3600.0  # s; whoever wrote nothing into a temporary file for so long was killed


@contextmanager
def replacing(path: Path, size: int = 0) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of ``path`` at the end of the block.

    A reader sees the old file or the new one, whole, also after a power failure. Where the block or
    the disk fails, the old file stays and nothing else is left. Links are followed; a pipe or a
    device is written to and not replaced.

    Args:
        path: The file.
        size: How many bytes will be written, for the message; 0 if that is not known.

    Raises:
        UserError: The file cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            with open(target, "wb", opener=_without_waiting) as file:
                yield file
            return
        clear_unfinished(target.parent, glob.escape(target.name), time.time() - HOUR)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            _sync_folder(target.parent)
        except OSError as error:
            if error.errno not in FULL:
                raise
            needed = f"{size:,}" if size else f"more than {temporary.stat().st_size:,}"
            advice = f"make room for {needed} bytes"
            raise UserError(of_file(error, f"cannot write {path}", advice)) from error
        finally:
            with contextlib.suppress(OSError):  # an error before is the one to show
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(of_file(error, f"cannot write {path}")) from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe or a device for writing; a pipe that nobody reads is an error."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(descriptor, True)
    return descriptor


def clear_unfinished(folder: Path, name: str = "*", before: float = math.inf) -> None:
    """Delete what killed processes have left of files that they were writing.

    Args:
        folder: Where the files were to be.
        name: Of the file, as a pattern.
        before: What was written later may still be under way, s; all where nobody else writes.
    """
    for left in folder.glob(f".{name}.*.tmp"):
        with contextlib.suppress(OSError):  # another process was faster
            if left.stat().st_mtime < before:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


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
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, len(data)) as file:
        file.write(data)
    return path


def below(folder: Path, *names: str) -> Path:
    """Return the path of a name that a file or a server gave, links resolved: it is in the folder.

    Raises:
        UserError: It leads elsewhere, or to the folder itself.
    """
    path = folder.joinpath(*names)
    if Path(os.path.realpath(folder)) not in Path(os.path.realpath(path)).parents:
        raise UserError(f"{os.path.join('', *names)!r} leads out of {folder}: do not trust it")
    return path


def checksum(value: object) -> str:
    """Return the SHA-256 of a value in canonical JSON, in hex.

    Raises:
        ValueError: It holds NaN or an infinity, which are no JSON.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the checksum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
