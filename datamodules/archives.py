"""Archives of a data set: downloads that resume where they broke off, and safe extraction."""

import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm import tqdm

from datamodules.errors import DataError

# In the order in which they are tried. The last, which tonic 1.7 uses, answers programs with an
# empty page since 2026 (tonic's issues 329 and 330, pull request 337).
FIGSHARE: Final = (
    "https://api.figshare.com/v2/file/download/",
    "https://ndownloader.figshare.com/files/",
    "https://figshare.com/ndownloader/files/",
)
TIMEOUT: Final = 30.0  # seconds without a byte
CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Archive:
    """One file to download.

    Attributes:
        name: File name.
        urls: Addresses, tried in this order.
        md5: Official checksum, in hex.
        size: About how large, for people.
    """

    name: str
    urls: tuple[str, ...]
    md5: str
    size: str

    def __str__(self) -> str:
        """Return what a user needs to get it by hand."""
        return f"{self.name} ({self.size}, md5 {self.md5}, from {self.urls[0]})"


def figshare(name: str, number: int, md5: str, size: str) -> Archive:
    """Return an archive that figshare keeps under a number."""
    return Archive(name, tuple(f"{address}{number}" for address in FIGSHARE), md5, size)


def md5_of(path: Path) -> str:
    """Return the md5 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def require_md5(path: Path, official: str) -> None:
    """Raise a DataError if the md5 of a file is not the official one."""
    if (found := md5_of(path)) != official:
        raise DataError(
            f"{path} is damaged: its md5 is {found}, the official one {official};"
            " delete the file and run again to download it, or restore it from a good copy"
        )


def fetch(archive: Archive, folder: Path, dataset: str, later: Sequence[Archive] = ()) -> Path:
    """Return the archive in the folder, downloaded unless it is there; its md5 was checked.

    What a broken download left behind, ``<name>.part``, is resumed.

    Args:
        archive: What to fetch.
        folder: Where it belongs.
        dataset: Name of the data set, for the message.
        later: What has to be fetched after it, for the message.

    Raises:
        DataError: It is damaged, or cannot be downloaded; the message says how to get it by hand.
    """
    path = folder / archive.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{archive.name}.lock"):
            if not path.is_file():
                _download(archive, path)
    except (OSError, HTTPException) as error:  # URLError is an OSError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{dataset} is not in {folder} and could not be downloaded ({reason}):"
            f" put {' and '.join(map(str, (archive, *later)))} into that folder,"
            " or name the folder above one that has the data by --data-dir or CBP_DATA"
        ) from error
    require_md5(path, archive.md5)
    return path


def _download(archive: Archive, path: Path) -> None:
    """Fetch into ``<name>.part`` from the first address that works, check it, give it its name."""
    part = path.with_name(f"{path.name}.part")
    print(f"downloading {archive.name} ({archive.size}) into {path.parent}", file=sys.stderr)
    for number, url in enumerate(archive.urls, start=1):
        try:
            _fetch_from(url, part)
            break
        except (OSError, HTTPException):
            if number == len(archive.urls):
                raise
    found = md5_of(part)
    if found != archive.md5:
        part.unlink()
        raise DataError(
            f"the download of {archive.name} has md5 {found}, the official one is {archive.md5}:"
            " it was deleted; run again"
        )
    os.replace(part, path)


def _fetch_from(url: str, part: Path) -> None:
    """Fetch to the end, again from where it broke off as long as every attempt brings something.

    Raises:
        OSError, HTTPException: An attempt brought nothing.
    """
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _fetch_rest(url, part)
        except HTTPError:  # an answer: asking again brings the same
            raise
        except (OSError, HTTPException):
            if not part.exists() or part.stat().st_size <= before:
                raise


def _fetch_rest(url: str, part: Path) -> None:
    """Append what is missing from ``part``; start over where the server knows no ranges."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "cbp-qsnn"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416 and have:  # nothing is missing, or the part is another file's
                if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                    return
                part.unlink()
                return _fetch_rest(url, part)
            raise
    with response:
        if response.status not in (200, 206):
            raise OSError(f"{url} answered {response.status}")
        stated = response.headers.get("Content-Range", "")
        if response.status == 206 and not stated.startswith(f"bytes {have}-"):
            raise OSError(f"{url} sent {stated} after {have} bytes")
        _write(response, part, have if response.status == 206 else 0)


def _write(response: HTTPResponse, part: Path, start: int) -> None:
    """Write the answer's body behind the first ``start`` bytes.

    Raises:
        OSError: The connection ended before all that was announced.
    """
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, disable=None, leave=False)
    with part.open("ab" if start else "wb") as file, bar:
        while chunk := response.read1(CHUNK):  # `read` would lose what came before a break
            file.write(chunk)
            bar.update(len(chunk))
    size = part.stat().st_size
    if size == 0 or (total is not None and size < total):
        raise OSError(f"the connection ended after {size} of {total or 'unknown'} bytes")


@contextmanager
def extracted(archive: Path) -> Iterator[Path]:
    """Give a folder with the archive's content, beside the archive; it is deleted afterwards.

    Move out of it what is wanted: a rename in one file system, so that a folder in its place is
    complete. Archives within the archive are left as they are.
    """
    folder = archive.with_name(f"{archive.name}.extracted.tmp")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was stopped
    try:
        extract(archive, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def extract(archive: Path, folder: Path) -> None:
    """Extract a zip or tar file into a folder.

    Raises:
        DataError: The archive is damaged, a path in it leads outside, or a tar file holds anything
            but files and folders.
    """
    folder.mkdir(parents=True)
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as file:
                for name in file.namelist():
                    _require_inside(archive, name)
                file.extractall(folder)
        else:
            with tarfile.open(archive) as tar:
                tar.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4 on
                for member in tar:
                    _require_inside(archive, member.name)
                    if not (member.isfile() or member.isdir()):
                        raise DataError(
                            f"{archive} holds {member.name!r}, neither file nor folder: "
                            "do not trust it"
                        )
                    tar.extract(member, folder, set_attrs=False)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{archive} cannot be extracted ({reason}): delete it and run again"
        ) from error
    except OSError as error:  # a full disk, or no right to write: the archive is good
        raise DataError(
            f"{archive} cannot be extracted to {folder.parent} ({error.strerror or error}): make"
            " room or make it writable, and run again"
        ) from error


def _require_inside(archive: Path, name: str) -> None:
    """Refuse a path that leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{archive} holds the path {name!r}, outside its folder: do not trust it")
