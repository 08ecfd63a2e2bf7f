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
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from datamodules.cifar import Name, absent_files, md5_by_file, read_verified
from datamodules.errors import DataError
from repro.errors import in_words
from repro.files import below, write_atomically
from repro.schema import STRICT, Count, parse

SIDE: Final = 32
COLUMNS: Final = 10  # images side by side; a picture may have at most 16,383 lines
PIECE: Final = 5_000  # images a shard, below 16 MiB
BATCH: Final = 10_000  # images of an official file, or a part of one
INDEX: Final = "shards.json"
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, config=STRICT | ConfigDict(extra="ignore"))
class Entry:
    """An official file in the index.

    Attributes:
        file: Its path in the data folder.
        offset: Where its pixels begin, bytes.
        parts: Files with what surrounds the pixels, and with the pixels.
    """

    file: str
    offset: Count
    parts: list[str]


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
    index, paths = list[Entry](), list[Path]()
    for name in md5_by_file(dataset):
        content = (data_dir / name).read_bytes()
        pixels, offset = _find(content, batches)
        rest = content[:offset] + content[offset + pixels.nbytes :]
        stem = name.replace("/", "-")
        pieces = np.split(pixels, range(PIECE, len(pixels), PIECE)) if len(pixels) else []
        parts = {f"{stem}-{n}.webp": encode(piece) for n, piece in enumerate(pieces)}
        parts = {f"{stem}.rest.xz": lzma.compress(rest), **parts}
        for part, data in parts.items():
            paths.append(write_atomically(out / part, data))
        index.append(Entry(name, offset, list(parts)))
    paths.append(write_atomically(out / INDEX, json.dumps(list(map(vars, index)), indent=1)))
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

    Raises:
        DataError: A shard is absent or damaged, or a file that is there is damaged.
    """
    absent = absent_files(dataset, data_dir)
    if not absent:
        return False
    try:
        index = {entry.file: entry for entry in parse((shards / INDEX).read_bytes(), list[Entry])}
        for name in absent:
            content = _content(index[name], shards)
            if hashlib.md5(content).hexdigest() != md5_by_file(dataset)[name]:
                raise ValueError(f"{name} would not have its official md5")
            write_atomically(data_dir / name, content)
    except (OSError, ValueError, KeyError, lzma.LZMAError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{dataset} cannot be restored from {shards} ({in_words(error)}): write the shards anew"
        ) from error
    return True


def _content(entry: Entry, shards: Path) -> bytes:
    """Return the content of an official file from its shards."""
    rest, *pictures = (below(shards, part).read_bytes() for part in entry.parts)
    around = lzma.decompress(rest)
    return b"".join([around[: entry.offset], *map(decode, pictures), around[entry.offset :]])
