"""A quantised layer that trains and is evaluated as ``scale * (sum of codes) + bias``.

Sums of codes over spikes are whole numbers, exact however they are added up, so that training, the
evaluation of a run and a packed file compute the same numbers, bit for bit. On the CPU bits are
counted (``repro.products.codes``). Layers whose input is real-valued, whose levels are no whole
numbers times a power of two, or that compute something of their own stay as they are.
"""

from typing import Any

import torch
from torch import Tensor, nn

from repro.cbp.quantiser import Quantiser, quantise, stand_ins
from repro.products.codes import level_codes
from repro.products.dispatch import pack_codes
from repro.products.layer import Coded, CodedLayer, StandIn, computes_as_torch


class CodesLayer(CodedLayer, StandIn):
    """A layer whose weight is parametrised by a ``Quantiser``."""

    def latent(self) -> Tensor:
        """Return the latent weight."""
        chain: Any = self.parametrizations["weight"]  # type: ignore[index]
        latent: Tensor = chain.original
        return latent

    @property
    def quantiser(self) -> Quantiser:
        """Levels of the layer."""
        chain: Any = self.parametrizations["weight"]  # type: ignore[index]
        quantiser: Quantiser = chain[0]
        return quantiser

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """``[O, C / groups, kernel height, kernel width]``."""
        outputs, channels, *kernel = self.latent().shape
        if len(kernel) == 2:
            return outputs, channels, *kernel
        return outputs, channels, 1, kernel[0] if kernel else 1

    def maps_weight(self) -> Tensor:
        """Return ``Q(w)`` of maps."""
        with torch.no_grad():
            return self.maps_of(quantise(self.latent(), self.quantiser.values))

    @torch.no_grad()
    def coded(self) -> Coded:
        """Return the codes of the latent weight as it is now."""
        latent = self.latent()
        known, unit = whole_levels(self.quantiser)
        above = torch.tensor([code - min(known) for code in known], dtype=torch.uint8)
        found = self.maps_of(stand_ins(latent, self.quantiser.values, above))
        packed = pack_codes(found, known, self.geometry.groups, self.word_bits)
        return Coded(packed, self.quantiser.scale / unit)

    @torch.no_grad()
    def dense_codes(self) -> tuple[Tensor, Tensor]:
        """Return the codes of the latent weight as maps, and their scale."""
        known, unit = whole_levels(self.quantiser)
        latent = self.latent()
        chosen = torch.tensor(known, dtype=latent.dtype, device=latent.device)
        found = self.maps_of(stand_ins(latent, self.quantiser.values, chosen))
        return found, self.quantiser.scale.to(latent.device) / unit


def whole_levels(quantiser: Quantiser) -> tuple[tuple[int, ...], int]:
    """Return the codes of a quantiser's levels, and how many make a level of 1."""
    found = level_codes(quantiser.layer_levels.levels)
    assert found is not None
    return found


class CodesConv1d(CodesLayer, nn.Conv1d):
    """A convolution over one axis."""


class CodesConv2d(CodesLayer, nn.Conv2d):
    """A convolution over two axes."""


class CodesLinear(CodesLayer, nn.Linear):
    """A linear layer."""


def kind_of(layer: nn.Module, levels: tuple[float, ...]) -> type[CodesLayer] | None:
    """Return the class that computes a layer in codes; None where it stays as it is.

    Args:
        layer: Not prepared yet.
        levels: Its unscaled levels.
    """
    if level_codes(levels) is None or not computes_as_torch(layer):
        return None
    if isinstance(layer, nn.Linear):
        return CodesLinear
    return CodesConv2d if isinstance(layer, nn.Conv2d) else CodesConv1d
