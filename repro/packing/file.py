"""The packed weight file: level indices of 1 to 3 bits per weight, everything else as it is.

The container is safetensors: an 8-byte length, a JSON header, the tensors' bytes. A quantised
tensor is a ``U8`` tensor of densely packed indices; the header tells its levels, scale, shape
and data type. A sha256 over the whole file stands at a fixed place in the header.
``docs/packed_format.md`` describes every byte; this module reads versions 1 and 2, and writes 2
only where a weight has a scale per channel (``repro.packing.channel_scales``).
"""

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from repro.cbp.levels import ChannelLevels, LayerLevels, Levels
from repro.errors import UserError
from repro.files import replacing
from repro.memory import packed_bytes
from repro.packing import channel_scales
from repro.packing.bits import decode, encode, greatest

FORMAT: Final = "cbp-qsnn-packed"
VERSION: Final = "1"
VERSION_CHANNELS: Final = "2"  # where a weight has a scale per channel

Bytes = npt.NDArray[np.uint8]

_PREFIX: Final = b'{"__metadata__":{"sha256":"'  # every file has this at byte 8
_DIGEST: Final = slice(8 + len(_PREFIX), 8 + len(_PREFIX) + 64)
_CHUNK: Final = 1 << 18  # weights at a time; a multiple of 8, so chunks meet at whole bytes
_DTYPES: Final[dict[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_DTYPE_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}
_INTEGERS: Final = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a weight
_WRONG: Final = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class PackedFileError(UserError):
    """A packed file cannot be read: which file, what is wrong, what to do."""


def _error(path: Path, wrong: str, remedy: str = "") -> PackedFileError:
    """Return the one line."""
    return PackedFileError(f"{path}: {wrong}: {remedy or 'copy the file again or write it anew'}")


@dataclass(frozen=True)
class PackedTensor:
    """Header entry of one quantised tensor.

    Attributes:
        levels: Its levels and scale.
        shape: Of the weights.
        dtype: Of the weights, floating-point.
    """

    levels: Levels
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class PackedFile:
    """A verified file.

    Attributes:
        tensors: By name, in the order of the state dict: packed bytes, uint8 and one-dimensional,
            where ``layers`` has the name, all others as they are.
        layers: The quantised tensors.
        metadata: What the writer noted.
        digest: Its sha256, 64 hexadecimal digits.
        file_bytes: Its size.
    """

    tensors: dict[str, Tensor]
    layers: dict[str, PackedTensor]
    metadata: dict[str, str]
    digest: str
    file_bytes: int


def pack(
    path: str | Path,
    network: nn.Module | Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write a converted network; return the size of the file in bytes.

    The same arguments give the same bytes; the file appears under its name only when complete.

    Args:
        path: File to write; an existing one is replaced.
        network: The network, or its state dict, tensors of any shape and device; not changed.
        levels: What ``convert`` returned: layer, for example ``conv2``, or tensor, for example
            ``conv2.weight``, -> its levels. These weights are stored as level indices of
            ``LayerLevels.bits`` bits, the rest as it is.
        metadata: What the reader should know: run key, commit, recipe hash.

    Raises:
        UserError: A weight is not bit for bit a level, a name or a data type is unknown, the
            levels are unusable, or the file cannot be written.
    """
    parts = encoded(network, levels, metadata)
    size = sum(memoryview(part).nbytes for part in parts)
    with replacing(Path(path), size) as file:
        file.writelines(parts)
    return size


def encoded(
    network: nn.Module | Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    metadata: Mapping[str, str] | None = None,
) -> list[bytearray | memoryview]:
    """Return what `pack` would write, in parts; arguments and errors are the same."""
    state = network.state_dict() if isinstance(network, nn.Module) else network
    of_layers = {f"{name}.weight" for name in levels} & state.keys()
    layers = {
        tensor if (tensor := f"{name}.weight") in of_layers else name: found
        for name, found in levels.items()
    }
    _check(state, layers)
    by_channel = {name for name, levels in layers.items() if isinstance(levels, ChannelLevels)}
    state, single = channel_scales.split(state, layers)
    # Widest elements first: every tensor starts at a multiple of its element size.
    widths = {name: state[name].element_size() if name not in single else 1 for name in state}
    payload = {
        name: _encode(name, state[name], single.get(name))
        for name in sorted(state, key=lambda name: (-widths[name], name))
    }
    header = _header(state, single, payload, dict(metadata or {}), by_channel)
    parts: list[bytearray | memoryview] = [header, *(codes.data for codes in payload.values())]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    header[_DIGEST] = digest.hexdigest().encode()
    return parts


def _check(state: Mapping[str, Tensor], layers: Mapping[str, Levels]) -> None:
    """Raise UserError for names and data types that cannot be stored, and unusable levels."""
    if unknown := sorted(set(layers) - set(state)):
        raise UserError(f"levels for {unknown}, but the state dict has only {list(state)}")
    for name, tensor in state.items():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        plain = isinstance(tensor, Tensor) and tensor.layout == torch.strided
        if name == "__metadata__" or kind not in _DTYPE_NAMES or not plain or tensor.is_meta:
            raise UserError(
                f"{name}, {kind}, cannot be stored: a packed file holds tensors of "
                f"{', '.join(_DTYPES)} under any name but __metadata__"
            )
    for name, levels in layers.items():
        dtype = state[name].dtype
        scale = levels.scale if isinstance(levels, LayerLevels) else min(levels.scales, default=1)
        if not (_usable(levels, dtype) and dtype.is_floating_point):
            raise UserError(
                f"{name}, {dtype}: levels {levels.levels} times scale {scale} must be 2 to"
                " 256 finite ascending values of a floating-point type, the scale above 0"
            )


def _usable(levels: Levels, dtype: torch.dtype) -> bool:
    """Return whether the levels are 2 to 256, finite and ascending, and their scales above 0."""
    values = levels.values(dtype)
    scales = (levels.scale,) if isinstance(levels, LayerLevels) else levels.scales
    ascending = bool(values.isfinite().all() and (values.diff() > 0).all())
    return ascending and 2 <= len(levels.levels) <= 256 and all(scale > 0 for scale in scales)


def _encode(name: str, tensor: Tensor, levels: LayerLevels | None) -> Bytes:
    """Return the bytes of a tensor, or its level indices, ``bits`` each, lowest bit first."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if levels is None:
        return flat.view(torch.uint8).numpy()
    integer = _INTEGERS[tensor.element_size()]  # compare bits: -0.0 is not the level 0.0
    words, bits, strangers = flat.view(integer).numpy(), levels.bits, 0
    patterns = levels.values(tensor.dtype).view(integer).tolist()
    packed = np.empty(packed_bytes(len(words), bits), np.uint8)
    for start in range(0, len(words), _CHUNK):
        chunk = words[start : start + _CHUNK]
        index = np.zeros(len(chunk), np.uint8)
        known = chunk == patterns[0]
        for position, pattern in enumerate(patterns[1:], start=1):
            equal = chunk == pattern
            known |= equal
            index += equal * np.uint8(position)
        strangers += len(chunk) - int(np.count_nonzero(known))
        encode(index, bits, packed[start * bits // 8 :])
    if strangers:
        raise UserError(
            f"{name}: {strangers} of {len(words)} weights are not levels"
            f" {levels.values(tensor.dtype).tolist()}: convert the network before packing it"
        )
    return packed


def _header(
    state: Mapping[str, Tensor],
    layers: Mapping[str, LayerLevels],
    payload: Mapping[str, Bytes],
    metadata: dict[str, str],
    by_channel: Collection[str],
) -> bytearray:
    """Return length and JSON header, the checksum still 64 zeros.

    Entries in the order of ``state``, their bytes in that of ``payload``. Built here because
    safetensors writes its metadata in random order.
    """
    offsets, end = {}, 0
    for name, codes in payload.items():
        offsets[name] = [end, end + codes.nbytes]
        end += codes.nbytes
    described: dict[str, dict[str, Any]] = {}
    entries = {}
    for name, tensor in state.items():
        stored, shape = _DTYPE_NAMES[tensor.dtype], list(tensor.shape)
        if name in layers:
            described[name] = {
                "bits": layers[name].bits,
                "levels": list(layers[name].levels),
                "scale": float(layers[name].scale).hex(),  # exact
                "dtype": stored,
                "shape": shape,
            }
            if name in by_channel:
                described[name]["scales"] = name + channel_scales.SUFFIX
            stored, shape = "U8", [payload[name].nbytes]
        entries[name] = {"dtype": stored, "shape": shape, "data_offsets": offsets[name]}
    about = {
        "sha256": "0" * 64,
        "format": FORMAT,
        "version": VERSION_CHANNELS if by_channel else VERSION,
        "layers": _dumps(described),
        "metadata": _dumps(dict(sorted(metadata.items()))),
    }
    text = _dumps({"__metadata__": about, **entries}).encode("ascii")
    text += b" " * (-len(text) % 8)  # the payload starts at a multiple of 8
    return bytearray(len(text).to_bytes(8, "little") + text)


def _dumps(value: object) -> str:
    """Return compact ASCII JSON, keys in the order given."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def unpack(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Levels]]:
    """Return the state dict bit for bit, on the CPU in its original order, and the levels.

    Args:
        path: File written by :func:`pack`.

    Returns:
        The two mappings that :func:`pack` was given.

    Raises:
        PackedFileError: The file is missing, foreign, truncated, damaged or of a newer version.
    """
    contents = read(Path(path))
    state = dict(contents.tensors)
    state |= {name: _decode(state[name], layer) for name, layer in contents.layers.items()}
    return state, {name: layer.levels for name, layer in contents.layers.items()}


def metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata that :func:`pack` was given, by key in alphabetical order.

    Raises:
        PackedFileError: As in :func:`unpack`; the whole file is verified.
    """
    return read(Path(path)).metadata


def _decode(packed: Tensor, layer: PackedTensor) -> Tensor:
    """Return the weights of one tensor."""
    if isinstance(layer.levels, ChannelLevels):
        single = PackedTensor(LayerLevels(layer.levels.levels, 1.0), layer.shape, layer.dtype)
        return channel_scales.scaled(_decode(packed, single), layer.levels)
    integer = _INTEGERS[layer.dtype.itemsize]
    patterns = layer.levels.values(layer.dtype).view(integer).numpy()
    weight = torch.empty(layer.shape, dtype=layer.dtype)
    words = weight.reshape(-1).view(integer).numpy()
    decode(packed.numpy(), layer.levels.bits, patterns, words)
    return weight


def read(path: Path) -> PackedFile:
    """Return the contents of a file, weights still packed, after checking every byte of it.

    Raises:
        PackedFileError: As in :func:`unpack`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        remedy = "give the path of a packed weight file"
        raise _error(path, f"cannot read ({error.strerror})", remedy) from error
    header = _read_header(path, data)
    view = memoryview(data)
    digest = hashlib.sha256(view[: _DIGEST.start])
    digest.update(b"0" * 64)
    digest.update(view[_DIGEST.stop :])
    if digest.hexdigest().encode() != data[_DIGEST]:
        raise _error(path, "damaged, its sha256 is not the one written in it")
    try:
        described = json.loads(header["__metadata__"]["layers"])
        tensors = safetensors.torch.load(data)
        layers = {name: _layer(entry, tensors) for name, entry in described.items()}
        for name, layer in layers.items():
            count, bits = math.prod(layer.shape), layer.levels.bits
            codes, size = tensors[name], packed_bytes(count, bits)
            if codes.dtype != torch.uint8 or codes.shape != (size,):
                raise ValueError(f"{name} does not hold {size} packed bytes")
            last = greatest(codes.numpy(), bits, count)
            if last >= (known := len(layer.levels.levels)):
                raise IndexError(f"{name} has level index {last}, there are {known} levels")
        return PackedFile(
            tensors={name: tensors[name] for name in header if name in tensors},
            layers=layers,
            metadata=dict(json.loads(header["__metadata__"]["metadata"])),
            digest=digest.hexdigest(),
            file_bytes=len(data),
        )
    except (*_WRONG, SafetensorError) as error:
        raise _error(path, f"contents contradict each other ({error!r})") from error


def _read_header(path: Path, data: bytes) -> dict[str, Any]:
    """Return the parsed header of a file of this format, this version and the right length."""
    if data[8 : 8 + len(_PREFIX)] != _PREFIX[: max(0, len(data) - 8)]:
        remedy = "give a file that `python -m repro export` wrote"
        raise _error(path, f"not a {FORMAT} file, or its first bytes are damaged", remedy)
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < max(start, _DIGEST.stop):
        raise _error(path, f"truncated or damaged, the header ends at byte {start}")
    try:
        header = dict(json.loads(data[8:start].decode("ascii")))
        found = (header["__metadata__"]["format"], header["__metadata__"]["version"])
        if found not in ((FORMAT, VERSION), (FORMAT, VERSION_CHANNELS)):
            known = f"{FORMAT} version {VERSION} or {VERSION_CHANNELS}"
            wrong = f"{found[0]} version {found[1]}, not {known}"
            raise _error(path, wrong, "read it with the program version that wrote it")
        ends = [header[name]["data_offsets"][1] for name in header if name != "__metadata__"]
        size = start + max(ends, default=0)
    except PackedFileError:
        raise
    except _WRONG as error:
        raise _error(path, "the header is damaged") from error
    if len(data) != size:
        raise _error(path, f"truncated or damaged, {len(data)} bytes instead of {size}")
    return header


def _layer(entry: dict[str, Any], tensors: dict[str, Tensor]) -> PackedTensor:
    """Return a layer's header entry, take its scales out of ``tensors``.

    Raises KeyError, TypeError or ValueError if it is wrong.
    """
    unscaled, scale = tuple(map(float, entry["levels"])), float.fromhex(entry["scale"])
    levels: Levels = LayerLevels(unscaled, scale)
    if "scales" in entry:
        levels = ChannelLevels(unscaled, tuple(tensors.pop(entry["scales"]).tolist()))
        if scale != 1 or len(levels.scales) != entry["shape"][0]:
            raise ValueError(f"scale {scale} and {len(levels.scales)} scales")
    layer = PackedTensor(levels, tuple(map(int, entry["shape"])), _DTYPES[entry["dtype"]])
    if levels.bits != entry["bits"] or not 1 <= levels.bits <= 8:
        raise ValueError(f"{entry['bits']} bits for {len(levels.levels)} levels")
    if not layer.dtype.is_floating_point or min(layer.shape, default=0) < 0:
        raise ValueError(f"dtype {entry['dtype']}, shape {entry['shape']}")
    if not _usable(levels, layer.dtype):
        raise ValueError(f"levels {unscaled} times scale {scale}")
    return layer
