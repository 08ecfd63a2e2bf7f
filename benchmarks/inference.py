"""Images per second and peak memory of packed binary, packed ternary and FP32 weights on the CPU.

``python -m benchmarks.inference --network NETWORK`` takes the full-size network of a method with
random weights that let every layer fire, writes one file per precision, and runs them in turns in
one process. FP32 loads a plain safetensors file and runs as usual; packed forms count bits. In the
same run outputs are compared with the evaluation of a run: they must be equal bit for bit. Ratios
are those of rounds, by the clock and by processor time, which other work changes less. The firing
rate behind each layer is printed, and as a roofline the operations per second, as if every product
were dense, in units of those of a large float32 matrix product here.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import safetensors.torch
import torch
from torch import Tensor, nn

from benchmarks.cases import CASES, images
from benchmarks.device import operations, reachable
from benchmarks.measure import environment, interleaved, paired_ratio, peak_memory
from benchmarks.rates import firing_rates
from repro.build import build_network
from repro.cbp.layers import convert, prepare
from repro.cells import find_cell
from repro.deploy.packed_inference import load_packed_
from repro.methods.base import predictions
from repro.networks.convolution import to_channels_last_
from repro.packing import pack, unpack
from repro.run.evaluation import compute_in_codes_

NETWORKS: Final = {"stbp": "cifar10", "snn_calibration": "cifar100"}  # method -> data set
CLASSES: Final = {"cifar10": 10, "cifar100": 100}
PRECISIONS: Final = ("binary", "ternary")
FP32: Final = "FP32"
FORMS: Final = (FP32, *PRECISIONS)
CLEAR_PEAK: Final = "5"  # what /proc/self/clear_refs takes to forget the high-water mark


def network_of(method: str, time_steps: int, width: float, device: str = "cpu") -> nn.Module:
    """Return a network of the paper's recipe with fresh weights, in the memory format of a run."""
    recipe = replace(CASES[method].recipe, time_steps=time_steps, width=width)
    cell = find_cell(method, NETWORKS[method])
    torch.manual_seed(0)
    with torch.device(device):
        network = build_network(cell, recipe, CLASSES[cell.dataset], "cbp")
    to_channels_last_(network)
    return network


@torch.no_grad()
def write_files(folder: Path, method: str, time_steps: int, width: float) -> dict[str, int]:
    """Write a file per precision; return the bytes of each."""
    network = network_of(method, time_steps, width)
    CASES[method].enliven_(network)
    state = {name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(state, folder / FP32)
    sizes = {FP32: (folder / FP32).stat().st_size}
    for precision in PRECISIONS:
        network.load_state_dict(state)
        prepare(network, precision)
        levels = {f"{name}.weight": layer for name, layer in convert(network).items()}
        sizes[precision] = pack(folder / precision, network.state_dict(), levels)
    return sizes


def load(folder: Path, form: str, method: str, time_steps: int, width: float) -> nn.Module:
    """Return the network of a form."""
    torch.set_flush_denormal(True)
    if form == FP32:
        network = network_of(method, time_steps, width)
        network.load_state_dict(safetensors.torch.load_file(folder / FP32))
        return network.eval()
    network = network_of(method, time_steps, width, "meta")
    load_packed_(network, folder / form)
    return network


@torch.no_grad()
def run(network: nn.Module, batch: Tensor) -> Tensor:
    """Return the output of a batch."""
    output: Tensor = network(batch)
    return output


def load_and_run(
    folder: str, form: str, method: str, time_steps: int, width: float, size: int, forget: bool
) -> None:
    """Load a form and run a batch: what ``peak_memory`` measures.

    Args:
        folder: Of the files.
        form: Which.
        method: A key of ``NETWORKS``.
        time_steps: T.
        width: Fraction of the paper's channels.
        size: Images.
        forget: Whether the peak of the loading is left out.
    """
    network = load(Path(folder), form, method, time_steps, width)
    if forget:
        Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    run(network, images(size, time_steps))


def agreement(
    folder: Path, method: str, time_steps: int, width: float, size: int
) -> dict[str, str]:
    """Return how every packed form's outputs compare with the evaluation of a run."""
    batch, found = images(size, time_steps), {}
    for form in FORMS[1:]:
        whole = network_of(method, time_steps, width)
        state, levels = unpack(folder / form)
        whole.load_state_dict(state)
        compute_in_codes_(whole, levels)
        expected = run(whole.eval(), batch)
        del whole
        output = run(load(folder, form, method, time_steps, width), batch)
        same = int((predictions(output) == predictions(expected)).sum())
        equal = "equal bit for bit" if torch.equal(output, expected) else "not equal"
        found[form] = f"{equal}, {same} of {size} answers the same"
    return found


def peaks(
    folder: Path, method: str, time_steps: int, width: float, size: int, forget: bool
) -> dict[str, int]:
    """Return the peak memory of every form in bytes, each in a process of its own."""
    common = {"folder": str(folder), "method": method, "time_steps": time_steps, "width": width}
    common |= {"size": size, "forget": forget}
    target = "benchmarks.inference:load_and_run"
    return {form: peak_memory(target, {**common, "form": form}) for form in FORMS}


def measure(
    folder: Path, method: str, time_steps: int, width: float, size: int, repeats: int
) -> dict[str, object]:
    """Return everything about one batch size."""
    batch = images(size, time_steps)
    candidates: dict[str, Callable[[], object]] = {
        form: partial(run, load(folder, form, method, time_steps, width), batch) for form in FORMS
    }
    seconds = interleaved(candidates, repeats=repeats)
    processor = interleaved(candidates, repeats=repeats, clock=time.process_time)
    flop = operations(candidates[FP32])
    candidates.clear()
    peak = reachable()
    which = (folder, method, time_steps, width, size)
    return {
        "batch": size,
        "time_steps": time_steps,
        "width": width,
        "rounds": repeats,
        "images per second": {
            form: size / sorted(rounds)[len(rounds) // 2] for form, rounds in seconds.items()
        },
        "times the speed of FP32": {
            form: paired_ratio(seconds[FP32], seconds[form])._asdict() for form in FORMS[1:]
        },
        "times the speed of FP32, by processor time": {
            form: paired_ratio(processor[FP32], processor[form])._asdict() for form in FORMS[1:]
        },
        "roofline": {
            "FLOP of a batch, all products dense": flop,
            "FLOP/s of a matrix product": peak,
            "share of it": {form: flop / min(rounds) / peak for form, rounds in seconds.items()},
        },
        "outputs against the unpacked file": agreement(*which),
        "peak memory, bytes above the imports": peaks(*which, forget=False),
        "peak memory after loading": peaks(*which, forget=True),
    }


def arguments() -> argparse.Namespace:
    """Return the command line's choices; T is the network's own where none is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="stbp")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="images at a time")
    parser.add_argument("--time-steps", type=int)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    chosen.time_steps = chosen.time_steps or CASES[chosen.network].recipe.time_steps
    return chosen


def main() -> int:
    """Measure, print and write the result."""
    chosen = arguments()
    which = (chosen.network, chosen.time_steps, chosen.width)
    result: dict[str, object] = {"environment": environment(), "network": chosen.network}
    with tempfile.TemporaryDirectory() as folder:
        result["file, bytes"] = write_files(Path(folder), *which)
        batch, binary = images(1, chosen.time_steps), PRECISIONS[0]
        result["spikes per neuron and step"] = {
            form: firing_rates(load(Path(folder), form, *which), batch) for form in (FP32, binary)
        }
        result["inference"] = [
            measure(Path(folder), *which, size, chosen.repeats) for size in chosen.batch
        ]
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
