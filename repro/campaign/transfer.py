"""What of a campaign travels from machine to machine: an archive in small parts, checked.

A run has a row once it is done, and a folder with what it takes to continue or export it. Of both
places the one that is further on wins, so that nothing is lost whichever was brought last.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from repro.errors import UserError
from repro.files import sha256, write_atomically
from repro.run_folder import RunFolder

MANIFEST: Final = "travel.json"
PART: Final = 16 * 2**20  # bytes of a part at most
RECORDS: Final = ("config.json", "metrics.csv", "failed.json")  # small: they always travel
MODEL: Final = "model.safetensors"
STATE: Final = ("last.ckpt", "selected-*.safetensors")
HISTOGRAMS: Final = "latent.csv"  # for the report alone


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        parts: Files written, the manifest last.
        carried: Runs by name, and how much of each: ``row``, ``model``, ``state``.
        left: What was too large, by run: bytes.
    """

    parts: tuple[Path, ...]
    carried: Mapping[str, tuple[str, ...]]
    left: Mapping[str, int]


def pack(
    names: Iterable[str],
    runs: Path,
    rows: Path,
    out: Path,
    *,
    limit: int,
    unfinished: str | None = None,
) -> Packed:
    """Write rows, records, models and state of runs to parts in ``out``, most valuable first.

    Rows and records of every run always travel. Models come next, the smallest first, then the
    state of the unfinished run, then histograms, each if it fits into what is left of the limit.

    Args:
        names: Runs of the campaign that have a folder or a row.
        runs: Folder of run folders.
        rows: Folder of rows.
        out: Folder of the parts; those of an earlier call are replaced.
        limit: Bytes of all parts together.
        unfinished: The run under way; the state of others is of no use any more.
    """
    names = list(names)
    chosen = {f"rows/{name}.json": rows / f"{name}.json" for name in names}
    for name in names:
        chosen |= {f"runs/{name}/{record}": runs / name / record for record in RECORDS}
    chosen = {member: path for member, path in chosen.items() if path.is_file()}
    used = sum(_in_archive(path) for path in chosen.values()) + 2 * tarfile.RECORDSIZE
    left: dict[str, int] = {}
    for name, paths in _by_value(names, runs, unfinished):
        size = sum(map(_in_archive, paths))
        if used + size > limit:
            left[name] = left.get(name, 0) + size
            continue
        used += size
        chosen |= {f"runs/{name}/{path.name}": path for path in paths}
    parts = _write_parts(_archive(chosen), out)
    manifest = {
        "parts": [{"name": p.name, "sha256": sha256(p)} for p in parts],
        "progress": {name: _progress(name, chosen) for name in names},
    }
    index = write_atomically(out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    _drop_others(out, {path.name for path in parts})
    carried = {name: _kinds(name, chosen) for name in names}
    return Packed((*parts, index), carried, left)


def _by_value(
    names: list[str], runs: Path, unfinished: str | None
) -> Iterator[tuple[str, list[Path]]]:
    """Yield what travels if it fits: models, the state of the open run, histograms."""
    models = {name: runs / name / MODEL for name in names}
    there = {name: path for name, path in models.items() if path.is_file()}
    for name in sorted(there, key=lambda name: there[name].stat().st_size):
        yield name, [there[name]]
    if unfinished is not None:
        found = [path for pattern in STATE for path in (runs / unfinished).glob(pattern)]
        if found:
            yield unfinished, found
    for name in names:
        if (path := runs / name / HISTOGRAMS).is_file():
            yield name, [path]


def _kinds(name: str, chosen: Mapping[str, Path]) -> tuple[str, ...]:
    """Return how much of a run is among the chosen members."""
    wanted = {
        "row": f"rows/{name}.json",
        "model": f"runs/{name}/{MODEL}",
        "state": f"runs/{name}/{STATE[0]}",
    }
    return tuple(kind for kind, member in wanted.items() if member in chosen)


def _progress(name: str, chosen: Mapping[str, Path]) -> list[int]:
    """Return `progress_of` a run as far as it travels."""
    kinds = _kinds(name, chosen)
    metrics = chosen.get(f"runs/{name}/metrics.csv")
    epochs = RunFolder(metrics.parent).epochs if metrics and "state" in kinds else 0
    return [int("row" in kinds), int("model" in kinds), epochs]


def _in_archive(path: Path) -> int:
    """Return how many bytes a file takes in an archive, its header included."""
    return (path.stat().st_size + 511) // 512 * 512 + 3 * 512


def _archive(members: Mapping[str, Path]) -> bytes:
    """Return a tar archive of the files; equal files make equal archives."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, path in members.items():
            content = path.read_bytes()
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _write_parts(content: bytes, out: Path) -> list[Path]:
    """Write the archive in parts, named by their content so that no old one is taken for new."""
    version = hashlib.sha256(content).hexdigest()[:8]
    parts = []
    for number, start in enumerate(range(0, len(content), PART)):
        path = out / f"{version}-{number:03}.part"
        write_atomically(path, content[start : start + PART])
        parts.append(path)
    return parts


def _drop_others(out: Path, kept: set[str]) -> None:
    """Delete the parts of earlier calls: the manifest does not name them any more."""
    for path in out.glob("*.part"):
        if path.name not in kept:
            path.unlink()


def unpack(source: Path, runs: Path, rows: Path) -> list[str]:
    """Put what was packed in place; return the runs that are now further on than they were here.

    Raises:
        UserError: It is absent, damaged or incomplete; then nothing was put in place.
    """
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text("utf-8"))
        parts = []
        for part in manifest["parts"]:
            data = (source / Path(part["name"]).name).read_bytes()
            if hashlib.sha256(data).hexdigest() != part["sha256"]:
                raise ValueError(f"{part['name']} is not what was packed")
            parts.append(data)
        members = _members(b"".join(parts))
        progress = {str(name): tuple(state) for name, state in manifest["progress"].items()}
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        raise UserError(
            f"{source} holds no campaign that can be taken over "
            f"({' '.join(str(error).split())}): bring {MANIFEST} and all parts again"
        ) from error
    taken = [n for n, there in progress.items() if there > progress_of(n, runs, rows)]
    for name in taken:
        _place(name, members, runs, rows)
    return taken


def _members(content: bytes) -> dict[str, bytes]:
    """Return the files of an archive by member name; raise ValueError for other members."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for entry in archive:
            parts = PurePosixPath(entry.name).parts
            plain = entry.isfile() and not {"..", "/"} & set(parts)
            if not plain or (parts[0], len(parts)) not in (("rows", 2), ("runs", 3)):
                raise ValueError(f"{entry.name} is not a file of a run")
            file = archive.extractfile(entry)
            assert file is not None
            found[entry.name] = file.read()
    return found


def _place(name: str, members: Mapping[str, bytes], runs: Path, rows: Path) -> None:
    """Write the files of one run, the row last: a row says that the run is done."""
    inside = {m: data for m, data in members.items() if m.startswith(f"runs/{name}/")}
    for member, data in inside.items():
        write_atomically(runs / name / PurePosixPath(member).name, data)
    if (row := members.get(f"rows/{name}.json")) is not None:
        write_atomically(rows / f"{name}.json", row)


def progress_of(name: str, runs: Path, rows: Path) -> tuple[int, int, int]:
    """Return how far a run is, to be compared: has a row, has a model, epochs with their state."""
    place = RunFolder.of(name, runs, rows)
    epochs = place.epochs if place.checkpoint.is_file() else 0
    return int(place.row.is_file()), int(place.model.is_file()), epochs
