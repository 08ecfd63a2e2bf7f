"""A network as instructions for the C program: maps, what makes each of them, and where they lie.

An instruction makes one map, all its time steps, from an earlier one: a layer of weights with the
neurons behind it, or a pooling. Maps hold whole numbers as bits, or real numbers. Instructions are
written as words into a packed file (``docs/packed_format.md``), which the C program reads, and as
tables into a C header (``repro.deploy.c_header``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from repro.cbp.levels import LayerLevels, Levels
from repro.errors import UserError
from repro.networks.alexnet import SumPool, TsslBpNetwork
from repro.networks.conv7fc3 import StbpNetwork
from repro.networks.sew_resnet import Halve, Layer, SewBlock, SewNet, SewResNet
from repro.networks.vgg import AveragePool, SpikingVgg
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.plif import THRESHOLD
from repro.neurons.stbp import StbpNeuron
from repro.neurons.tssl_bp import TsslBpNeuron
from repro.products.codes import level_codes

WORD: Final = 32  # bits
GREATEST: Final = 255  # number in a map of whole numbers
FEEDS: Final = ("layer", "average")  # what neurons may stand behind


@dataclass(frozen=True)
class Maps:
    """A map of one image at all its time steps.

    Attributes:
        channels: C.
        height: H.
        width: W.
        steps: T, or 1 where nothing changes over time.
        greatest: Whole number in it; 0 of real numbers.
    """

    channels: int
    height: int
    width: int
    steps: int
    greatest: int

    @property
    def planes(self) -> int:
        """Bits of a whole number; 0 of real numbers."""
        return self.greatest.bit_length()

    @property
    def size(self) -> int:
        """Words of 32 bits, or real numbers."""
        in_pixel = self.planes * -(-self.channels // WORD) if self.greatest else self.channels
        return self.steps * in_pixel * self.height * self.width


@dataclass(frozen=True)
class Neuron:
    """Neurons of a layer.

    Attributes:
        name: ``if``, ``stbp``, ``tssl``, ``plif`` or ``hard``.
        constants: Threshold first, exact in float32.
    """

    name: str
    constants: tuple[float, ...]


@dataclass(frozen=True)
class Instruction:
    """How a map is made.

    Attributes:
        kind: ``layer`` of weights, ``average``, ``sum``, ``max`` or ``mean``, over time, too.
        source: Number of the map that it reads; 0 is the input.
        kernel: Height and width.
        stride: Of both axes.
        padding: Of both axes.
        name: Module path of a layer or an average, whose bias is used.
        factor: Of an average.
        norm: Module path of a batch normalisation; empty for none.
        epsilon: Of it.
        neuron: Behind it; None for none.
        initial: Name of the tensor of first potentials; empty for 0.
        first: The first potential, where one number stands for all of them; None otherwise.
        join: ``add``, ``and`` or ``iand``; empty for none.
        other: Number of the map of the shortcut.
    """

    kind: str
    source: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0
    name: str = ""
    factor: float = 1.0
    norm: str = ""
    epsilon: float = 0.0
    neuron: Neuron | None = None
    initial: str = ""
    first: float | None = None
    join: str = ""
    other: int = 0


@dataclass(frozen=True)
class Places:
    """Where the maps lie.

    Attributes:
        at: First word, or first real number, of every map; the input's is not used.
        bits: Words of 32 bits that the program needs, sums of inputs included.
        reals: Real numbers that it needs.
    """

    at: tuple[int, ...]
    bits: int
    reals: int


class Program:
    """Instructions and their maps, as they are added.

    Attributes:
        time_steps: T.
        frames: Whether the input is T frames, not one image.
        maps: The input, and the map of every instruction.
        instructions: In order.
        kept: Of a synapse that the output spikes pass, from step to step; 0 for none.
        tau: Its time constant, steps; 0 for none.
    """

    def __init__(self, shape: tuple[int, int, int], time_steps: int, frames: bool) -> None:
        """Begin with the input ``[C, H, W]``."""
        self.time_steps, self.frames = time_steps, frames
        self.maps = [Maps(*shape, steps=time_steps if frames else 1, greatest=0)]
        self.instructions: list[Instruction] = []
        self.kept, self.tau = 0.0, 0.0

    def add(self, new: Instruction, outputs: int | None = None) -> int:
        """Add an instruction and return the number of its map.

        Raises:
            UserError: A kernel does not fit, or sums of spikes may be above 255.
        """
        source = self.maps[new.source]
        height, width = (
            (size + 2 * new.padding - kernel) // new.stride + 1
            for size, kernel in zip((source.height, source.width), new.kernel, strict=True)
        )
        greatest, steps = source.greatest, source.steps
        if new.kind == "sum":
            greatest *= new.kernel[0] * new.kernel[1]
        if new.kind in (*FEEDS, "mean"):
            greatest = int(bool(new.neuron))
        if new.neuron or new.kind == "mean":
            steps = self.time_steps if new.neuron else 1
        if new.join:
            greatest = self.maps[new.other].greatest + (new.join == "add")
        if min(height, width) < 1 or greatest > GREATEST:
            raise UserError(
                f"{new.name or new.kind}: a map of {height}x{width} with sums of spikes up to "
                f"{greatest}: the C program takes at least 1x1 and at most {GREATEST}"
            )
        self.maps.append(Maps(outputs or source.channels, height, width, steps, greatest))
        self.instructions.append(new)
        return len(self.instructions)

    def places(self) -> Places:
        """Return where the maps lie: a map's memory is used again once nothing reads it."""
        last = list(range(len(self.maps)))
        for number, each in enumerate(self.instructions, start=1):
            for read in {each.source, each.other} if each.join else {each.source}:
                last[read] = number
        at, ends = [0], {True: 0, False: 0}
        for number, maps in enumerate(self.maps[1:], start=1):
            whole, begin = maps.greatest > 0, 0
            taken = [
                (at[i], at[i] + self.maps[i].size)
                for i in range(1, number)
                if last[i] >= number and (self.maps[i].greatest > 0) == whole
            ]
            for first, end in sorted(taken):
                if begin + maps.size > first:
                    begin = max(begin, end)
            at.append(begin)
            ends[whole] = max(ends[whole], begin + maps.size)
        return Places(tuple(at), ends[True] + self.time_steps, ends[False])


def program_of(network: nn.Module, shape: tuple[int, int, int], time_steps: int) -> Program:
    """Return the instructions of a network in evaluation mode.

    Args:
        network: One of this program's spiking networks, with its weights.
        shape: Of an image or a frame, ``[C, H, W]``.
        time_steps: T.

    Raises:
        UserError: The network is none of them, or has something that the C program lacks.
    """
    program = Program(shape, time_steps, frames=isinstance(network, SewNet))
    names = {module: name for name, module in network.named_modules()}
    if isinstance(network, StbpNetwork | TsslBpNetwork):
        _add_row(program, network)
    elif isinstance(network, SpikingVgg):
        _add_vgg(program, network, names)
    elif isinstance(network, SewNet | SewResNet):
        _add_sew(program, network, names)
    else:
        raise UserError(
            f"{type(network).__name__} is not a spiking network of this program: the C program "
            "runs those of stbp, tssl_bp, snn_calibration and surrogate"
        )
    return program


def float32(number: float) -> float:
    """Return a number as it is in float32."""
    return float(np.float32(number))


def _weights(program: Program, layer: nn.Module, name: str, source: int) -> Instruction:
    """Return the instruction of a convolution, or of a linear layer as one of the map's size."""
    if isinstance(layer, nn.Linear):
        maps = program.maps[source]
        return Instruction("layer", source, (maps.height, maps.width), name=name)
    assert isinstance(layer, nn.Conv2d)
    stride, padding, kernel = layer.stride, layer.padding, layer.kernel_size
    if (
        isinstance(padding, str)
        or len({*stride}) + len({*padding}) > 2
        or (layer.groups, *layer.dilation, layer.padding_mode) != (1, 1, 1, "zeros")
    ):
        raise UserError(f"{name}: the C program has no groups, dilation or unequal strides")
    return Instruction("layer", source, (kernel[0], kernel[1]), stride[0], padding[0], name)


def _outputs(layer: nn.Module) -> int:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return len(weight)


def _add_row(program: Program, network: StbpNetwork | TsslBpNetwork) -> None:
    """Add layers and poolings in a row, neurons behind every layer."""
    number, gain = 0, 1.0
    for name, layer in network.named_children():
        if isinstance(layer, SumPool):
            number, gain = program.add(Instruction("sum", number, (2, 2), 2)), gain * layer.factor
            continue
        neuron = neuron_of(network.neuron, program.time_steps, gain)
        weights = replace(_weights(program, layer, name, number), neuron=neuron)
        number, gain = program.add(weights, _outputs(layer)), 1.0
    if isinstance(network, TsslBpNetwork):
        tau = network.neuron.tau_s
        program.kept, program.tau = float32(1 - 1 / tau), float32(tau)


def neuron_of(
    neuron: StbpNeuron | TsslBpNeuron | IntegrateAndFire, time_steps: int, gain: float = 1.0
) -> Neuron:
    """Return a neuron as the C program has it; gain is the factor on the current."""
    if isinstance(neuron, StbpNeuron):
        name, constants = "stbp", [neuron.decay]
    elif isinstance(neuron, IntegrateAndFire):
        name, constants = "if", [neuron.shift(time_steps)]
    else:
        name = "tssl"
        constants = [1 - 1 / neuron.tau_s, gain / neuron.tau_s, 1 / neuron.tau_m]
    return Neuron(name, tuple(map(float32, [neuron.threshold, *constants])))


def _add_vgg(program: Program, network: SpikingVgg, names: Mapping[nn.Module, str]) -> None:
    """Add convolutions and averages, neurons behind each, and the classifier."""
    number, neuron = 0, neuron_of(network.neuron, program.time_steps)
    for i, layer in enumerate(network.features):
        potential = network.potential(i)
        initial = "" if potential is None else f"potential{i}"
        first = (
            float32(potential.item()) if potential is not None and potential.numel() == 1 else None
        )
        if isinstance(layer, AveragePool):
            factor = float32(layer.factor.item())
            new = Instruction("average", number, (2, 2), 2, name=names[layer], factor=factor)
            outputs = None
        else:
            new, outputs = _weights(program, layer, names[layer], number), _outputs(layer)
        behind = replace(new, initial=initial, first=first, neuron=neuron)
        number = program.add(behind, outputs)
    classifier = network.classifier
    program.add(_weights(program, classifier, "classifier", number), _outputs(classifier))


def _add_sew(program: Program, network: SewNet | SewResNet, names: Mapping[nn.Module, str]) -> None:
    """Add layers, blocks with their shortcuts, maxima, the mean and the classifier."""
    if isinstance(network, SewResNet):
        number = _add_normed(program, network.stem, names, 0)
        number = program.add(Instruction("max", number, (3, 3), 2, 1))
        modules = network.blocks
    else:
        number, modules = 0, network.features
    for module in modules:
        if isinstance(module, SewBlock):
            number = _add_block(program, module, names, number)
        elif isinstance(module, Layer):
            number = _add_normed(program, module, names, number)
        else:
            assert isinstance(module, Halve)
            if max(program.maps[number].height, program.maps[number].width) > 1:
                number = program.add(Instruction("max", number, (2, 2), 2))
    maps = program.maps[number]
    everywhere = isinstance(network, SewResNet)  # else over time alone
    size = (maps.height, maps.width) if everywhere else (1, 1)
    number = program.add(Instruction("mean", number, size))
    classifier = network.classifier
    program.add(_weights(program, classifier, "classifier", number), _outputs(classifier))


def _add_block(
    program: Program, block: SewBlock, names: Mapping[nn.Module, str], source: int
) -> int:
    other = source
    if block.shortcut is not None:
        other = _add_normed(program, block.shortcut, names, source)
    hidden = _add_normed(program, block.first, names, source)
    return _add_normed(program, block.second, names, hidden, block.connection, other)


def _add_normed(
    program: Program,
    layer: Layer,
    names: Mapping[nn.Module, str],
    source: int,
    join: str = "",
    other: int = 0,
) -> int:
    """Add convolution, normalisation, neurons and, if there is one, a shortcut."""
    leak = layer.neuron.leak()
    neuron = Neuron("hard", (THRESHOLD,))
    if leak is not None:
        neuron = Neuron("plif", (THRESHOLD, leak.item()))
    new = replace(
        _weights(program, layer.conv, names[layer.conv], source),
        norm=names[layer.norm],
        epsilon=float32(layer.norm.eps),
        neuron=neuron,
        join=join,
        other=other,
    )
    return program.add(new, layer.conv.out_channels)


def codes_of(name: str, levels: Levels) -> tuple[tuple[int, ...], int]:
    """Return the codes of levels, and how many make a level of 1.

    Raises:
        UserError: The levels are not whole numbers times a power of two.
    """
    if (found := level_codes(levels.levels)) is None:
        raise UserError(f"{name}: levels {levels.levels} are not whole numbers; C counts codes")
    return found


def code_scale(levels: LayerLevels, unit: int) -> float:
    """Return the scale of a code as layers compute with it, float32."""
    return float(torch.tensor(levels.scale, dtype=torch.float32) / unit)


def words_of(
    program: Program, levels: Mapping[str, Levels], tensors: Mapping[str, int], scales: str
) -> str:
    """Return the instructions in words, as a packed file has them.

    Args:
        program: The instructions.
        levels: Of quantised weights by name of their tensor.
        tensors: First byte of every tensor in the payload, by name.
        scales: Ending of the name of a tensor of scales.
    """
    shape, places = program.maps[0], program.places()
    kind = "frames" if program.frames else "image"
    input_size = f"{kind} {shape.channels} {shape.height} {shape.width}"
    parts = [f"steps {program.time_steps}", input_size]
    for i, each in enumerate(program.instructions):
        numbers = (each.source, places.at[i + 1], *each.kernel, each.stride, each.padding)
        outputs = f" {program.maps[i + 1].channels}" if each.kind == "layer" else ""
        parts.append(f"{each.kind} {' '.join(map(str, numbers))}{outputs}")
        if each.kind == "layer":
            parts += _words_of_weights(f"{each.name}.weight", levels, tensors, scales)
        if each.kind == "average":
            parts.append(f"scale {each.factor.hex()}")
        if (bias := f"{each.name}.bias") in tensors:
            parts.append(f"bias {tensors[bias]}")
        if each.norm:
            of = ("weight", "bias", "running_mean", "running_var")
            at = " ".join(str(tensors[f"{each.norm}.{part}"]) for part in of)
            parts.append(f"norm {each.epsilon.hex()} {at}")
        if each.first is not None:
            parts.append(f"first {each.first.hex()}")
        elif each.initial:
            parts.append(f"initial {tensors[each.initial]}")
        if each.neuron:
            constants = " ".join(constant.hex() for constant in each.neuron.constants)
            parts.append(f"{each.neuron.name} {constants}")
        if each.join:
            parts.append(f"{each.join} {each.other}")
    parts.append(f"read {program.kept.hex()} {program.tau.hex()}")
    return "; ".join(parts)


def _words_of_weights(
    name: str, levels: Mapping[str, Levels], tensors: Mapping[str, int], scales: str
) -> list[str]:
    """Return the words on the weights of a layer."""
    if name not in levels:
        return [f"weight {tensors[name]}"]
    found = levels[name]
    codes, unit = codes_of(name, found)
    known = " ".join(map(str, codes))
    words = f"codes {found.bits} {len(codes)} {tensors[name]} {known}"
    if isinstance(found, LayerLevels):
        return [words, f"scale {code_scale(found, unit).hex()}"]
    return [words, f"scales {unit} {tensors[name + scales]}"]
