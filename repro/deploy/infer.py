"""Evaluate a cell's packed file without unpacking it: accuracy, images per second, memory."""

import time

import torch
from torch import Tensor, nn

from repro.deploy.packed_inference import Loaded
from repro.deploy.packed_run import PackedCell
from repro.device.machine import peak_resident
from repro.methods.base import predictions
from repro.packing import unpack
from repro.run.evaluation import compute_in_codes_, load_weights


def infer_in_words(cell: PackedCell, compare: bool) -> str:
    """Return what an evaluation of the packed file found, as text.

    Args:
        cell: The file and its test images.
        compare: Also evaluate the unpacked network as a run does, and say how far outputs and
            answers agree.
    """
    torch.set_flush_denormal(True)  # as a run does
    network, loaded = cell.load()
    warm_up(network, cell)
    right, seconds, outputs = evaluate(network, cell, keep=compare)
    lines = [
        f"{cell.spec.key}: {100 * float(right.float().mean()):.2f} % of {len(right):,} test images"
        f", from {cell.file}",
        memory_in_words(loaded),
        f"{len(right) / seconds:,.1f} images/s in batches of {cell.data.batch_size}, "
        f"{torch.get_num_threads()} threads",
    ]
    if peak := peak_resident():
        lines.append(f"peak memory of the process {peak / 1e6:,.0f} MB, with libraries and images")
    if compare:
        lines.append(comparison(cell, right, outputs))
    return "\n".join(lines)


def memory_in_words(loaded: Loaded) -> str:
    """Return the memory of the quantised weights as text."""
    counted, decoded = len(loaded.counted), len(loaded.decoded)
    rest = f", {decoded} decoded whenever they are read" if decoded else ""
    return (
        f"{counted + decoded} quantised layers: {loaded.packed_bytes / 1e6:,.3f} MB packed, "
        f"{loaded.unpacked_bytes / 1e6:,.3f} MB unpacked; {counted} are counted as bits{rest}"
    )


def warm_up(network: nn.Module, cell: PackedCell) -> None:
    """Show one image, so that kernels are loaded before the time counts."""
    images, _ = next(cell.batches())
    with torch.no_grad():
        network(images[:1])


def evaluate(
    network: nn.Module, cell: PackedCell, keep: bool
) -> tuple[Tensor, float, list[Tensor]]:
    """Return which answers are right ``[N]``, seconds of the network alone, outputs if kept."""
    right, outputs, seconds = [], [], 0.0
    for images, labels in cell.batches():
        start = time.perf_counter()
        with torch.no_grad():
            output = network(images)
        seconds += time.perf_counter() - start
        right.append(predictions(output) == labels)
        if keep:
            outputs.append(output)
    return torch.cat(right), seconds, outputs


def comparison(cell: PackedCell, right: Tensor, outputs: list[Tensor]) -> str:
    """Return how the packed network compares with the unpacked one, evaluated as a run does.

    Args:
        cell: The file and its test images.
        right: Which answers of the packed network are right ``[N]``.
        outputs: Its outputs, by batch.
    """
    whole = cell.empty_network("cpu")
    state, levels = unpack(cell.file)
    load_weights(whole, state, str(cell.file))
    compute_in_codes_(whole, levels)
    whole.eval()
    warm_up(whole, cell)
    expected, took, outputs_unpacked = evaluate(whole, cell, keep=True)
    pairs = list(zip(outputs, outputs_unpacked, strict=True))
    equal = all(torch.equal(mine, other) for mine, other in pairs)
    furthest = max(float((mine - other).abs().max()) for mine, other in pairs)
    how = "equal bit for bit" if equal else f"differ by up to {furthest:.3g}"
    return (
        f"unpacked: outputs {how}, {int((right != expected).sum())} answers right in one only; "
        f"{len(expected) / took:,.1f} images/s, measured after the packed network, not in turns"
    )
