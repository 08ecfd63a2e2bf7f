"""numba's kernels: compiled once, kept in a cache that follows all the sources they are made of.

numba keeps compiled code beside the source file and compiles it anew when that file changes. It
does not see a change of another file whose functions a kernel calls, and it raises where no folder
can be written, as in a container whose user has no home. Here a kernel is stamped with every file
of its folder and of those whose kernels it imports, and where nothing else can be written a
temporary folder is used.

numba's threads do not follow into a process that is forked: there a kernel would hang, or be ended
by GNU's OpenMP. So each is there in a form without threads, too, which gives the same numbers. With
``NUMBA_NUM_THREADS=1``, as where the cores are divided among runs, that form is the only one.
"""

import contextlib
import functools
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from numba import njit, threading_layer  # type: ignore[attr-defined]
from numba.core import config as numba_config
from numba.core.caching import _CacheLocator
from numba.extending import is_jitted

config: Any = numba_config  # its stubs lack settings
Function = TypeVar("Function", bound=Callable[..., Any])
_lost_threads = False  # whether this process was forked from one whose kernels had threads


def _after_fork() -> None:
    global _lost_threads
    with contextlib.suppress(ValueError):  # no kernel has run: this process may start threads
        threading_layer()
        _lost_threads = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def kernel(**options: Any) -> Callable[[Function], Function]:  # noqa: ANN401  (numba's own)
    """Return numba's ``njit`` with a cache, as a decorator; ``options`` are numba's.

    A version of numba that knows no locators of its users (before 0.62) uses its own places.
    """

    def cached(function: Any, **options: Any) -> Any:  # noqa: ANN401
        before = config.CACHE_LOCATOR_CLASSES
        config.CACHE_LOCATOR_CLASSES = f"{__name__}.{FolderLocator.__name__}"
        try:
            return njit(cache=True, **options)(function)
        finally:
            config.CACHE_LOCATOR_CLASSES = before

    def compiled(function: Function) -> Function:
        made: Function = cached(function, **options)
        if not options.get("parallel"):
            return made
        alone = FunctionType(function.__code__, function.__globals__)
        alone.__qualname__ = f"{function.__qualname__}_alone"  # the cache tells them apart by it
        without_threads: Function = cached(alone, **{**options, "parallel": False})
        if config.NUMBA_NUM_THREADS == 1:  # compiled in two fifths of the time
            return without_threads

        @functools.wraps(function)
        def call(*arguments: Any) -> Any:  # noqa: ANN401
            return (without_threads if _lost_threads else made)(*arguments)

        return call  # type: ignore[return-value]

    return compiled


class FolderLocator(_CacheLocator):
    """Says numba where the code of a function is kept, and from which sources it was made."""

    def __init__(self, line: int, place: Path, sources: set[Path]) -> None:
        """Keep the function's line, the folder of compiled code, and the folders of its sources."""
        self._line, self._place, self._sources = line, place, sources

    @classmethod
    def from_function(cls, function: Any, source: str) -> "FolderLocator":  # noqa: ANN401
        """Return the locator of a function."""
        folder = Path(source).resolve().parent
        place = next(place for place in places(folder) if is_writable(place))
        called = (value for value in function.__globals__.values() if is_jitted(value))
        files = [Path(kernel.py_func.__code__.co_filename) for kernel in called]
        sources = {folder, *(file.resolve().parent for file in files)}
        return cls(function.__code__.co_firstlineno, place, sources)

    def get_cache_path(self) -> str:
        """Return the folder."""
        return str(self._place)

    def get_source_stamp(self) -> str:
        """Return what changes whenever a file of the sources' folders does."""
        return " ".join(stamp_of(folder) for folder in sorted(self._sources))

    def get_disambiguator(self) -> str:
        """Return what tells functions of one name apart."""
        return str(self._line)


def places(folder: Path) -> Iterator[Path]:
    """Yield where the code of the kernels of a folder may be kept, the best place first."""
    below = f"{folder.name}_{hashlib.sha1(str(folder).encode()).hexdigest()}"
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR, below)
    yield folder / "__pycache__"
    if home := os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME"):
        yield Path(home, *(() if "XDG_CACHE_HOME" in os.environ else (".cache",)), "numba", below)
    yield temporary() / below


@functools.cache
def is_writable(folder: Path) -> bool:
    """Return whether files can be made in a folder; it is made if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


@functools.cache
def temporary() -> Path:
    """Return a temporary folder for compiled code, this user's alone; say once that it is used.

    What is in it will be executed, so a folder that another user could have made is not taken.
    """
    owner = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir(), f"cbp-qsnn-kernels-{owner}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        mine = stat.S_ISDIR(found.st_mode) and owner in ("", found.st_uid)
        if not mine or (owner != "" and found.st_mode & 0o077):
            raise PermissionError(folder)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="cbp-qsnn-kernels-"))
    print(
        f"compiled kernels are kept in {folder}: neither the installation nor a cache of the user "
        "can be written (NUMBA_CACHE_DIR names another place)",
        file=sys.stderr,
    )
    return folder


@functools.cache
def stamp_of(folder: Path) -> str:
    """Return the sha256 over names and contents of a folder's Python files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
