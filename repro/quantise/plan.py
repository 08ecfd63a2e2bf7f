"""What CBP would do to a network, in words: layers, levels, memory before and after."""

from collections.abc import Mapping

from torch import Tensor, nn

from repro import memory
from repro.cbp.levels import LEVELS, LayerLevels, Levels
from repro.cbp.selection import find_layers
from repro.table import Table

HEADER = ("layer", "shape", "levels", "scale", "bits", "FP32 bytes", "packed bytes")


def plan_in_words(network: nn.Module, levels: Mapping[str, Levels], width: int) -> str:
    """Return the table of layers of a plain network and two lines about memory."""
    layers = find_layers(network)
    lines = tuple(_line(name, layer.weight, levels.get(name)) for name, layer in layers.items())
    title = f"{len(levels)} of {len(layers)} convolutions and linear layers quantised"
    table = Table(title, HEADER, lines)
    return f"{table.to_terminal(width).rstrip()}\n\n{memory_in_words(network, levels)}"


def _line(name: str, weight: Tensor, levels: Levels | None) -> tuple[str, ...]:
    """Return the cells of one layer."""
    shape, count = "x".join(map(str, weight.shape)), weight.numel()
    full = f"{4 * count:,}"
    if levels is None:
        return (name, shape, "FP32", "", "32", full, full)
    packed = memory.packed_bytes(count, levels.bits)
    return (name, shape, level_name(levels), _scale(levels), f"{levels.bits}", full, f"{packed:,}")


def level_name(levels: Levels) -> str:
    """Return the name of a level set, or its unscaled levels.

    >>> level_name(LayerLevels((-1.0, 1.0), 0.3)), level_name(LayerLevels((-1.0, 2.0), 0.3))
    ('binary', '-1, 2')
    """
    names = {values: name for name, values in LEVELS.items()}
    return names.get(levels.levels) or ", ".join(f"{level:g}" for level in levels.levels)


def _scale(levels: Levels) -> str:
    """Return the scale, or the number of scales and their range."""
    if isinstance(levels, LayerLevels):
        return f"{levels.scale:.4g}"
    return f"{len(levels.scales)}: {min(levels.scales):.3g}..{max(levels.scales):.3g}"


def memory_in_words(network: nn.Module, levels: Mapping[str, Levels]) -> str:
    """Return weight memory and the memory of all tensors, before and after, in both conventions."""
    bits = {name: chosen.bits for name, chosen in levels.items()}
    scales = {
        name: 1 if isinstance(chosen, LayerLevels) else len(chosen.scales)
        for name, chosen in levels.items()
    }
    before, after = memory.count(network, {}), memory.count(network, bits, scales)
    whole, packed = before.everything_bytes, after.everything_bytes
    return (
        f"weights of these layers: {after.fp32_bytes:,} bytes in FP32, "
        f"{after.weights_only_bytes:,} packed, {after.ratio:.2%}\n"
        f"all tensors: {whole:,} bytes as they are, {packed:,} packed, {packed / whole:.2%}; "
        "the file has a header beside them"
    )
