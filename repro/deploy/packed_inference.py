"""Run a packed file as it is: weights stay bits, and layers count them.

``load_packed_`` works on any network whose state dict the file holds. Convolutions over one or two
axes and linear layers are replaced by layers that hold their codes as bits in the order in which
the kernel reads them (``repro.products``): whole numbers from 0 to 15, spikes above all, meet them
by counting, and the outputs are bit for bit those of a network trained or evaluated in the same
arithmetic. A real-valued input meets the decoded weight. Levels that are no whole numbers times a
power of two, other data types, and weights of modules of other kinds are decoded whenever they are
read. The peak is the packed file, and the largest of the weights that are decoded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from repro.cbp.levels import LayerLevels
from repro.device.dense import _is_dense
from repro.errors import UserError
from repro.networks.vgg import one_potential
from repro.packing import PackedFile, PackedTensor, read
from repro.packing.bits import decode
from repro.products.codes import level_codes
from repro.products.dispatch import pack_codes, unpack_codes
from repro.products.geometry import geometry_of
from repro.products.layer import (
    Coded,
    CodedLayer,
    StandIn,
    computes_as_torch,
    replace_,
    standing_in,
)
from repro.products.spikes import word_bits

INTEGERS: Final = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class PackedLayer(CodedLayer, StandIn):
    """A layer whose weight is kept as bits.

    Attributes:
        packed_weight: What it computes with.
        packed_from: Levels, shape and data type of the weight.
        strides: Of the decoded weight.
    """

    packed_weight: Coded
    packed_from: PackedTensor
    strides: tuple[int, ...]

    def coded(self) -> Coded:
        """Return the bits."""
        return self.packed_weight

    def dense_codes(self) -> tuple[Tensor, Tensor]:
        """Return the codes of maps, and their scale."""
        return unpack_codes(
            self.packed_weight.codes, self.packed_from.dtype
        ), self.packed_weight.scale

    def latent(self) -> None:
        """Return None: nothing trains."""

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """``[O, C / groups, kernel height, kernel width]``."""
        return self.packed_weight.codes.shape

    def maps_weight(self) -> Tensor:
        """Return the decoded weight of maps."""
        return self.maps_of(self.weight.contiguous())

    @property
    def weight(self) -> Tensor:
        """The decoded weight, in the memory order that the network gave it."""
        codes, scale = self.dense_codes()
        codes *= scale if scale.dim() == 0 else scale.view(-1, 1, 1, 1)
        shape = self.packed_from.shape
        return torch.empty_strided(shape, self.strides, dtype=codes.dtype).copy_(codes.view(shape))


class PackedConv1d(PackedLayer, nn.Conv1d):  # type: ignore[override]
    """A convolution over one axis."""


class PackedConv2d(PackedLayer, nn.Conv2d):  # type: ignore[override]
    """A convolution over two axes."""


class PackedLinear(PackedLayer, nn.Linear):  # type: ignore[override]
    """A linear layer."""


class Decoded(nn.Module):
    """Parametrisation of any weight: level indices of a file, decoded whenever it is read.

    Attributes:
        tensor: Levels, shape and data type.
        strides: Of the decoded weight.
    """

    def __init__(self, codes: Tensor, tensor: PackedTensor, strides: Sequence[int]) -> None:
        """Keep the indices, row-major, as in the file."""
        super().__init__()
        self._codes, self.tensor, self.strides = codes, tensor, tuple(strides)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the weight."""
        levels, dtype = self.tensor.levels, self.tensor.dtype
        single = levels if isinstance(levels, LayerLevels) else LayerLevels(levels.levels, 1.0)
        patterns = single.values(dtype).view(INTEGERS[dtype.itemsize])
        rows = torch.empty(self.tensor.shape, dtype=dtype)
        words = rows.view(-1).view(patterns.dtype)
        decode(codes.numpy(), levels.bits, patterns.numpy(), words.numpy())
        if not isinstance(levels, LayerLevels):
            rows *= torch.tensor(levels.scales, dtype=dtype).view(-1, *[1] * (rows.dim() - 1))
        if rows.stride() == self.strides:
            return rows
        return torch.empty_strided(rows.shape, self.strides, dtype=dtype).copy_(rows)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:
        """Return the indices, whatever weight was there."""
        return (self._codes,)


@dataclass(frozen=True)
class Loaded:
    """What ``load_packed_`` did.

    Attributes:
        file: What the file says; ``tensors`` is empty, the network holds them.
        counted: Bytes of the weights that are counted as bits, by name.
        decoded: Bytes of those that are decoded whenever they are read.
    """

    file: PackedFile
    counted: dict[str, int]
    decoded: dict[str, int]

    @property
    def packed_bytes(self) -> int:
        """Bytes of all packed weights in memory."""
        return sum(self.counted.values()) + sum(self.decoded.values())

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that they would take unpacked."""
        tensors = [self.file.layers[name] for name in [*self.counted, *self.decoded]]
        return sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors)


def load_packed_(network: nn.Module, path: str | Path) -> Loaded:
    """Give a network the weights of a packed file, quantised ones still packed, and set it to eval.

    Best made on the ``meta`` device, which takes no memory: ``with torch.device("meta")``. The
    network then computes on the CPU, for inference alone: parameters take no gradient, and packed
    weights are in no ``state_dict()`` under their names.

    Args:
        network: Any network with the tensors of the file, no more and no less. A weight keeps the
            memory format that the network gave it (channels-last, for example).
        path: File that ``repro.packing.pack`` wrote.

    Raises:
        PackedFileError: As ``repro.packing.unpack`` does.
        UserError: The file belongs to another network.
    """
    file = read(Path(path))
    own = network.state_dict()
    file.tensors.update(one_potential(file.tensors, own))
    _require_same_tensors(own, file, str(path))
    loaded = Loaded(file, {}, {})
    for name in list(file.tensors):
        tensor = file.tensors.pop(name)
        owner, _, attribute = name.rpartition(".")
        module = network.get_submodule(owner)
        if attribute == "weight" and packed_bits(module) is not None:
            continue  # a module that stands in two places of the network
        if name not in file.layers:
            _set(module, attribute, own[name], tensor)
        else:
            _put_packed(network, module, name, tensor, own[name].stride(), loaded)
    _require_no_meta(network, str(path))
    network.eval()
    return loaded


def _put_packed(
    network: nn.Module,
    module: nn.Module,
    name: str,
    codes: Tensor,
    strides: Sequence[int],
    loaded: Loaded,
) -> None:
    """Let a module count a weight, or decode it where it cannot."""
    tensor, attribute = loaded.file.layers[name], name.rpartition(".")[2]
    kind = _packed_kind(module, attribute, tensor)
    row_major = torch.empty(tensor.shape, device="meta").stride()
    dense = tuple(strides) if _is_dense(tensor.shape, strides) else row_major
    if kind is None or module is network:
        module.requires_grad_(False)
        parametrisation = Decoded(codes, tensor, dense)
        parametrize.register_parametrization(module, attribute, parametrisation, unsafe=True)
        loaded.decoded[name] = codes.nbytes
        return
    layer = standing_in(module, kind)
    del layer._parameters[attribute]
    layer.packed_weight = _coded(codes, tensor, layer)
    layer.packed_from, layer.strides = tensor, dense
    replace_(network, module, layer)
    loaded.counted[name] = layer.packed_weight.codes.nbytes


def _packed_kind(
    module: nn.Module, attribute: str, tensor: PackedTensor
) -> type[PackedLayer] | None:
    """Return the class that counts what a module computes; None where there is none."""
    counts = attribute == "weight" and tensor.dtype in (torch.float32, torch.float64)
    codes = level_codes(tensor.levels.levels)
    if not counts or codes is None or not computes_as_torch(module):
        return None
    if isinstance(module, nn.Linear):
        return PackedLinear
    return PackedConv2d if isinstance(module, nn.Conv2d) else PackedConv1d


def _coded(codes: Tensor, tensor: PackedTensor, layer: PackedLayer) -> Coded:
    """Return what a layer computes with, from the level indices of its weight."""
    found, geometry = level_codes(tensor.levels.levels), geometry_of(layer)
    assert found is not None
    assert geometry is not None
    known, unit = found
    table = np.array(known) - min(known)
    above = torch.empty(tensor.shape, dtype=torch.uint8)
    flat: Any = above.view(-1).numpy()
    decode(codes.numpy(), tensor.levels.bits, table.astype(np.uint8), flat)
    outputs, inner, *kernel = tensor.shape
    rows, taps = (kernel or [1, 1]) if len(kernel) != 1 else (1, kernel[0])
    levels, dtype = tensor.levels, tensor.dtype
    scale = levels.scale if isinstance(levels, LayerLevels) else levels.scales
    bits = word_bits(inner, rows * taps)
    packed = pack_codes(above.view(outputs, inner, rows, taps), known, geometry.groups, bits)
    return Coded(packed, torch.tensor(scale, dtype=dtype) / unit)


def packed_bits(layer: nn.Module) -> int | None:
    """Return the bits of a packed weight of a layer, as in its file; None if it is not packed."""
    if isinstance(layer, PackedLayer):
        return layer.packed_from.levels.bits
    if parametrize.is_parametrized(layer, "weight"):
        chain: Any = layer.parametrizations["weight"]  # type: ignore[index]
        if isinstance(chain[0], Decoded):
            return chain[0].tensor.levels.bits
    return None


def _require_same_tensors(own: dict[str, Tensor], file: PackedFile, source: str) -> None:
    """Raise a UserError unless names, shapes and types of packed weights are the network's."""
    absent = [f"{name} is not in the file" for name in own if name not in file.tensors]
    absent += [f"{name} is not in the network" for name in file.tensors if name not in own]
    for name in file.tensors.keys() & own.keys():
        there = file.layers.get(name)
        shape = there.shape if there else tuple(file.tensors[name].shape)
        if shape != (mine := tuple(own[name].shape)):
            absent.append(f"{name} is {shape} in the file, {mine} in the network")
        elif there and there.dtype != own[name].dtype:
            absent.append(f"{name} is {there.dtype} in the file, {own[name].dtype} in the network")
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise UserError(
            f"{source} does not fit the network: {'; '.join(absent[:3])}{more}: build the network "
            "that the file was written for"
        )


def _set(module: nn.Module, name: str, own: Tensor, tensor: Tensor) -> None:
    """Put a tensor of the file in the place, type and memory format of the module's own."""
    value = torch.empty_strided(own.shape, own.stride(), dtype=own.dtype).copy_(tensor)
    if name in module._parameters:
        module._parameters[name] = nn.Parameter(value, requires_grad=False)
    else:
        module._buffers[name] = value


def _require_no_meta(network: nn.Module, source: str) -> None:
    """Raise a UserError for a tensor that is in no state dict and has no values yet."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    if empty := [name for name, tensor in tensors if tensor.is_meta]:
        raise UserError(
            f"{empty[0]} of the network is on the meta device and not in {source}: build the "
            "network on the CPU"
        )
