"""Run a packed file as it is: every layer decodes its weights just when its forward reads them.

``load_packed_`` works on any network whose state dict the file holds. A quantised weight stays 1 or
2 bits; reading the attribute (``layer.weight``) decodes it into memory that the layers share, in
the memory order that the network gave the weight. The values, and so the outputs, are bit for bit
those of the unpacked network; the peak is the packed file and the largest layer.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from repro.cbp.levels import LayerLevels
from repro.device.dense import _is_dense
from repro.errors import UserError
from repro.memory import packed_bytes
from repro.packing import PackedFile, PackedTensor, read
from repro.packing.bits import decode, encode

INTEGERS: Final = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
WEIGHTS: Final = "_packed_weights"  # attribute of a layer: its packed weights by parameter name


class Scratch:
    """Memory for one decoded weight at a time, shared by the layers of a network.

    While a tensor that was handed out is alive, or a view of it, the next one gets memory of its
    own. Not for several threads at once.
    """

    def __init__(self) -> None:
        """Start without memory."""
        self._grow(0)

    def empty(self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor, dense with these strides."""
        size = math.prod(shape) * dtype.itemsize
        if self._holders() > self._idle:  # someone still reads what it holds
            return torch.empty_strided(tuple(shape), tuple(strides), dtype=dtype)
        if size > self._memory.nbytes:
            self._grow(size)
        flat = torch.from_numpy(self._memory)[:size].view(dtype)
        return flat.as_strided(tuple(shape), tuple(strides))

    @property
    def nbytes(self) -> int:
        """Bytes of the shared memory."""
        return int(self._memory.nbytes)

    def _grow(self, size: int) -> None:
        # Through torch for its alignment: sums of some kernels depend on that.
        self._memory = torch.empty(size, dtype=torch.uint8).numpy()
        self._idle = self._holders()

    def _holders(self) -> int:
        """Return how many objects hold the memory; a tensor made of it is one, however viewed."""
        return sys.getrefcount(self._memory)


class PackedWeight:
    """One quantised weight as level indices.

    Attributes:
        codes: uint8; the indices in the memory order of the weight.
        tensor: Levels, shape and data type.
        strides: Of the decoded weight.
    """

    def __init__(
        self, codes: Tensor, tensor: PackedTensor, strides: Sequence[int], scratch: Scratch
    ) -> None:
        """Keep the indices in the order that the strides ask for.

        Args:
            codes: Row-major, as in the file.
            tensor: Levels, shape and data type.
            strides: Wanted; dense. Others are taken as row-major.
            scratch: Where to decode.
        """
        self.tensor, self._scratch = tensor, scratch
        row_major = torch.empty(tensor.shape, device="meta").stride()
        self.strides = tuple(strides) if _is_dense(tensor.shape, strides) else row_major
        levels = tensor.levels
        self._scales: Tensor | None = None
        if not isinstance(levels, LayerLevels):
            scales = torch.tensor(levels.scales, dtype=tensor.dtype)
            self._scales = scales.reshape(-1, *[1] * (len(tensor.shape) - 1))
            levels = LayerLevels(levels.levels, 1.0)
        self._patterns = levels.values(tensor.dtype).view(INTEGERS[tensor.dtype.itemsize])
        self.codes = codes if self.strides == row_major else self._reordered(codes)

    def decode(self, values: Tensor | None = None) -> Tensor:
        """Return the weight, in shared memory until it is no longer held.

        Args:
            values: What stands for each level, ``[L]``; None for the levels times the scale.
        """
        patterns = self._patterns if values is None else values
        dtype = self.tensor.dtype if values is None else values.dtype
        weight = self._scratch.empty(self.tensor.shape, self.strides, dtype)
        words = weight.as_strided((weight.numel(),), (1,)).view(patterns.dtype)
        bits = self.tensor.levels.bits
        decode(self.codes.numpy(), bits, patterns.numpy(), words.numpy())
        if values is None and self._scales is not None:
            weight.mul_(self._scales)
        return weight

    def _reordered(self, codes: Tensor) -> Tensor:
        """Return the indices packed in memory order."""
        shape, bits = self.tensor.shape, self.tensor.levels.bits
        index = np.empty(math.prod(shape), np.uint8)
        decode(codes.numpy(), bits, np.arange(1 << bits, dtype=np.uint8), index)
        order = sorted(range(len(shape)), key=lambda axis: -self.strides[axis])
        index = index.reshape(shape).transpose(order).reshape(-1)
        packed = np.empty(packed_bytes(index.size, bits), np.uint8)
        encode(index, bits, packed)
        return torch.from_numpy(packed)


@dataclass(frozen=True)
class Loaded:
    """What ``load_packed_`` did.

    Attributes:
        file: What the file says; ``tensors`` is empty, the network holds them.
        weights: The packed weights by name.
        scratch: The memory that they share.
    """

    file: PackedFile
    weights: dict[str, PackedWeight]
    scratch: Scratch

    @property
    def packed_bytes(self) -> int:
        """Bytes of all packed weights."""
        return sum(weight.codes.nbytes for weight in self.weights.values())

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that they would take unpacked."""
        tensors = [weight.tensor for weight in self.weights.values()]
        return sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors)


def load_packed_(network: nn.Module, path: str | Path) -> Loaded:
    """Give a network the weights of a packed file, quantised ones still packed, and set it to eval.

    Best made on the ``meta`` device, which takes no memory: ``with torch.device("meta")``. The
    network then computes on the CPU, for inference alone: parameters take no gradient, and packed
    weights are in no ``state_dict()``.

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
    _require_same_tensors(own, file, str(path))
    scratch, weights = Scratch(), {}
    for name in list(file.tensors):
        tensor = file.tensors.pop(name)
        owner, _, attribute = name.rpartition(".")
        module = network.get_submodule(owner)
        if name in file.layers:
            packed = PackedWeight(tensor, file.layers[name], own[name].stride(), scratch)
            _replace_by_packed(module, attribute, packed)
            weights[name] = packed
        else:
            _set(module, attribute, own[name], tensor)
    _require_no_meta(network, str(path))
    network.eval()
    return Loaded(file, weights, scratch)


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


def _replace_by_packed(module: nn.Module, name: str, weight: PackedWeight) -> None:
    """Make an attribute decode whenever it is read; the module stays one of its class.

    A subclass with a property, as ``torch.nn.utils.parametrize`` makes it; that keeps a tensor of
    the weight's own type and shape, which packed bytes are not.
    """
    kept = module.__dict__.setdefault(WEIGHTS, {})
    if name in kept:  # a module that stands in two places of the network
        return
    delattr(module, name)
    kept[name] = weight

    def decoded(self: nn.Module) -> Tensor:
        mine: PackedWeight = self.__dict__[WEIGHTS][name]
        return mine.decode()

    kind = type(module)
    members: dict[str, Any] = {name: property(decoded), "__module__": kind.__module__}
    module.__class__ = type(kind.__name__, (kind,), members)


def _require_no_meta(network: nn.Module, source: str) -> None:
    """Raise a UserError for a tensor that is in no state dict and has no values yet."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    if empty := [name for name, tensor in tensors if tensor.is_meta]:
        raise UserError(
            f"{empty[0]} of the network is on the meta device and not in {source}: build the "
            "network on the CPU"
        )
