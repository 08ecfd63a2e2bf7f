"""The packed weight file: written, read, described (``docs/packed_format.md``)."""

from repro.packing.file import (
    FORMAT,
    PackedFile,
    PackedFileError,
    PackedTensor,
    encoded,
    metadata,
    pack,
    read,
    unpack,
)

__all__ = [
    "FORMAT",
    "PackedFile",
    "PackedFileError",
    "PackedTensor",
    "encoded",
    "metadata",
    "pack",
    "read",
    "unpack",
]
