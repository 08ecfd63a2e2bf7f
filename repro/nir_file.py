"""From a packed file to the file of a NIR graph."""

from pathlib import Path

from torch import Tensor

from repro import packing
from repro.cbp.levels import Levels
from repro.evaluation import load_weights
from repro.methods.build import build_network, phase_of
from repro.nir_export import import_nir, to_nir, write_nir
from repro.packed_cell import origin_of


def export_nir(source: Path, out: Path | None) -> str:
    """Write the graph of a packed file; return what is in it, in words.

    Args:
        source: Packed file, or the folder of a finished run.
        out: File to write; None for the run's name in this folder.

    Raises:
        UserError: The source is no packed file of a cell, or NIR cannot express its network.
    """
    import_nir()
    file, key, recipe = origin_of(source)
    state, levels = packing.unpack(file)
    plain = [tensor for name, tensor in state.items() if tensor.dim() > 1 and name not in levels]
    classes = len(plain[-1])  # the last layer stays FP32
    network = build_network(key.cell, recipe, classes, phase_of(key)).eval()
    load_weights(network, state, str(file))
    path = out or Path(f"{key}.nir")
    write_nir(to_nir(network, levels), path)
    return in_words(path, str(key), levels, state)


def in_words(path: Path, run: str, levels: dict[str, Levels], state: dict[str, Tensor]) -> str:
    """Return what was written."""
    whole = sum(state[name].numel() for name in levels)
    weights = sum(tensor.numel() for tensor in state.values() if tensor.dim() > 1)
    return (
        f"{path}: NIR graph of {run}, {path.stat().st_size:,} bytes; {whole:,} of {weights:,} "
        f"weights are whole numbers, in {len(levels)} layers, each with scale and bits"
    )
