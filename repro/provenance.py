"""Which code runs: the commit of the checkout, or of the copy that travelled without git."""

import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

from repro.errors import UserError
from repro.files import write_atomically

PACKAGES: Final = ("torch", "torchvision", "pytorch_lightning", "cbp_qsnn", "numba", "numpy")

CODE: Final = ("repro", "datamodules", "pyproject.toml", "constraints.txt")
ROOT: Final = Path(__file__).parents[1]  # of the checkout, or of the copy that travelled
STAMP: Final = ".commit.json"  # at the root of a copy that has no git


def git_state(root: Path) -> tuple[str, bool]:
    """Return the commit of the code at ``root`` and whether its tree is dirty.

    The commit is the last that changed `CODE`: a later one that adds results or words leaves the
    code as it is, and a run that resumes there is a run of one code. Changed and untracked files
    count as dirt, files below ``results/`` and ignored ones do not.

    Where ``root`` is not the top of a checkout with a commit, a stamp (`write_stamp`) says which
    commit its files are; without one the answer is ``("unknown", True)``.
    """
    try:
        top = Path(_git(root, "rev-parse", "--show-toplevel"))
        head = _git(root, "rev-parse", "--verify", "HEAD")
        changes = _git(root, "status", "--porcelain", "--", ".", ":(exclude)results")
        sha = _git(root, "log", "-1", "--format=%H", "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        return stamped_state(root)
    if top.resolve() != root.resolve():
        return stamped_state(root)
    return sha or head, bool(changes)


def write_stamp(root: Path, out: Path) -> Path:
    """Write which commit the files at ``root`` are, for a copy of them without git.

    Raises:
        UserError: ``root`` is not a checkout, or has changes.
    """
    sha, dirty = git_state(root)
    if dirty:
        raise UserError(f"{root} has changes ({sha}): commit them, so that rows can name the code")
    stamp = {"commit": sha, "files": code_checksum(root)}
    return write_atomically(out, json.dumps(stamp) + "\n")


def stamped_state(root: Path) -> tuple[str, bool]:
    """Return the commit that the stamp at ``root`` names, and whether the code differs from it."""
    try:
        stamp = json.loads((root / STAMP).read_text("utf-8"))
        return str(stamp["commit"]), stamp["files"] != code_checksum(root)
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown", True


def code_checksum(root: Path) -> str:
    """Return the sha256, in hex, of the names and contents of the files of `CODE`."""
    digest = hashlib.sha256()
    for path in sorted(path for name in CODE for path in _files(root / name)):
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """Return a file, or those below a folder but for what Python compiles."""
    if path.is_file():
        return [path]
    return [f for f in path.rglob("*") if f.is_file() and "__pycache__" not in f.parts]


def _git(root: Path, *arguments: str) -> str:
    """Return what git prints, whichever repository the environment names."""
    named = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in named}
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit_in_words() -> str:
    """Return the commit of this code, with ``+changes`` where the tree had some."""
    sha, dirty = git_state(ROOT)
    return sha + ("+changes" if dirty else "")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
