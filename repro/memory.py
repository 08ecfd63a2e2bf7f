"""Weight memory of a network: bits per weight -> bytes per model, in two named conventions.

* ``weights_only``, the paper's: the weights of Conv and Linear layers. Biases, batch
  normalisation, neuron parameters and scales are not counted; layers that are not quantised
  count 32 bits a weight.
* ``everything``: every tensor of the state dict in its own data type, quantised weights packed,
  and one FP32 scale per quantised layer (or per channel of it). A packed file
  (``repro.packing``) has this size plus its header.

1 MB is 10^6 bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import nn

from repro.cbp.selection import WeightLayer, find_layers

FP32_BITS: Final = 32
SCALE_BYTES: Final = 4


@dataclass(frozen=True)
class Memory:
    """Weight counts and bytes of one network.

    Attributes:
        weights: Weights of all Conv and Linear layers, biases excluded.
        quantised_weights: Those of them that are stored as levels.
        fp32_bytes: ``weights`` at 32 bits each.
        weights_only_bytes: ``weights`` at their own number of bits; every layer is rounded up
            to whole bytes, as in a packed file.
        everything_bytes: All tensors of the state dict, quantised weights packed, plus 4 bytes
            per scale.
    """

    weights: int
    quantised_weights: int
    fp32_bytes: int
    weights_only_bytes: int
    everything_bytes: int

    @property
    def ratio(self) -> float:
        """Return ``weights_only_bytes / fp32_bytes``, a fraction in (0, 1]."""
        return self.weights_only_bytes / self.fp32_bytes


def packed_bytes(weights: int, bits: int) -> int:
    """Return the whole bytes that ``weights`` dense codes of ``bits`` bits take.

    >>> packed_bytes(9, bits=1), packed_bytes(4, bits=2)
    (2, 1)
    """
    return (weights * bits + 7) // 8


def count(
    network: nn.Module, bits: Mapping[str, int], scales: Mapping[str, int] | None = None
) -> Memory:
    """Return the memory of a network some of whose layers are quantised.

    Only shapes and data types are read, so a network on the ``meta`` device will do.

    Args:
        network: Plain or converted network; a parametrised (prepared) one is refused.
        bits: Module path of each quantised layer, for example ``conv2``, -> bits per weight,
            1 to 32. Layers left out count as FP32.
        scales: Number of scales of each quantised layer that has not exactly one.

    Raises:
        ValueError: A name is not that of a Conv or Linear layer, bits are out of range, the
            network has no such layer at all, or its weights are still parametrised.
    """
    layers = find_layers(network)
    state = network.state_dict()
    _check(layers, bits, set(state))
    everything = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    weights_only = 0
    for name, layer in layers.items():
        weight = layer.weight
        packed = packed_bytes(weight.numel(), bits.get(name, FP32_BITS))
        weights_only += packed
        if name in bits:
            everything += packed - weight.numel() * weight.element_size()
            everything += SCALE_BYTES * (scales or {}).get(name, 1)
    weights = sum(layer.weight.numel() for layer in layers.values())
    return Memory(
        weights=weights,
        quantised_weights=sum(layers[name].weight.numel() for name in bits),
        fp32_bytes=weights * FP32_BITS // 8,
        weights_only_bytes=weights_only,
        everything_bytes=everything,
    )


def _check(layers: Mapping[str, WeightLayer], bits: Mapping[str, int], tensors: set[str]) -> None:
    """Raise ValueError unless ``bits`` and the network's tensors fit its weight layers."""
    if not layers:
        raise ValueError("the network has no Conv or Linear layer: its weights cannot be counted")
    if unknown := sorted(set(bits) - set(layers)):
        known = ", ".join(layers)
        raise ValueError(
            f"no Conv or Linear layer is called {', '.join(unknown)}: the network has {known}"
        )
    for name, value in bits.items():
        if not 1 <= value <= FP32_BITS:
            raise ValueError(f"{name}: {value} bits per weight, must be 1 to {FP32_BITS}")
    for name in layers:
        weight = f"{name}.weight" if name else "weight"
        if weight not in tensors:
            raise ValueError(f"{name} holds no plain weight: convert the prepared network first")
