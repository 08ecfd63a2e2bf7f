"""How spikes pass from the neurons behind one layer to the next layer."""

from torch import Tensor, nn

from repro.products.layer import Form, Packed, form_for
from repro.products.spikes import PackedSpikes


def wanted(layer: nn.Module, following: nn.Module) -> Form | None:
    """Return in which form the neurons behind a layer are to give their spikes to the next one.

    Maps that a linear layer reads are flattened first, which bits cannot be.
    """
    form = form_for(following)
    flattens = isinstance(following, nn.Linear) and not isinstance(layer, nn.Linear)
    return None if isinstance(form, Packed) and flattens else form


def folded(fired: Tensor | PackedSpikes, layer: nn.Module) -> Tensor | PackedSpikes:
    """Return spikes ``[T, B, ...]`` as the layer that gets them takes them, ``[T * B, ...]``."""
    if isinstance(fired, PackedSpikes):
        return fired
    spikes = fired.flatten(0, 1)
    return spikes.flatten(1) if isinstance(layer, nn.Linear) else spikes
