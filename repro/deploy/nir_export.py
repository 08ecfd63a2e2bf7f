"""A quantised network as a graph of the Neuromorphic Intermediate Representation (NIR).

Weights of a quantised layer are whole numbers, its levels' codes; the layer's scale is in the
threshold of the neurons behind it, so that nothing is multiplied by it. Each such node says scale,
bits and levels in its metadata.

NIR describes neurons in continuous time; a framework steps them by forward Euler. The graph is made
for steps of ``dt``, in which the equations are those of ``repro.neurons``. What NIR has no equation
for is an error that names it. Networks in a row are here, those with averages, maxima and shortcuts
in ``repro.deploy.nir_program``.

References:
    Pedersen et al., *Neuromorphic intermediate representation: a unified instruction set for
    interoperable brain-inspired computing*, Nature Communications 15:8122 (2024).
"""

import io
import itertools
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from repro import packing
from repro.build import build_network
from repro.cbp.levels import LayerLevels, Levels
from repro.deploy.c_network import program_of
from repro.deploy.nir_program import SUBTRACTION, Builder, Weights
from repro.deploy.packed_run import input_shape, origin_of
from repro.errors import UserError
from repro.files import write_atomically
from repro.networks.alexnet import SumPool, TsslBpNetwork
from repro.networks.conv7fc3 import StbpNetwork
from repro.networks.sew_resnet import SewNet, SewResNet
from repro.networks.vgg import SpikingVgg, Vgg
from repro.run.evaluation import load_weights

if TYPE_CHECKING:
    import nir

DT: Final = 1e-4  # s; the step that snnTorch and others take for granted
STEP: Final = 1.0  # s; of neurons without leak, so that R is 1 as in all of NIR's readers
REASONS: Final[Mapping[type[nn.Module], str]] = {
    Vgg: "an ANN has no neurons that spike: export the spiking network",
}
WITH_SHORTCUTS: Final = (SpikingVgg, SewNet, SewResNet)


def to_nir(
    network: nn.Module,
    levels: Mapping[str, Levels],
    shape: tuple[int, int, int] = (3, 32, 32),
    dt: float | None = None,
    time_steps: int | None = None,
    whole: bool = True,
) -> "nir.NIRGraph":
    """Return the graph of a network whose input is given at every time step.

    Args:
        network: A spiking network of this program with plain layers, weights at their levels.
        levels: Levels of the quantised layers by the name of their weight, as `packing.unpack`
            returns them.
        shape: Of the input, ``[C, H, W]``.
        dt: Time step, s; None for 0.1 ms, or 1 s where neurons have no leak.
        time_steps: T; None for the network's.
        whole: Whether quantised weights are whole numbers; else they are multiplied by their scale,
            and thresholds are the same in all channels, which snnTorch and spikingjelly require.
            Of networks with averages, maxima or shortcuts.

    Returns:
        Nodes from ``input`` to ``output``: the spikes of the last neurons, or the sums of a last
        layer without neurons.

    Raises:
        UserError: NIR cannot express the network, or ``nir`` is not installed.
    """
    nir = import_nir()
    if isinstance(network, WITH_SHORTCUTS):
        return _from_instructions(nir, network, levels, shape, dt, time_steps, whole)
    dt = DT if dt is None else dt
    if not isinstance(network, StbpNetwork | TsslBpNetwork):
        reason = REASONS.get(type(network), "it is none of this program's networks")
        raise UserError(
            f"{type(network).__name__} has no NIR graph: {reason}; those of stbp, tssl_bp, "
            "snn_calibration and surrogate have one"
        )
    if not whole:
        raise UserError(
            "layers of stbp and tssl_bp have one threshold anyway: leave --real-weights out"
        )
    row: dict[str, Any] = {"input": nir.Input({"input": np.array(shape)})}
    shapes = _shapes(network, shape)
    gain, flat = 1.0, False
    for name, layer in network.named_children():
        if isinstance(layer, SumPool):
            two, none = np.array([2, 2]), np.array([0, 0])
            row[name] = nir.AvgPool2d(kernel_size=two, stride=two, padding=none)
            gain *= 4 * layer.factor  # NIR's readers know averages, not all of them sums
            continue
        if isinstance(layer, nn.Linear) and not flat:
            row["flatten"] = nir.Flatten({"input": np.array(shapes[name][0])}, 0, 2)
            flat = True
        layer_levels = _single(name, levels.get(f"{name}.weight"))
        row[name] = _synapses(nir, layer, layer_levels, shapes[name][0])
        factor = gain * code_scale(layer_levels)
        row[f"{name}_neurons"] = _neurons(nir, network, shapes[name][1], factor, dt)
        gain = 1.0
    row["output"] = nir.Output({"output": np.array(shapes[name][1])})
    readout = "the class is the output neuron with most spikes"
    if isinstance(network, TsslBpNetwork):
        readout = (
            f"the class is the output neuron with the greatest sum of spikes filtered with tau_s "
            f"{network.neuron.tau_s:g} steps"
        )
    about = {"dt": dt, "time_steps": time_steps or network.time_steps, "readout": readout}
    return nir.NIRGraph(nodes=row, edges=list(itertools.pairwise(row)), metadata=about)


def _from_instructions(
    nir: Any,  # noqa: ANN401
    network: SpikingVgg | SewNet | SewResNet,
    levels: Mapping[str, Levels],
    shape: tuple[int, int, int],
    dt: float | None,
    time_steps: int | None,
    whole: bool,
) -> "nir.NIRGraph":
    """Return the graph of a network with averages, maxima or shortcuts."""
    steps = time_steps or getattr(network, "time_steps", None)
    if steps is None:
        raise UserError(f"{type(network).__name__} takes any number of frames: give time_steps")
    program = program_of(network, shape, steps)
    if dt is None:
        leaks = any(each.neuron and each.neuron.name == "plif" for each in program.instructions)
        dt = DT if leaks else STEP
    weights = {}
    for each in program.instructions:
        if each.kind != "layer":
            continue
        weight = operator.attrgetter(f"{each.name}.weight")(network)
        found = _single(each.name, levels.get(f"{each.name}.weight"))
        values = codes(weight, found) if found else weight.detach().numpy()
        weights[each.name] = Weights(values.astype(float), code_scale(found), found)
    each_step = "frame t" if isinstance(network, SewNet) else "the image"
    about = {
        "dt": dt,
        "time_steps": steps,
        "input": f"{each_step} at step t",
        "readout": "the class is the output with the greatest sum over all steps",
    }
    return Builder(nir, network, program, weights, dt, whole).graph(about)


def import_nir() -> Any:  # noqa: ANN401  (a module without type information)
    """Return the package ``nir``.

    Raises:
        UserError: It is not installed.
    """
    try:
        import nir
    except ImportError as error:
        raise UserError("nir is not installed: pip install -c constraints.txt '.[nir]'") from error
    return nir


Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


def _shapes(network: nn.Module, shape: tuple[int, int, int]) -> Shapes:
    """Return input and output shape of every child, without batch, found by one silent image."""
    found: Shapes = {}
    maps = torch.zeros(1, *shape)
    with torch.no_grad():
        for name, layer in network.named_children():
            before = tuple(maps.shape[1:])
            maps = maps.flatten(1) if isinstance(layer, nn.Linear) else maps
            maps = layer(maps)
            found[name] = before, tuple(maps.shape[1:])
    return found


def _single(name: str, layer_levels: Levels | None) -> LayerLevels | None:
    """Return the levels of a layer that has one scale.

    Raises:
        UserError: It has a scale per channel.
    """
    if layer_levels is None or isinstance(layer_levels, LayerLevels):
        return layer_levels
    raise UserError(f"{name} has a scale per channel: quantise with one per layer to export to NIR")


def code_scale(layer_levels: LayerLevels | None) -> float:
    """Return the weight that code 1 stands for; 1 for a layer that is not quantised."""
    return 1.0 if layer_levels is None else layer_levels.scale * _unit(layer_levels)


def _unit(layer_levels: LayerLevels) -> float:
    """Return the smallest unscaled level above 0."""
    return min(abs(level) for level in layer_levels.levels if level)


def codes(weight: Tensor, layer_levels: LayerLevels) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return ``weight / scale`` in units of the smallest level: whole numbers, float32.

    Raises:
        UserError: A weight is not a level.
    """
    values = layer_levels.values(weight.dtype)
    index = torch.searchsorted(values, weight.detach().contiguous()).clamp(max=len(values) - 1)
    if not torch.equal(values[index], weight.detach()):
        raise UserError("a weight of a quantised layer is not a level: convert the network first")
    whole = torch.tensor(layer_levels.levels) / _unit(layer_levels)
    return np.asarray(whole[index].numpy(), np.float32)


def _synapses(
    nir: Any,  # noqa: ANN401
    layer: nn.Module,
    layer_levels: LayerLevels | None,
    shape: tuple[int, ...],
) -> "nir.NIRNode":
    """Return the node of a convolution or linear layer; whole numbers where it is quantised."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    about: dict[str, Any] = {}
    scale = code_scale(layer_levels)
    if layer_levels is None:
        weight = layer.weight.detach().numpy()
    else:
        weight = codes(layer.weight, layer_levels)
        about = {"scale": scale, "bits": layer_levels.bits, "levels": list(layer_levels.levels)}
    bias = np.zeros(len(weight), np.float32)
    if layer.bias is not None:
        bias = (layer.bias.detach().double() / scale).float().numpy()
    if isinstance(layer, nn.Linear):
        return nir.Affine(weight=weight, bias=bias, metadata=about)
    return nir.Conv2d(
        input_shape=shape[1:],
        weight=weight,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=bias,
        metadata=about,
    )


def _neurons(
    nir: Any,  # noqa: ANN401
    network: StbpNetwork | TsslBpNetwork,
    shape: tuple[int, ...],
    scale: float,
    dt: float,
) -> "nir.NIRNode":
    """Return the node of a layer's neurons.

    STBP's are LIF: ``v += dt/tau (R I - v)`` with ``tau = dt/(1 - decay)`` and R 1 is ``decay v +
    (1 - decay) I``, the training's ``decay v + scale I`` in another unit; the threshold is in that
    unit, too. R stays 1 because norse leaves it out and spikingjelly refuses others. TSSL-BP's are
    current-based LIF: the synaptic filter has ``tau_s`` and the membrane ``tau_m``; that the filter
    weighs by ``scale / tau_s`` is in the threshold, as spikingjelly requires; ``dt`` is in s.
    """

    def everywhere(value: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.full(shape, value)

    if isinstance(network, StbpNetwork):
        leak = 1 - network.neuron.decay
        return nir.LIF(
            tau=everywhere(dt / leak),
            r=everywhere(1.0),
            v_leak=everywhere(0.0),
            v_threshold=everywhere(network.neuron.threshold * leak / scale),
            v_reset=everywhere(0.0),
        )
    neuron = network.neuron
    return nir.CubaLIF(
        tau_syn=everywhere(neuron.tau_s * dt),
        tau_mem=everywhere(neuron.tau_m * dt),
        r=everywhere(neuron.tau_m),
        v_leak=everywhere(0.0),
        v_threshold=everywhere(neuron.threshold * neuron.tau_s / scale),
        v_reset=everywhere(0.0),
        w_in=everywhere(neuron.tau_s),
    )


def write_nir(graph: "nir.NIRGraph", path: Path, old: bool = False) -> Path:
    """Write a graph to a file, whole or not at all, and return the path.

    NIR up to 1.0.5 resets ``IF`` by subtraction, later versions to ``v_reset``. Where the reset is
    by subtraction, ``v_reset`` is left out of the file.

    Args:
        graph: The graph.
        path: File to write.
        old: Whether ``nir`` up to 1.0.4 is to read it, which knows no ``v_reset`` and no metadata
            of nodes: these are then among those of the graph, under ``nodes``.

    Raises:
        UserError: The file is to be old, and neurons are reset to another value than 0.
    """
    nir = import_nir()
    import h5py

    content = io.BytesIO()  # HDF5 crashes where the disk is full
    nir.write(content, graph)
    with h5py.File(content, "r+") as file:
        for name, node in graph.nodes.items():
            written = file["node/nodes"][name]
            by_subtraction = node.metadata.get("reset") == SUBTRACTION
            if "v_reset" in written and (old or by_subtraction):
                if not by_subtraction and np.any(node.v_reset):
                    raise UserError(f"{name} is reset to another value than 0: not in nir 1.0.4")
                del written["v_reset"]
            if old and "metadata" in written:
                file.move(f"node/nodes/{name}/metadata", f"node/metadata/nodes/{name}")
    return write_atomically(path, content.getvalue())


def export_nir(
    source: Path,
    out: Path | None,
    shape: tuple[int, ...] = (),
    data_dir: Path | None = None,
    *,
    whole: bool = True,
    old: bool = False,
) -> str:
    """Write the graph of a packed file; return what is in it, in words.

    Args:
        source: Packed file, the folder of a finished run, or ``model:NAME``.
        out: File to write; None for the run's name in this folder.
        shape: Of an input, ``[C, H, W]``; empty for 3 x 32 x 32 of CIFAR's networks, else that of
            the test images.
        data_dir: Data sets; None for CBP_DATA, else ``data``.
        whole: As in `to_nir`.
        old: As in `write_nir`.

    Raises:
        UserError: The source is not a packed file of a cell, or NIR cannot express its network.
        DataError: The data are absent or damaged.
    """
    import_nir()
    file, spec = origin_of(source)
    state, levels = packing.unpack(file)
    plain = [tensor for name, tensor in state.items() if tensor.dim() > 1 and name not in levels]
    classes = len(plain[-1])  # the last layer stays FP32
    network = build_network(spec.key.cell, spec.recipe, classes, spec.phase).eval()
    load_weights(network, state, str(file))
    path = out or Path(f"{spec.key}.nir")
    size = input_shape(spec, shape, data_dir)
    steps = spec.recipe.time_steps
    write_nir(to_nir(network, levels, size, time_steps=steps, whole=whole), path, old)
    quantised = sum(state[name].numel() for name in levels)
    weights = sum(tensor.numel() for tensor in state.values() if tensor.dim() > 1)
    said = "whole numbers" if whole else "levels times their scale and gain"
    return (
        f"{path}: NIR graph of {spec.key}, {path.stat().st_size:,} bytes; {quantised:,} of "
        f"{weights:,} weights are {said}, in {len(levels)} layers, each with scale and bits"
    )
