"""NIR graphs of networks with pooling and shortcuts, made from the instructions of the C program.

A map of an instruction (``repro.deploy.c_network``) is the sum of the outputs of one or more nodes:
edges that end in the same node add up, so that a shortcut that is added costs edges and no node.
The rest of what NIR has no node for is put together from nodes that it has, exactly:

* An average has a bias per channel, which NIR's poolings lack: a convolution whose weights are 1
  from a channel to itself. It is dense, because NIR 1.0.8 cannot read one in groups from a file.
  Sums over squares are such convolutions, too: some readers know ``AvgPool2d`` alone, others
  ``SumPool2d`` alone.
* A maximum of spikes is whether their sum is above 1/2; one of whole numbers up to K is the number
  of k from 1 to K that one of them reaches. ``A S`` is whether ``A + S`` is above 3/2, and
  ``(1 - A) S`` whether ``S - A`` is above 1/2. Such comparisons are LIF neurons with the time
  constant ``dt``, which forget their potential at every step.

The scale of a quantised layer and the gain of its batch normalisation are in the neurons'
thresholds, per channel; where the gain is negative, the channel's codes change their sign. What
neurons get at every step besides (biases, normalisation, the shift of integrate-and-fire neurons)
is in the layer's bias.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from torch import nn

from repro.cbp.levels import LayerLevels
from repro.deploy.c_network import Instruction, Maps, Program
from repro.errors import UserError

if TYPE_CHECKING:
    import nir

SUBTRACTION: Final = "by subtraction of v_threshold"
Array = np.ndarray[Any, np.dtype[np.float64]]
Wires = tuple[str, ...]
"""Nodes whose outputs add up to a map."""


ONE: Final = Instruction("layer", 0)  # 1x1


@dataclass(frozen=True)
class Weights:
    """Weights of a layer.

    Attributes:
        values: Whole numbers where the layer is quantised, ``[O, ...]``.
        unit: The weight that 1 stands for; 1 where the layer is not quantised.
        levels: None where it is not.
    """

    values: Array
    unit: float
    levels: LayerLevels | None


@dataclass
class Builder:
    """A graph as it grows.

    Attributes:
        nir: The package.
        network: In evaluation mode, weights at their levels.
        program: Its instructions.
        weights: Of its layers, by module path.
        dt: Time step, s.
        whole: Whether quantised weights are whole numbers, their scales in the thresholds.
        nodes: By name.
        edges: From, to.
    """

    nir: Any
    network: nn.Module
    program: Program
    weights: dict[str, Weights]
    dt: float
    whole: bool = True
    nodes: dict[str, "nir.NIRNode"] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def graph(self, about: dict[str, Any]) -> "nir.NIRGraph":
        """Return the graph.

        Args:
            about: Its metadata.

        Raises:
            UserError: NIR cannot express an instruction.
        """
        first = self.program.maps[0]
        size = {"input": np.array((first.channels, first.height, first.width))}
        wires: list[Wires] = [self._add("input", self.nir.Input(size), ())]
        for number, each in enumerate(self.program.instructions, start=1):
            wires.append(self._instruction(each, number, wires))
        outputs = self.program.maps[-1].channels
        self._add("output", self.nir.Output({"output": np.array([outputs])}), wires[-1])
        return self.nir.NIRGraph(nodes=self.nodes, edges=self.edges, metadata=about)

    def _add(self, name: str, node: "nir.NIRNode", sources: Wires) -> Wires:
        """Add a node that gets the sum of others, and return it."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return (name,)

    def _instruction(self, each: Instruction, number: int, wires: list[Wires]) -> Wires:
        """Add what makes the map of an instruction."""
        source, maps = wires[each.source], self.program.maps[number]
        name = each.name.replace(".", "_") or f"{each.kind}{number}"
        if each.kind == "max":
            return self._maximum(name, each, source, maps)
        if each.kind == "mean":  # over time it is left to the reader: the layer behind is linear
            if each.kernel == (1, 1):
                return source
            size, none = np.array(each.kernel), np.array([0, 0])
            pool = self.nir.AvgPool2d(kernel_size=size, stride=size, padding=none)
            return self._add(name, pool, source)
        spikes = self._layer(name, each, source, maps)
        return self._joined(name, each, spikes, wires[each.other], maps) if each.join else spikes

    def _maximum(self, name: str, each: Instruction, source: Wires, maps: Maps) -> Wires:
        """Add the maximum of whole numbers: how many of 1 to K are reached."""
        before, found = self.program.maps[each.source], list[str]()
        ones = _itself(maps, each.kernel)
        for least in range(1, before.greatest + 1):
            reached, place = source, f"{name}_{least}"
            if before.greatest > 1:
                reached = self._above(f"{place}_reached", least - 0.5, source, before)
            sums = self._synapses(ones, np.zeros(maps.channels), each, before, {})
            summed = self._add(f"{place}_sum", sums, reached)
            found += self._above(place, 0.5, summed, maps)
        return tuple(found)

    def _joined(
        self, name: str, each: Instruction, spikes: Wires, shortcut: Wires, maps: Maps
    ) -> Wires:
        """Add a shortcut: as further edges, or as a comparison of sums."""
        if each.join == "add":
            return (*spikes, *shortcut)
        if self.program.maps[each.other].greatest > 1:
            raise UserError(
                f"{each.name}: {each.join} with a shortcut of sums of spikes has no NIR graph: NIR "
                "has no product of two inputs"
            )
        if each.join == "and":
            return self._above(f"{name}_and", 1.5, (*spikes, *shortcut), maps)
        minus = self._synapses(-_itself(maps, (1, 1)), np.zeros(maps.channels), ONE, maps, {})
        negative = self._add(f"{name}_negative", minus, spikes)
        return self._above(f"{name}_iand", 0.5, (*negative, *shortcut), maps)

    def _above(self, name: str, threshold: float, sources: Wires, maps: Maps) -> Wires:
        """Add neurons without memory that fire where the sum of their inputs is above a number."""
        node = self._lif(self.dt, np.full(maps.channels, threshold), maps)
        return self._add(name, node, sources)

    def _lif(self, tau: float, threshold: Array, maps: Maps) -> "nir.NIRNode":
        """Return LIF neurons with a threshold per channel, reset to 0."""
        ones = np.ones((maps.channels, maps.height, maps.width))
        parts = {"r": ones, "v_leak": 0 * ones, "v_reset": 0 * ones}
        above = threshold[:, None, None] * ones
        node: nir.NIRNode = self.nir.LIF(tau=tau * ones, v_threshold=above, **parts)
        return node

    def _layer(self, name: str, each: Instruction, source: Wires, maps: Maps) -> Wires:
        """Add a layer of weights, or an average, and the neurons behind it."""
        weights, before = self._weights_of(each, maps), self.program.maps[each.source]
        gain, bias = self._gain_and_bias(each, maps)
        values, about, unit = weights.values, dict[str, Any](), weights.unit * gain
        if self.whole and (weights.levels is not None or each.kind == "average"):
            sign = np.where(unit < 0, -1.0, np.sign(np.abs(unit)))  # 0 where nothing comes through
            values = values * sign.reshape(-1, *[1] * (values.ndim - 1))
            unit = np.where(unit == 0, 1.0, np.abs(unit))
            if (sign != 1).any():
                about["signs"] = sign
        else:
            values, unit = values * unit.reshape(-1, *[1] * (values.ndim - 1)), np.ones_like(unit)
        if weights.levels is not None or each.kind == "average":
            about["scale"] = weights.unit
        if weights.levels is not None:
            about |= {"bits": weights.levels.bits, "levels": list(weights.levels.levels)}
        layer = self._synapses(values, bias / unit, each, before, about)
        if isinstance(layer, self.nir.Affine):
            shape = {"input": np.array((before.channels, before.height, before.width))}
            source = self._add("flatten", self.nir.Flatten(shape, 0, 2), source)
        wires = self._add(name, layer, source)
        if each.neuron is None:
            return wires
        return self._add(f"{name}_neurons", self._neurons(each, unit, maps), wires)

    def _weights_of(self, each: Instruction, maps: Maps) -> Weights:
        if each.kind == "average":
            return Weights(_itself(maps, each.kernel), each.factor / math.prod(each.kernel), None)
        return self.weights[each.name]

    def _gain_and_bias(self, each: Instruction, maps: Maps) -> tuple[Array, Array]:
        """Return factor on and addition to a layer's sums, ``[O]`` each, normalisation folded."""
        gain, bias = np.ones(maps.channels), np.zeros(maps.channels)
        own = getattr(self.network.get_submodule(each.name), "bias", None)
        if own is not None:
            bias = own.detach().double().numpy().copy()
        if each.norm:
            norm = self.network.get_submodule(each.norm)
            assert isinstance(norm, nn.BatchNorm2d)
            of = {name: part.double().numpy() for name, part in norm.state_dict().items()}
            gain = of["weight"] / np.sqrt(of["running_var"] + norm.eps)
            bias = (bias - of["running_mean"]) * gain + of["bias"]
        if each.neuron is not None and each.neuron.name == "if":
            bias = bias + each.neuron.constants[1]  # the shift
        return gain, bias

    def _synapses(
        self, values: Array, bias: Array, each: Instruction, before: Maps, about: dict[str, Any]
    ) -> "nir.NIRNode":
        """Return the node of weights ``[O, I]`` or ``[O, I, h, w]``."""
        parts: dict[str, Any] = {"bias": np.float32(bias), "metadata": about}
        node: nir.NIRNode
        if values.ndim == 2:
            node = self.nir.Affine(weight=np.float32(values), **parts)
        else:
            stride, padding = (each.stride, each.stride), (each.padding, each.padding)
            parts |= {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1}
            size = before.height, before.width
            node = self.nir.Conv2d(input_shape=size, weight=np.float32(values), **parts)
        return node

    def _neurons(self, each: Instruction, unit: Array, maps: Maps) -> "nir.NIRNode":
        """Return the neurons behind a layer whose sums are in units ``[O]``.

        They fire at their threshold, NIR's above it: theirs is the number before, in float32.
        """
        assert each.neuron is not None
        reached = np.float32(each.neuron.constants[0] / unit)
        threshold = np.nextafter(reached, np.float32(0)).astype(float)
        if each.neuron.name == "plif":
            return self._lif(self.dt / each.neuron.constants[1], threshold, maps)
        ones = np.ones((maps.channels, maps.height, maps.width))
        about: dict[str, Any] = {"reset": "to v_reset"}
        if each.neuron.name == "if":
            about = {"reset": SUBTRACTION}
            if each.initial:
                first = self.network.get_buffer(each.initial).double().numpy()[0]
                about["v_init"] = np.float32(first / unit[:, None, None] * ones)
        above = threshold[:, None, None] * ones
        node: nir.NIRNode = self.nir.IF(r=ones / self.dt, v_threshold=above, metadata=about)
        return node


def _itself(maps: Maps, kernel: tuple[int, int]) -> Array:
    """Return weights ``[C, C, h, w]`` of 1 from every channel to itself."""
    return np.eye(maps.channels)[:, :, None, None] * np.ones(kernel)
