"""One time step of a network as QONNX, for toolchains of FPGAs: FINN, hls4ml.

A quantised weight is ``BipolarQuant`` or ``IntQuant`` of its codes, whole numbers at scale 1; the
scale of the layer multiplies the sums behind it, as everywhere in this program. What neurons keep
from step to step goes in and comes out: the graph is called T times. It is made from the
instructions of the C program (``repro.deploy.c_network``), in the same arithmetic.

References:
    Pappalardo et al., *QONNX: representing arbitrary-precision quantized neural networks*,
    arXiv:2206.07527 (2022).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.catalogue import DATA_SETS
from repro import packing
from repro.build import build_network
from repro.cbp.levels import LayerLevels, Levels
from repro.deploy.c_network import Instruction, Maps, Program, codes_of, program_of
from repro.deploy.packed_run import input_shape, origin_of
from repro.errors import UserError
from repro.files import write_atomically
from repro.run.evaluation import load_weights

if TYPE_CHECKING:
    import onnx
    from qonnx.core.modelwrapper import ModelWrapper

Array = np.ndarray[Any, np.dtype[np.float32]]
Shape = tuple[int, ...]
DOMAIN: Final = "qonnx.custom_op.general"


@dataclass
class Builder:
    """A graph as it grows.

    Attributes:
        state: Tensors of the network.
        levels: Of quantised weights, by name of their tensor.
        program: Its instructions.
        nodes: In order.
        constants: Values by name.
        inputs: Shapes by name; the states behind the input.
        outputs: The same; the states of the next step behind the output.
        first: States before the first step, where they are not 0.
    """

    state: Mapping[str, Tensor]
    levels: Mapping[str, Levels]
    program: Program
    nodes: list["onnx.NodeProto"] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, Shape] = field(default_factory=dict)
    outputs: dict[str, Shape] = field(default_factory=dict)
    first: dict[str, Array] = field(default_factory=dict)

    def model(self, about: Mapping[str, str]) -> "ModelWrapper":
        """Return the model, its shapes known.

        Args:
            about: Its metadata.
        """
        from onnx import TensorProto, helper, numpy_helper
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.transformation.infer_shapes import InferShapes
        from qonnx.util.basic import qonnx_make_model

        self.inputs["input"] = _shape(self.program.maps[0])
        maps = ["input"]
        for number, each in enumerate(self.program.instructions, start=1):
            maps.append(self._instruction(each, self._shape_of(number), maps))
        self.add("Identity", [maps[-1]], "output")
        self.outputs = {"output": self._shape_of(len(maps) - 1), **self.outputs}
        inputs, outputs = (
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in named.items()]
            for named in (self.inputs, self.outputs)
        )
        constants = [numpy_helper.from_array(v, name) for name, v in self.constants.items()]
        graph = helper.make_graph(self.nodes, "time_step", inputs, outputs, constants)
        made = qonnx_make_model(graph, producer_name="cbp-qsnn")
        model = ModelWrapper(made).transform(InferShapes())
        for name, value in self.first.items():  # it would have taken away what no node reads
            model.set_initializer(name, value)
        for key, text in about.items():
            model.set_metadata_prop(key, text)
        return model

    def _shape_of(self, number: int) -> Shape:
        """Return the shape of a map: ``[1, O]`` behind a linear layer, else ``[1, C, H, W]``."""
        weight = self.state.get(f"{self.program.instructions[number - 1].name}.weight")
        shape = _shape(self.program.maps[number])
        return shape[:2] if weight is not None and weight.dim() == 2 else shape

    def add(self, kind: str, sources: list[str], name: str, **options: Any) -> str:  # noqa: ANN401
        """Add a node and return the name of its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, sources, [name], name=f"node_{name}", **options))
        return name

    def constant(self, name: str, value: Any) -> str:  # noqa: ANN401
        """Add a constant, float32, and return its name."""
        self.constants[name] = np.asarray(value, np.float32)
        return name

    def _instruction(self, each: Instruction, shape: Shape, maps: list[str]) -> str:
        """Add what makes the map of an instruction, and return its name."""
        source = maps[each.source]
        name = each.name.replace(".", "_") or f"{each.kind}{len(maps)}"
        if each.kind == "mean":  # over time it is left to the caller: the layer behind is linear
            return (
                source
                if each.kernel == (1, 1)
                else self._windows("AveragePool", each, source, name)
            )
        if each.kind == "max":
            return self._windows("MaxPool", each, source, name)
        if each.kind == "sum":
            mean = self._windows("AveragePool", each, source, f"{name}_mean")
            area = self.constant(f"{name}_area", math.prod(each.kernel))
            return self.add("Mul", [mean, area], name)
        current = self._current(each, source, name, len(shape) == 2)
        if each.neuron is None:
            return current
        spikes = self._neurons(each, current, name, shape)
        return self._joined(each, spikes, maps[each.other], name) if each.join else spikes

    def _windows(self, kind: str, each: Instruction, source: str, name: str, *more: str) -> str:
        """Add a pooling or a convolution."""
        size = {"kernel_shape": each.kernel, "strides": [each.stride] * 2}
        return self.add(kind, [source, *more], name, pads=[each.padding] * 4, **size)

    def _current(self, each: Instruction, source: str, name: str, linear: bool) -> str:
        """Add what neurons get: sums of weights or a mean, scaled, with bias, normalised."""
        column = (1, -1) if linear else (1, -1, 1, 1)
        scale: Array | None = None
        if each.kind == "average":
            current = self._windows("AveragePool", each, source, f"{name}_mean")
            scale = np.array([each.factor], np.float32)
        else:
            weight, scale = self._weight(each, name)
            if linear:
                flat = self.add("Flatten", [source], f"{name}_flat", axis=1)
                current = self.add("MatMul", [flat, weight], f"{name}_sums")
            else:
                current = self._windows("Conv", each, source, f"{name}_sums", weight)
        if scale is not None:
            factor = self.constant(f"{name}_scale", scale.reshape(column))
            current = self.add("Mul", [current, factor], f"{name}_scaled")
        if (bias := self.state.get(f"{each.name}.bias")) is not None:
            added = self.constant(f"{name}_bias", bias.numpy().reshape(column))
            current = self.add("Add", [current, added], f"{name}_current")
        if each.norm:
            of = ("weight", "bias", "running_mean", "running_var")
            parts = [self.constant(f"{each.norm}.{p}", self.state[f"{each.norm}.{p}"]) for p in of]
            normed, epsilon = f"{name}_normed", each.epsilon
            current = self.add("BatchNormalization", [current, *parts], normed, epsilon=epsilon)
        return current

    def _weight(self, each: Instruction, name: str) -> tuple[str, Array | None]:
        """Add a weight, as codes where it has levels; return its name, and the codes' scale."""
        weight = self.state[f"{each.name}.weight"]
        levels = self.levels.get(f"{each.name}.weight")
        if levels is None:
            return self.constant(f"{name}_weight", _columns(weight)), None
        known, unit = codes_of(each.name, levels)
        scales = [levels.scale] if isinstance(levels, LayerLevels) else levels.scales
        scale = torch.tensor(scales) / unit
        spread = scale.view(-1, *[1] * (weight.dim() - 1))
        codes = (weight / spread).round()
        if not torch.equal(codes * spread, weight) or not set(codes.flatten().tolist()) <= {*known}:
            raise UserError(f"{each.name}: a weight is not a level: convert the network first")
        given = [self.constant(f"{name}_codes", _columns(codes)), self.constant("one", 1.0)]
        if known == (-1, 1):
            kind, options = "BipolarQuant", dict[str, Any]()
        else:
            bits = max(map(abs, known)).bit_length() + 1
            given += [self.constant("zero", 0.0), self.constant(f"bits_{bits}", bits)]
            kind, options = "IntQuant", {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
        return self.add(kind, given, f"{name}_weight", domain=DOMAIN, **options), scale.numpy()

    def _neurons(self, each: Instruction, current: str, name: str, shape: Shape) -> str:
        """Add a step of the neurons behind a layer, and return the name of their spikes."""
        assert each.neuron is not None
        v = self._state(f"{name}_v", shape, each.initial)
        kind, (threshold, *more) = each.neuron.name, each.neuron.constants
        k = [self.constant(f"{name}_k{i}", number) for i, number in enumerate(more)]
        if kind == "plif":
            change = self.add("Sub", [current, v], f"{name}_change")
            current = self.add("Mul", [change, k[0]], f"{name}_leaked")
        elif kind == "tssl":
            current = self._filtered(current, v, name, k, shape)
        u = self.add("Add", [v, current], f"{name}_u" if kind != "if" else f"{name}_driven")
        if kind == "if":
            u = self.add("Add", [u, k[0]], f"{name}_u")
        limit = self.constant(f"{name}_threshold", threshold)
        if kind in ("stbp", "tssl"):  # above the threshold
            fires = self.add("Greater", [u, limit], f"{name}_fires")
        else:  # at the threshold or above
            below = self.add("Less", [u, limit], f"{name}_below")
            fires = self.add("Not", [below], f"{name}_fires")
        spikes = self.add("Cast", [fires], f"{name}_spikes", to=1)
        if kind == "if":
            lost = self.add("Mul", [spikes, limit], f"{name}_lost")
            self._next(self.add("Sub", [u, lost], f"{name}_v_next"), shape)
            return spikes
        one = self.constant("one", 1.0)
        silent = self.add("Sub", [one, spikes], f"{name}_silent")
        if kind == "stbp":
            u = self.add("Mul", [u, k[0]], f"{name}_decayed")
        self._next(self.add("Mul", [u, silent], f"{name}_v_next"), shape)
        return spikes

    def _filtered(self, current: str, v: str, name: str, k: list[str], shape: Shape) -> str:
        """Add the synapse of TSSL-BP's neurons: what is added to their potential."""
        y = self._state(f"{name}_y", shape, "")
        kept = self.add("Mul", [y, k[0]], f"{name}_kept")
        y_next = self.add("Add", [kept, current], f"{name}_y_next")
        self._next(y_next, shape)
        weighed = self.add("Mul", [y_next, k[1]], f"{name}_weighed")
        leaked = self.add("Mul", [v, k[2]], f"{name}_leak")
        return self.add("Sub", [weighed, leaked], f"{name}_change")

    def _state(self, name: str, shape: Shape, first: str) -> str:
        """Add an input for what neurons keep; what it is before the first step is a constant."""
        self.inputs[name] = shape
        if first:
            self.first[f"{name}_first"] = self.state[first].expand(shape).numpy().copy()
        return name

    def _next(self, name: str, shape: Shape) -> None:
        self.outputs[name] = shape

    def _joined(self, each: Instruction, spikes: str, other: str, name: str) -> str:
        """Add a shortcut."""
        if each.join == "add":
            return self.add("Add", [spikes, other], f"{name}_added")
        if each.join == "iand":
            spikes = self.add("Sub", [self.constant("one", 1.0), spikes], f"{name}_not")
        return self.add("Mul", [spikes, other], f"{name}_{each.join}")


def _columns(weight: Tensor) -> Array:
    """Return a weight in the order of ONNX: ``[O, I, h, w]``, or ``[I, O]`` for ``[O, I]``."""
    array: Array = (weight.T if weight.dim() == 2 else weight).contiguous().numpy()
    return array


def _shape(maps: Maps) -> Shape:
    return 1, maps.channels, maps.height, maps.width


def import_qonnx() -> None:
    """Raise a UserError where ``qonnx`` is not installed."""
    try:
        import qonnx.core.modelwrapper  # noqa: F401
    except ImportError as error:
        raise UserError(
            "qonnx is not installed: pip install -c constraints.txt -e '.[qonnx]'"
        ) from error


def to_qonnx(
    network: nn.Module,
    levels: Mapping[str, Levels],
    shape: tuple[int, int, int],
    time_steps: int,
) -> "ModelWrapper":
    """Return one time step of a network.

    Args:
        network: One of this program's spiking networks, float32, weights at their levels.
        levels: Of the quantised weights, by name of their tensor.
        shape: Of an image or a frame, ``[C, H, W]``.
        time_steps: T; the shift of integrate-and-fire neurons depends on it.

    Returns:
        Inputs: ``input [1, C, H, W]``, the same image at every step, or a frame; and what neurons
        keep, ``NAME_v`` and ``NAME_y``: 0 before the first step, or the constant ``NAME_v_first``
        where there is one. Outputs: ``output [1, K]``, and what they keep for the next step.

    Raises:
        UserError: ``qonnx`` is not installed, or the network is not one of this program's, or its
            levels are not whole numbers.
    """
    import_qonnx()
    program = program_of(network, shape, time_steps)
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    readout = "greatest sum of the outputs over all steps"
    if program.tau:
        readout = (
            f"greatest sum of y / {program.tau!r} over all steps, y = {program.kept!r} y + output"
        )
    about = {"time_steps": str(time_steps), "class": readout}
    return Builder(state, levels, program).model(about)


def export_qonnx(
    source: Path, out: Path | None, shape: tuple[int, ...], data_dir: Path | None
) -> str:
    """Write one time step of a packed file's network; return what is in it, in words.

    Args:
        source: Packed file, the folder of a finished run, or ``model:NAME``.
        out: File to write; None for the run's name in this folder.
        shape: Of an input, ``[C, H, W]``; empty for that of the test images.
        data_dir: Data sets; None for CBP_DATA, else ``data``.

    Raises:
        UserError: The source is not a packed file of a cell, or as in `to_qonnx`.
        DataError: The data are absent or damaged.
    """
    import_qonnx()
    file, spec = origin_of(source)
    state, levels = packing.unpack(file)
    classes = DATA_SETS[spec.recipe.data].classes
    network = build_network(spec.key.cell, spec.recipe, classes, spec.phase).eval()
    load_weights(network, state, str(file))
    size = input_shape(spec, shape, data_dir)
    model = to_qonnx(network, levels, size, spec.recipe.time_steps)
    path = out or Path(f"{spec.key}.onnx")
    write_atomically(path, model.model.SerializeToString())
    kinds = [node.op_type for node in model.graph.node]
    return (
        f"{path}: one of {spec.recipe.time_steps} time steps of {spec.key}, "
        f"{path.stat().st_size:,} bytes; {kinds.count('BipolarQuant')} layers with BipolarQuant, "
        f"{kinds.count('IntQuant')} with IntQuant weights, {len(model.graph.input) - 1} inputs for "
        "what neurons keep"
    )
