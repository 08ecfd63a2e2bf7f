"""Archives: downloads that break off, servers of every kind, content that must not be trusted."""

import errno
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from datamodules.archives import FIGSHARE, Archive, extract, extracted, fetch, figshare
from datamodules.errors import DataError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``content`` at /file; the first ``breaks`` answers end half way through the rest."""

    breaks = 0
    knows_ranges = True
    content = CONTENT

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """``/empty`` answers 202 with nothing, as figshare's old address does."""

    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path, asked))
        if self.path == "/empty":
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(asked.removeprefix("bytes=")[:-1]) if asked and server.knows_ranges else 0
        if start and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            end = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def archive(*urls: str) -> Archive:
    return Archive("a.zip", urls, MD5, "about 1 MiB")


def test_a_broken_download_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.breaks = 3
    path = fetch(archive(f"{server.url}/file"), tmp_path, "some")
    assert path.read_bytes() == CONTENT
    have = [len(CONTENT) * part // 8 for part in (4, 6, 7)]
    assert [asked for _, asked in server.asked] == [None, *(f"bytes={n}-" for n in have)]
    assert not (tmp_path / "a.zip.part").exists()
    fetch(archive("http://127.0.0.1:9/"), tmp_path, "some")  # it is there: nobody is asked


def test_another_run_goes_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    assert fetch(archive(f"{server.url}/file"), tmp_path, "some").read_bytes() == CONTENT
    assert server.asked == [("/file", "bytes=1000-")]


def test_a_whole_part_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert fetch(archive(f"{server.url}/file"), tmp_path, "some").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    assert fetch(archive(f"{server.url}/file"), tmp_path, "some").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    assert fetch(archive(f"{server.url}/file"), tmp_path, "some").read_bytes() == CONTENT


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    urls = (f"{server.url}/empty", "http://127.0.0.1:9/", f"{server.url}/file")
    assert fetch(archive(*urls), tmp_path, "some").read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/empty", "/file"]


def test_a_download_with_another_md5_is_deleted(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[::-1]
    found = hashlib.md5(server.content).hexdigest()
    message = rf"the download of a\.zip has md5 {found}, the official one is {MD5}: it was deleted"
    with pytest.raises(DataError, match=message):
        fetch(archive(f"{server.url}/file"), tmp_path, "some")
    assert not list(tmp_path.glob("a.zip*[!k]"))  # but for the lock
    server.content = CONTENT
    assert fetch(archive(f"{server.url}/file"), tmp_path, "some").read_bytes() == CONTENT


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(CONTENT[1:])
    with pytest.raises(DataError, match=r"a\.zip is damaged: its md5 is .* delete the file"):
        fetch(archive("http://127.0.0.1:9/"), tmp_path, "some")


def test_absent_and_offline_says_what_to_get(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/file"
    with pytest.raises(DataError) as caught:
        fetch(archive(url), tmp_path, "some")
    line = str(caught.value)
    assert "\n" not in line
    for words in (
        f"some is not in {tmp_path} and could not be downloaded",
        f"put a.zip (about 1 MiB, md5 {MD5}, from {url}) into that folder",
        "--data-dir or CBP_DATA",
    ):
        assert words in line


def test_figshare_is_asked_by_its_interface_first() -> None:
    urls = figshare("a.zip", 12, MD5, "large").urls
    assert urls[0] == "https://api.figshare.com/v2/file/download/12"
    assert len(urls) == len(FIGSHARE) > 1


def write_tar(path: Path, name: str) -> None:
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize("name", ["../outside", "/outside", "in/../../outside"])
def test_a_path_that_leads_outside_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / "data" / kind
    path.parent.mkdir()
    if kind == "a.zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(name, "abc")
    else:
        write_tar(path, name.replace("/outside", "/../outside", 1) if name[0] == "/" else name)
    with pytest.raises(DataError, match="outside"), extracted(path):
        pass
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["data", kind])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_tar_file_holds_files_and_folders_alone(tmp_path: Path, kind: bytes) -> None:
    """By our own check, as Python has one only from 3.11.4 on."""
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("in")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(DataError, match="'in', neither file nor folder"), extracted(path):
        pass
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_content_is_given_and_taken_away(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "a.zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("in/file", "abc")
    else:
        write_tar(path, "in/file")
    with extracted(path) as folder:
        assert (folder / "in" / "file").read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cannot be extracted .*delete it and run again"):
        extract(path, tmp_path / "cut")


def test_a_full_disk_is_not_taken_for_a_damaged_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar.gz"
    write_tar(path, "in/file")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(DataError, match=r"No space left on device\): make room") as caught:
        extract(path, tmp_path / "out")
    assert "delete" not in str(caught.value)
    assert path.exists()
