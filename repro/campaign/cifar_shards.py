"""CIFAR in small files: lossless mosaics for machines that cannot download the official archives.

A shard is one WebP picture of up to 5,000 images, about 55 % of their size; what the official files
hold besides pixels (labels, names) is compressed beside it. `restore` makes the official files
again, byte for byte, and checks their official md5.
"""

import hashlib
import io
import json
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from datamodules.cifar import Name, absent_files, md5_by_file, read_verified
from datamodules.errors import DataError
from repro.files import write_atomically

SIDE: Final = 32
COLUMNS: Final = 10  # images side by side; a picture may have at most 16,383 lines
PIECE: Final = 5_000  # images a shard, below 16 MiB
BATCH: Final = 10_000  # images of an official file, or a part of one
INDEX: Final = "shards.json"
Pixels = npt.NDArray[np.uint8]


def write_shards(dataset: Name, data_dir: Path, out: Path) -> list[Path]:
    """Write a data set's shards and return their paths, the index last.

    Args:
        dataset: ``cifar10`` or ``cifar100``.
        data_dir: Folder of the data set; fetched there if it is absent.
        out: Folder of the shards, one for each data set.
    """
    train, test = read_verified(dataset, data_dir)
    out.mkdir(parents=True, exist_ok=True)
    images = [part.images.numpy().reshape(-1, BATCH, 3, SIDE, SIDE) for part in (train, test)]
    batches = [batch for part in images for batch in part]
    index, paths = [], []
    for name, md5 in md5_by_file(dataset).items():
        content = (data_dir / name).read_bytes()
        pixels, offset = _find(content, batches)
        rest = content[:offset] + content[offset + pixels.nbytes :]
        stem = name.replace("/", "-")
        pieces = np.split(pixels, range(PIECE, len(pixels), PIECE)) if len(pixels) else []
        parts = {f"{stem}-{n}.webp": encode(piece) for n, piece in enumerate(pieces)}
        parts = {f"{stem}.rest.xz": lzma.compress(rest), **parts}
        for part, data in parts.items():
            paths.append(write_atomically(out / part, data))
        index.append({"file": name, "md5": md5, "offset": offset, "parts": list(parts)})
    paths.append(write_atomically(out / INDEX, json.dumps(index, indent=1).encode()))
    return paths


def _find(content: bytes, batches: Sequence[Pixels]) -> tuple[Pixels, int]:
    """Return the pixels ``[N, 3, 32, 32]`` that a file holds and where; none, 0 if it has none."""
    for first in range(len(batches)):
        offset = content.find(batches[first].tobytes()[: SIDE * SIDE * 3])
        if offset < 0:
            continue
        pixels = batches[first]
        for batch in batches[first + 1 :]:  # CIFAR-100 has one file of all training images
            longer = np.concatenate([pixels, batch])
            if content[offset : offset + longer.nbytes] != longer.tobytes():
                break
            pixels = longer
        if content[offset : offset + pixels.nbytes] == pixels.tobytes():
            return pixels, offset
    return np.zeros((0, 3, SIDE, SIDE), np.uint8), 0


def encode(pixels: Pixels) -> bytes:
    """Return images ``[N, 3, 32, 32]`` as one lossless WebP picture; N a multiple of 10."""
    rows = pixels.reshape(-1, COLUMNS, 3, SIDE, SIDE).transpose(0, 3, 1, 4, 2)
    picture = Image.fromarray(np.ascontiguousarray(rows).reshape(-1, COLUMNS * SIDE, 3))
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=True, quality=80, method=4)
    return file.getvalue()


def decode(data: bytes) -> bytes:
    """Return the bytes of the images ``[N, 3, 32, 32]`` that `encode` was given."""
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    rows = picture.reshape(-1, SIDE, COLUMNS, SIDE, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(rows).tobytes()


def restore(dataset: Name, shards: Path, data_dir: Path) -> bool:
    """Make the official files that are absent; return whether any was.

    Args:
        dataset: ``cifar10`` or ``cifar100``.
        shards: Folder that `write_shards` filled.
        data_dir: Folder of the data set.

    Raises:
        DataError: A shard is absent or damaged, or a file that is there is damaged.
    """
    absent = set(absent_files(dataset, data_dir))
    if not absent:
        return False
    try:
        index: list[dict[str, Any]] = json.loads((shards / INDEX).read_text("utf-8"))
        wanted = [entry for entry in index if entry["file"] in absent]
        for entry in wanted:
            _restore_file(entry, shards, data_dir)
    except (OSError, ValueError, KeyError, TypeError, lzma.LZMAError) as error:
        raise DataError(
            f"{dataset} cannot be restored from {shards} ({' '.join(str(error).split())}): write "
            "the shards anew"
        ) from error
    if left := absent - {entry["file"] for entry in wanted}:
        raise DataError(f"{shards} has no {', '.join(sorted(left))}: write the shards anew")
    return True


def _restore_file(entry: dict[str, Any], shards: Path, data_dir: Path) -> None:
    """Make one official file; raise ValueError if it is not the official one."""
    rest, *pictures = ((shards / part).read_bytes() for part in entry["parts"])
    around, offset = lzma.decompress(rest), int(entry["offset"])
    content = around[:offset] + b"".join(map(decode, pictures)) + around[offset:]
    if hashlib.md5(content).hexdigest() != entry["md5"]:
        raise ValueError(f"{entry['file']} would not have its md5")
    path = data_dir / entry["file"]
    write_atomically(path, content)
