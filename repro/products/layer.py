"""Layers that take spikes in a form of their own, and how they take another layer's place.

A network asks ``form_for`` in which form a layer takes its spikes: a data type, bits, or, for any
ordinary module, None. A layer that is to compute in another way is *replaced*: a module of another
class, with the same parameters, buffers, hooks and mode, stands at every place where it stood.
"""

import copy
import math
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from repro.products.choice import Product, Way, choose
from repro.products.codes import PackedCodes, product_plain
from repro.products.dense import convolve
from repro.products.dispatch import pack, product, sum_of_events, unpack
from repro.products.geometry import Geometry, geometry_of
from repro.products.gradients import spike_product
from repro.products.spikes import PackedSpikes, word_bits

Module = TypeVar("Module", bound=nn.Module)
StandInKind = TypeVar("StandInKind", bound="StandIn")


@dataclass(frozen=True)
class Packed:
    """Spikes as bits (``repro.products.spikes``).

    Attributes:
        bits: Of a word.
    """

    bits: int


Form = torch.dtype | Packed


class SpikeLayer(nn.Module):
    """A layer that takes its spikes best in a certain form; in others, too."""

    @property
    @abstractmethod
    def form(self) -> Form | None:
        """The form; None for any."""


def form_for(layer: nn.Module) -> Form | None:
    """Return in which form a layer takes its spikes; None for that of the currents."""
    return layer.form if isinstance(layer, SpikeLayer) else None


@dataclass(frozen=True)
class Coded:
    """What a quantised layer computes with.

    Attributes:
        codes: Its weight.
        scale: Of a code, a scalar or ``[O]``, in the type of the result.
    """

    codes: PackedCodes
    scale: Tensor


class ProductLayer(SpikeLayer):
    """A layer that has a way of its own with spikes; mixed into a layer of torch's.

    Where the input is not made of whole numbers from 0 to 15, the layer computes what its other
    class does, with ``weight``.

    Attributes:
        chosen: How often a product was computed in a way, by both; none where there is no choice.
    """

    chosen: Counter[tuple[Product, Way]] | None = None

    @abstractmethod
    def sparse(self, spikes: PackedSpikes, maps: Tensor | None = None) -> Tensor:
        """Return the output ``[N, O, H', W']`` for spikes, which are the maps if those are given.

        No gradient goes through.
        """

    @abstractmethod
    def dense(self, maps: Tensor) -> Tensor:
        """Return the same for maps ``[N, C, H, W]``, by PyTorch."""

    @abstractmethod
    def maps_weight(self) -> Tensor:
        """Return the weight itself, ``[O, C / groups, kernel height, kernel width]``."""

    @abstractmethod
    def latent(self) -> Tensor | None:
        """Return what the gradient of the weight goes to; None where nothing trains."""

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, ...]:
        """``[O, C / groups, kernel height, kernel width]``."""

    @property
    def geometry(self) -> Geometry:
        """How the kernel walks."""
        found = geometry_of(self)
        assert found is not None
        return found

    @property
    def word_bits(self) -> int:
        """Bits of the words in which codes and spikes are packed."""
        _, channels, *kernel = self.weight_shape
        return word_bits(channels, math.prod(kernel))

    def choose(self, product: Product, spikes: PackedSpikes) -> Way:
        """Return how a product is computed, by shape and rate of the input, and note it."""
        way = choose(product, self.geometry, self.weight_shape[0], spikes.rate())
        self.chosen = Counter() if self.chosen is None else self.chosen
        self.chosen[product, way] += 1
        return way

    def forward(self, inputs: Tensor | PackedSpikes) -> Tensor:
        """Return the output of the layer for an input in any form."""
        if isinstance(inputs, PackedSpikes):
            return self.from_maps(self.sparse(inputs), inputs)
        maps = self.as_maps(inputs)
        spikes = None if maps is None else pack(maps, self.geometry.groups, self.word_bits)
        if maps is None or (spikes is None and maps.device.type == "cpu"):
            real: Tensor = super().forward(inputs)
            return real
        asks = torch.is_grad_enabled() and inputs.requires_grad
        if spikes is not None and not (asks or self.trains()):
            return self.from_maps(self.sparse(spikes, maps), inputs)
        given = (maps, self.latent(), self._bias(), self, spikes)
        return self.from_maps(spike_product(*given), inputs)

    def trains(self) -> bool:
        """Return whether a gradient is to reach the weight or the bias."""
        given = (self.latent(), self.bias)
        needs = any(isinstance(tensor, Tensor) and tensor.requires_grad for tensor in given)
        return torch.is_grad_enabled() and needs

    def as_maps(self, inputs: Tensor) -> Tensor | None:
        """Return ``[N, C, H, W]`` of an input; None of a single sample of maps."""
        if isinstance(self, nn.Linear):
            return inputs.reshape(-1, inputs.shape[-1], 1, 1)
        if isinstance(self, nn.Conv1d):
            return inputs.unsqueeze(-2) if inputs.dim() == 3 else None
        return inputs if inputs.dim() == 4 else None

    def from_maps(self, maps: Tensor, inputs: Tensor | PackedSpikes) -> Tensor:
        """Return ``[N, O, H', W']`` in the shape that the input asks for."""
        if isinstance(self, nn.Linear):
            rows = maps.flatten(1)
            return rows if isinstance(inputs, PackedSpikes) else rows.view(*inputs.shape[:-1], -1)
        return maps.squeeze(-2) if isinstance(self, nn.Conv1d) else maps

    def maps_of(self, weight: Tensor) -> Tensor:
        """Return ``[O, C / groups, kernel height, kernel width]`` of a weight of the layer."""
        return weight.view(self.weight_shape)

    def _bias(self) -> Tensor | None:
        bias = self.bias
        assert bias is None or isinstance(bias, Tensor)
        return bias


class CodedLayer(ProductLayer):
    """A quantised layer: ``scale * (sum of codes) + bias``."""

    @abstractmethod
    def coded(self) -> Coded:
        """Return what the layer computes with now."""

    @abstractmethod
    def dense_codes(self) -> tuple[Tensor, Tensor]:
        """Return the codes, shaped like the weight of maps, and their scale."""

    @property
    def form(self) -> Packed | None:
        """Bits, unless channels are in groups, whose words nobody else makes."""
        return Packed(self.word_bits) if self.geometry.groups == 1 else None

    def sparse(self, spikes: PackedSpikes, maps: Tensor | None = None) -> Tensor:
        """Return the output by counting bits; see the base class."""
        now = self.coded()
        return product(spikes, now.codes, self.geometry, now.scale, self._bias())

    def dense(self, maps: Tensor) -> Tensor:
        """Return the output by PyTorch."""
        codes, scale = self.dense_codes()
        return product_plain(maps, codes, self.geometry, scale, self._bias())


class EventLayer(ProductLayer):
    """A layer with real-valued weights that adds those which spikes meet, where that is faster."""

    form = None
    computes_as_torch = True

    def latent(self) -> Tensor:
        """Return the weight."""
        weight = self.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """``[O, C / groups, kernel height, kernel width]``."""
        outputs, channels, *kernel = self.latent().shape
        return outputs, channels, *([1] * (2 - len(kernel))), *kernel

    def maps_weight(self) -> Tensor:
        """Return the weight of maps."""
        return self.maps_of(self.latent().detach())

    def sparse(self, spikes: PackedSpikes, maps: Tensor | None = None) -> Tensor:
        """Return the output by events or, where that is faster, by PyTorch."""
        if self.choose("forward", spikes) == "events":
            return sum_of_events(spikes, self.maps_weight(), self.geometry, self._bias())
        return self.dense(unpack(spikes, self.latent().dtype) if maps is None else maps)

    def dense(self, maps: Tensor) -> Tensor:
        """Return the output by PyTorch."""
        return convolve(maps, self.maps_weight(), self._bias(), self.geometry)


class EventConv1d(EventLayer, nn.Conv1d):
    """A convolution over one axis."""


class EventConv2d(EventLayer, nn.Conv2d):
    """A convolution over two axes."""


class EventLinear(EventLayer, nn.Linear):
    """A linear layer."""


def event_kind(layer: nn.Module) -> type[EventLayer] | None:
    """Return the class that computes a layer by events; None where it stays as it is."""
    if not computes_as_torch(layer):
        return None
    if isinstance(layer, nn.Linear):
        return EventLinear
    return EventConv2d if isinstance(layer, nn.Conv2d) else EventConv1d


def computes_as_torch(layer: nn.Module) -> bool:
    """Return whether a layer computes what a convolution or a linear layer of torch's does.

    It may say so itself, in its class: ``computes_as_torch = True``; a class whose ``forward`` is
    its own and that does not say it computes something else.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
    if not isinstance(layer, kinds) or geometry_of(layer) is None:
        return False
    said = getattr(type(layer), "computes_as_torch", False)
    return said is True or type(layer).forward in [kind.forward for kind in kinds]


def like(layer: nn.Module, kind: type[Module]) -> Module:
    """Return a module of another class with the layer's parameters, buffers, hooks and mode.

    Tensors are shared; what is registered or changed later belongs to one of the two.
    """
    made = kind.__new__(kind)
    made.__dict__.update({name: _own(value) for name, value in vars(layer).items()})
    return made


def _own(value: object) -> object:
    """Return a copy of what modules register things in, anything else itself."""
    return copy.copy(value) if isinstance(value, dict | set) else value


class StandIn(SpikeLayer):
    """A layer that stands where one of another class stood, which ``plain_again`` gives back.

    Attributes:
        plain_kind: That class.
    """

    plain_kind: type[nn.Module]


def standing_in(layer: nn.Module, kind: type[StandInKind]) -> StandInKind:
    """Return a layer of a class that is to stand in a layer's place."""
    made = like(layer, kind)
    made.plain_kind = type(layer)
    return made


def plain_kind(layer: nn.Module) -> type[nn.Module]:
    """Return the class of a layer, or of the layer in whose place it stands."""
    return layer.plain_kind if isinstance(layer, StandIn) else type(layer)


def plain_again(layer: StandIn) -> nn.Module:
    """Return a layer of the class that stood in its place, with its parameters of now."""
    made = like(layer, layer.plain_kind)
    del made.__dict__["plain_kind"]
    return made


def replace_(network: nn.Module, layer: nn.Module, other: nn.Module) -> None:
    """Put another module wherever a layer stands below a network."""
    for parent in network.modules():
        for name, child in parent._modules.items():
            if child is layer:
                parent._modules[name] = other
