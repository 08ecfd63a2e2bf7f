"""What is in a packed weight file, in words."""

import math
from pathlib import Path

from repro.cbp.levels import LayerLevels
from repro.packing import PackedTensor, read


def describe(path: str | Path) -> str:
    """Return a verified file's contents as text: one line per weight tensor, totals, metadata.

    Weight tensors are the quantised ones and those of two or more dimensions, in these networks
    the weights of Conv and Linear layers: the file itself knows no layer types. Sizes in bytes.
    """
    contents = read(Path(path))
    rows = [("tensor", "shape", "levels", "scale", "bits", "weights", "bytes", "FP32", "share")]
    packed = full = other = 0
    for name, tensor in contents.tensors.items():
        layer = contents.layers.get(name)
        shape = layer.shape if layer else tuple(tensor.shape)
        if layer is None and len(shape) < 2:
            other += tensor.nbytes
            continue
        count, size = math.prod(shape), tensor.nbytes
        packed, full = packed + size, full + 4 * count
        bits = layer.levels.bits if layer else 8 * tensor.element_size()
        quantised = (_level_names(layer), _scale(layer)) if layer else ("", "")
        counts = (f"{bits}", f"{count:,}", f"{size:,}", f"{4 * count:,}", _share(size, 4 * count))
        rows.append((name, "x".join(map(str, shape)), *quantised, *counts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    file_bytes, whole = contents.file_bytes, full + other
    lines += [
        f"weights only: {packed:,} bytes, {_share(packed, full)} of {full:,} at FP32",
        f"whole file: {file_bytes:,} bytes, {_share(file_bytes, whole)} of {whole:,} at FP32",
        f"sha256: {contents.digest} (verified)",
    ]
    return "\n".join(lines + [f"{key}: {value}" for key, value in contents.metadata.items()])


def _share(size: int, whole: int) -> str:
    """Return ``size / whole`` in percent."""
    return f"{size / whole:.2%}" if whole else "n/a"


def _scale(layer: PackedTensor) -> str:
    """Return the scale, or the smallest and the largest of the channels."""
    if isinstance(layer.levels, LayerLevels):
        return f"{layer.levels.scale:.6g}"
    scales = layer.levels.scales or (0.0,)
    return f"{min(scales):.4g}..{max(scales):.4g}"


def _level_names(layer: PackedTensor) -> str:
    """Return the levels in terms of the scale a, for example ``-a, 0, +a``."""
    short = {-1.0: "-a", 0.0: "0", 1.0: "+a"}
    return ", ".join(short.get(level, f"{level:+g}a") for level in layer.levels.levels)
