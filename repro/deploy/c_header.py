"""A network as a C header: its tables and weights, for a microcontroller without a file system."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from repro.cbp.levels import LayerLevels
from repro.deploy.c_network import WORD, Instruction, Maps, Program, code_scale, codes_of
from repro.packing import PackedFile
from repro.products.codes import shifts_of

MAP_BYTES: Final = 24  # of a cbp_map
OP_BYTES: Final = 104  # of a cbp_op where pointers have 4 bytes
NET_BYTES: Final = 36  # of a cbp_net there
A_LINE: Final = 8  # numbers

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Header:
    """A header and the memory that its network needs.

    Attributes:
        text: C99.
        flash: Bytes of its constants where pointers have 4 bytes; without the program's code.
        ram: Bytes of the working memory, without the input.
        input_bytes: Of the input.
    """

    text: str
    flash: int
    ram: int
    input_bytes: int


def header_of(program: Program, file: PackedFile, title: str) -> Header:
    """Return the header of a network.

    Args:
        program: Its instructions.
        file: The packed file with its weights.
        title: What it is of, for the first line.
    """
    places = program.places()
    arrays: dict[str, Array] = {}
    ops = [_op(i, each, program.maps, file, arrays) for i, each in enumerate(program.instructions)]
    numbers = sum(array.size for array in arrays.values())
    flash = 4 * numbers + MAP_BYTES * len(program.maps) + OP_BYTES * len(ops) + NET_BYTES
    classes, steps, first = program.maps[-1].channels, program.time_steps, program.maps[0]
    input_bytes = 4 * first.size
    ram = 4 * (places.bits + places.reals + classes)
    maps = (
        f"{{{m.channels}, {m.height}, {m.width}, {m.steps}, {m.planes}, {at}}}"
        for m, at in zip(program.maps, places.at, strict=True)
    )
    readout = f"{_real(program.kept)}, {_real(program.tau)}"
    lines = [
        f"/* {title.replace('*/', '')}",
        f" * Constants (flash): {flash:,} bytes where pointers have 4, without the code.",
        f" * Working memory (RAM): {ram:,} bytes; the input has {input_bytes:,} more. */",
        "#ifndef CBP_NETWORK_H",
        "#define CBP_NETWORK_H",
        '#include "cbp_net.h"',
        "",
        f"#define CBP_NETWORK_BITS {places.bits} /* elements of cbp_memory.bits */",
        f"#define CBP_NETWORK_REALS {max(places.reals, 1)} /* of cbp_memory.reals */",
        f"#define CBP_NETWORK_INPUTS {first.size} /* numbers of an input */",
        f"#define CBP_NETWORK_CLASSES {classes}",
        "",
        *(line for name, array in arrays.items() for line in _array(name, array)),
        "static const cbp_map cbp_maps[] = {",
        *(f"    {line}," for line in maps),
        "};",
        "static const cbp_op cbp_ops[] = {",
        *(f"    {{{line}}}," for line in ops),
        "};",
        "static const cbp_net cbp_network = {",
        f"    {steps}, {len(ops)}, {classes}, cbp_maps, cbp_ops, {readout},",
        f"    {places.bits}, {places.reals}}};",
        "#endif",
    ]
    return Header("\n".join(lines) + "\n", flash, ram, input_bytes)


def _op(
    number: int,
    each: Instruction,
    maps: list[Maps],
    file: PackedFile,
    arrays: dict[str, Array],
) -> str:
    """Return the initialiser of a cbp_op; add its arrays."""
    fields = [
        f".kind = CBP_{each.kind.upper()}, .source = {each.source}, .height = {each.kernel[0]}",
        f".width = {each.kernel[1]}, .stride = {each.stride}, .padding = {each.padding}",
    ]

    def keep(field: str, array: Array) -> None:
        arrays[f"cbp_{field}{number}"] = array
        fields.append(f".{field} = cbp_{field}{number}")

    weight = f"{each.name}.weight"
    if each.kind == "layer" and weight in file.layers:
        for field, found in _coded(weight, file, maps[each.source].channels).items():
            if isinstance(found, np.ndarray):
                keep(field, found)
            else:
                fields.append(f".{field} = {found}")
    elif each.kind == "layer":
        keep("weight", file.tensors[weight].numpy())
    if each.kind == "average":
        keep("scale", np.array([each.factor], np.float32))
    if (bias := file.tensors.get(f"{each.name}.bias")) is not None:
        keep("bias", bias.numpy())
    if each.norm:
        for field, tensor in _normalisation(each, file.tensors).items():
            keep(field, tensor.numpy())
    if each.first is not None:
        fields.append(f".first = {_real(each.first)}")
    elif each.initial:
        keep("initial", file.tensors[each.initial].numpy())
    if each.neuron:
        constants = ", ".join(map(_real, each.neuron.constants))
        fields.append(f".neuron = CBP_{each.neuron.name.upper()}, .constants = {{{constants}}}")
    if each.join:
        fields.append(f".join = CBP_{each.join.upper()}, .other = {each.other}")
    return ", ".join(fields)


def _coded(name: str, file: PackedFile, channels: int) -> dict[str, Array | str]:
    """Return fields of a cbp_op for a quantised weight ``[O, ...]`` that reads C channels."""
    layer = file.layers[name]
    codes, unit = codes_of(name, layer.levels)
    above = np.array(codes) - min(codes)
    outputs, bits = layer.shape[0], layer.levels.bits
    stream = np.unpackbits(file.tensors[name].numpy(), bitorder="little")
    count = int(np.prod(layer.shape))
    index = stream[: count * bits].reshape(count, bits) @ (1 << np.arange(bits))
    weights = above[index].reshape(outputs, channels, -1).transpose(0, 2, 1)  # [O, taps, C]
    shifts = shifts_of(codes)
    planes = np.stack([weights >> shift & 1 for shift in shifts], 1)  # [O, J, taps, C]
    padded = np.zeros((*planes.shape[:3], -(-channels // WORD) * WORD), np.uint8)
    padded[..., :channels] = planes
    words = np.packbits(padded, axis=-1, bitorder="little").view("<u4")
    if isinstance(layer.levels, LayerLevels):
        scale = np.array([code_scale(layer.levels, unit)], np.float32)
    else:
        scale = (torch.tensor(layer.levels.scales, dtype=torch.float32) / unit).numpy()
    return {
        "planes": str(len(shifts)),
        "least": str(min(codes)),
        "shifts": f"{{{', '.join(map(str, shifts))}}}",
        "codes": words,
        "scale": scale,
        "scale_step": str(int(len(scale) > 1)),
    }


def _normalisation(each: Instruction, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return gain and offset of a batch normalisation, rounded as its layer rounds them."""
    of = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, variance = (tensors[f"{each.norm}.{part}"] for part in of)
    gain = weight * (variance + each.epsilon).rsqrt()
    return {"gain": gain, "offset": bias - mean * gain}


def _array(name: str, array: Array) -> Iterator[str]:
    """Yield the lines of an array of words or real numbers."""
    whole = array.dtype.kind == "u"
    numbers = array.reshape(-1).tolist()
    yield f"static const {'uint32_t' if whole else 'float'} {name}[] = {{"
    for start in range(0, len(numbers), A_LINE):
        here = numbers[start : start + A_LINE]
        yield "    " + ", ".join(f"0x{n:08x}" if whole else _real(n) for n in here) + ","
    yield "};"


def _real(number: float) -> str:
    """Return a float literal of C, exact."""
    return f"{float(number).hex()}f"
