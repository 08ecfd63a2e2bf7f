"""Files are whole or absent, on the disk before they count, and below the folder they belong in."""

import errno
import os
import resource
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made_rows import make_row, right

from repro import packing
from repro.errors import UserError
from repro.files import HOUR, below, checksum, replacing, write_atomically
from repro.results.rows import write_row
from repro.run.checkpoint import SafeCheckpointIO
from repro.run_folder import RunFolder

MEBIBYTE = 2**20


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can have more than 100 bytes; the system says so as it says that a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_checkpoint(path: Path) -> None:
    (path.parent / "config.json").write_text("{}")
    SafeCheckpointIO().save_checkpoint({"state_dict": {"w": torch.ones(99)}}, path)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: write_atomically(path, "x" * 101),
    "packed": lambda path: packing.pack(path, {"w": torch.ones(99)}, {}),
    "checkpoint": save_checkpoint,
    "row": lambda path: write_row(make_row(right(15)), path.parent),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_one_line_and_keeps_the_old_file(
    kind: str, tmp_path: Path, full_disk: None
) -> None:
    name = "stbp-cifar10-fp32-desk-s0.json" if kind == "row" else "file"
    (tmp_path / name).write_text("old")
    with pytest.raises(UserError, match=rf"{name}: .*: make room for .*\d bytes$"):
        WRITERS[kind](tmp_path / name)
    assert (tmp_path / name).read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {name, "config.json"}


def test_a_file_is_on_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        sync(descriptor)

    def replaced(*paths: Any) -> None:
        done.append("name")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_row(make_row(right(15)), tmp_path)
    assert done == ["content", "name", "folder"]


def test_links_are_followed_and_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    write_atomically(Path(os.devnull), "gone")
    assert Path(os.devnull).is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="let something read the pipe first"):
        write_atomically(pipe, "nobody reads")
    descriptor = os.open(pipe, os.O_RDWR)  # waits for nobody
    found: list[bytes] = []

    def drain() -> None:
        while sum(map(len, found)) < MEBIBYTE:
            found.append(os.read(descriptor, MEBIBYTE))

    reader = threading.Thread(target=drain)
    reader.start()
    write_atomically(pipe, "x" * MEBIBYTE)  # more than a pipe holds
    reader.join(10)
    os.close(descriptor)
    assert b"".join(found) == b"x" * MEBIBYTE
    assert pipe.is_fifo()


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    old, young = tmp_path / ".a.json.1.tmp", tmp_path / ".a.json.2.tmp"
    foreign = tmp_path / ".b.json.1.tmp"
    for path in (old, young, foreign):
        path.write_text("half")
    for path in (old, foreign):
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    write_atomically(tmp_path / "a.json", "{}")
    assert not old.exists()
    assert young.exists()  # another process may be writing it
    assert foreign.exists()


def test_who_holds_a_run_folder_removes_all_that_is_unfinished(tmp_path: Path) -> None:
    place = RunFolder.of("a", tmp_path / "runs", tmp_path / "rows")
    left = [place.path / ".last.ckpt.1.tmp", place.row.parent / ".a.json.1.tmp"]
    other = place.row.parent / ".b.json.1.tmp"
    for path in (*left, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    with place.locked():
        assert not any(path.exists() for path in left)
    assert other.exists()


@pytest.mark.parametrize("name", ["..", ".", "", "../x", "a/../../x", "/etc/passwd", "out/x"])
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"leads out of .*: do not trust it"):
        below(folder, name)


def test_a_name_below_its_folder_is_its_path(tmp_path: Path) -> None:
    assert below(tmp_path, "a", "b.json") == tmp_path / "a" / "b.json"
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert below(tmp_path / "link", "a") == tmp_path / "link" / "a"


def test_a_checksum_is_of_values_not_of_their_order() -> None:
    assert checksum({"a": 1, "b": 2.5}) == checksum({"b": 2.5, "a": 1}) != checksum({"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        checksum(float("nan"))


def test_an_error_in_the_block_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def fail() -> None:
        with replacing(tmp_path / "a") as file:
            file.write(b"half")
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with pytest.raises(UserError, match=r"cannot write .*a: .*: check who may read and write it"):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
