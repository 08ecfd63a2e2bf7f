"""Run a NIR graph in another framework; started by its own Python, with nothing of ours.

``python in_reader.py FRAMEWORK GRAPH INPUTS OUT [--as-read]``: INPUTS are ``[T, B, C, H, W]`` in a
npy file; OUT gets the outputs ``[T, B, ...]`` of the nodes of neurons and of the network, by name,
as npz. What a framework's reader does not get right is corrected after reading, as the functions
``set_...`` and the comments say; ``--as-read`` leaves that out. Prints the versions.
"""

import contextlib
import graphlib
import io
import logging
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

warnings.simplefilter("ignore")
logging.disable()


def by_subtraction(node: Any) -> bool:
    said = node.metadata.get("reset", b"")
    said = said.encode() if isinstance(said, str) else bytes(said)
    return said.startswith(b"by subtraction")


def first_potential(node: Any) -> Tensor | None:
    found = node.metadata.get("v_init")
    return None if found is None else torch.tensor(found)


def in_snntorch(graph: Any, corrected: bool) -> nn.Module:
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it rescales
        network: nn.Module = import_from_nir(graph)
    for name, node in graph.nodes.items():
        if corrected and type(node).__name__ == "IF":
            set_snntorch(network.get_submodule(name), node)
    return network


def set_snntorch(neurons: Any, node: Any) -> None:
    """No leak, where the reader has 0.9; spikes alone, where it returns potentials, too; reset.

    snnTorch resets before a step, too, where the potential is still above the threshold after a
    reset by subtraction.
    """
    neurons.mem_reset = torch.zeros_like
    neurons.beta = torch.ones_like(neurons.beta)
    neurons.init_hidden = True
    neurons.reset_mechanism_val = torch.tensor(0 if by_subtraction(node) else 1)


def in_norse(graph: Any, corrected: bool) -> nn.Module:
    from norse.torch import from_nir

    network: Any = from_nir(graph, dt=float(graph.metadata["dt"]))
    if corrected:  # the reader goes depth first, and meets nodes before all of their inputs
        sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for start, end in graph.edges:
            sources[end].append(start)
        order = [*graphlib.TopologicalSorter(sources).static_order()]
        network.execution_order.sort(key=lambda node: order.index(node.name))
    return network


def in_spikingjelly(graph: Any, corrected: bool) -> nn.Module:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    network: nn.Module = import_from_nir(graph, dt=float(graph.metadata["dt"]))
    for name, node in graph.nodes.items():
        if corrected and type(node).__name__ == "IF" and by_subtraction(node):
            network.get_submodule(name).module.v_reset = None  # type: ignore[union-attr]
    return network


def in_sinabs(graph: Any, corrected: bool, batch: int) -> nn.Module:
    from sinabs.nir import from_nir

    network: nn.Module = from_nir(graph, batch_size=batch)
    for name, node in graph.nodes.items():
        if corrected and type(node).__name__ == "IF":
            about = graph.metadata["nodes"][name]
            set_sinabs(network.get_submodule(name), about.get("v_init"), batch)
    return network


def set_sinabs(neurons: Any, first: Any, batch: int) -> None:
    """At most one spike a step, no lower bound of the potential, the first potential."""
    from sinabs.activation import SingleSpike

    neurons.spike_fn, neurons.min_v_mem = SingleSpike, None
    if first is not None:
        neurons.v_mem = torch.tensor(first)[None].repeat(batch, 1, 1, 1)


STEP_BY_STEP: dict[str, Callable[[Any, bool], nn.Module]] = {
    "snntorch": in_snntorch,
    "norse": in_norse,
    "spikingjelly": in_spikingjelly,
}


def set_first(network: nn.Module, graph: Any, framework: str) -> None:
    """Give neurons the first potentials that the metadata say, before the first step."""
    for name, node in graph.nodes.items():
        if (first := first_potential(node)) is None:
            continue
        neurons: Any = network.get_submodule(name)
        if framework == "snntorch":
            neurons.mem = first.clone()
        elif framework == "spikingjelly":
            neurons.module.v = first[None].clone()


def run_step_by_step(
    framework: str, graph: Any, inputs: Tensor, corrected: bool
) -> dict[str, Tensor]:
    """Outputs of one image after the other: readers differ in what they make of a batch."""
    import nir

    neurons = [name for name, node in graph.nodes.items() if hasattr(node, "v_threshold")]
    found: dict[str, list[Tensor]] = {name: [] for name in (*neurons, "output")}
    for image in inputs.unbind(1):
        network = STEP_BY_STEP[framework](nir.read(sys.argv[2]), corrected)
        for name in neurons:
            note = lambda *given, name=name: found[name].append(first_of(given[2]))  # noqa: E731
            network.get_submodule(name).register_forward_hook(note)
        if corrected:
            set_first(network, graph, framework)
        state = None
        for step in image:
            given = step if framework != "spikingjelly" else step[None]
            out = network(given) if state is None else network(given, state)
            out, state = out if isinstance(out, tuple) else (out, state)
            found["output"].append(out)
    steps, batch = inputs.shape[:2]
    return {
        name: torch.stack(outputs).reshape(batch, steps, -1).transpose(0, 1)
        for name, outputs in found.items()
    }


def run_sinabs(graph: Any, inputs: Tensor, corrected: bool) -> dict[str, Tensor]:
    """Outputs of all images and steps at once."""
    steps, batch = inputs.shape[:2]
    network, found = in_sinabs(graph, corrected, batch), dict[str, Tensor]()
    for name, node in graph.nodes.items():
        if type(node).__name__ == "IF":
            note = lambda *given, name=name: found.__setitem__(name, given[2])  # noqa: E731
            network.get_submodule(name).register_forward_hook(note)
    found["output"] = first_of(network(inputs.transpose(0, 1).flatten(0, 1)))
    return {n: out.reshape(batch, steps, -1).transpose(0, 1) for n, out in found.items()}


def first_of(out: Any) -> Tensor:
    tensor: Tensor = out[0] if isinstance(out, tuple) else out
    return tensor


def main() -> None:
    import nir

    framework, graph_file, inputs_file, out_file, *options = sys.argv[1:]
    graph, inputs = nir.read(graph_file), torch.from_numpy(np.load(inputs_file)).float()
    corrected = "--as-read" not in options
    with torch.no_grad():
        if framework == "sinabs":
            found = run_sinabs(graph, inputs, corrected)
        else:
            found = run_step_by_step(framework, graph, inputs, corrected)
    np.savez(Path(out_file), **{name: out.numpy() for name, out in found.items()})
    print(f"{framework} {version(framework)}, nir {version('nir')}, torch {version('torch')}")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # its reader refuses the graph: the reason is what is looked for
        lines = str(error).strip().splitlines() or [""]
        sys.exit(f"{type(error).__name__}: {lines[0]}")
