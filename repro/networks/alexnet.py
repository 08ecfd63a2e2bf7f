"""TSSL-BP's network 96C3-256C3-P2-384C3-P2-384C3-256C3-1024-1024-K, without biases."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from repro.networks.passing import wanted
from repro.neurons.layer import TsslBpLayer
from repro.neurons.tssl_bp import TsslBpNeuron, synaptic_filter
from repro.products.layer import Form, Packed
from repro.products.spikes import PackedSpikes, sum_of_squares

CHANNELS: Final = (96, 256, 384, 384, 256)
POOLED_AFTER: Final = (2, 3)  # convolutions, counted from 1, that a pooling follows
HIDDEN: Final = (1024, 1024)
SIDE: Final = 8  # of the last map, for images of 32x32


class _SumPool(torch.autograd.Function):
    """Sum over 2x2 squares; keeps nothing for the backward pass."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:  # noqa: ANN401
        return nn.functional.avg_pool2d(maps, 2, divisor_override=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ANN401
        return nn.functional.interpolate(grad, scale_factor=2, mode="nearest")


class SumPool(nn.Module):
    """Sum of the spikes in squares of 2x2: 0 to 4, exact in bfloat16.

    Attributes:
        factor: Factor on the sum. The network applies it to the current of the next layer, which
            has no bias: the same result, and whole numbers in between.
    """

    def __init__(self, factor: float = 1.1) -> None:
        """Keep the factor."""
        super().__init__()
        self.factor = factor

    def forward(self, maps: Tensor | PackedSpikes) -> Tensor | PackedSpikes:
        """Return the sums ``[N, C, H/2, W/2]`` of ``[N, C, H, W]``, H and W even, no factor."""
        if isinstance(maps, PackedSpikes):
            return sum_of_squares(maps)
        sums: Tensor = _SumPool.apply(maps)  # type: ignore[no-untyped-call]
        return sums


class _Stage(NamedTuple):
    """A layer and the poolings before it."""

    pools: tuple[SumPool, ...]
    layer: nn.Module


def _stages(modules: Sequence[nn.Module]) -> list[_Stage]:
    """Return layers with the poolings before them."""
    stages, pools = list[_Stage](), list[SumPool]()
    for module in modules:
        if isinstance(module, SumPool):
            pools.append(module)
        else:
            stages.append(_Stage(tuple(pools), module))
            pools.clear()
    return stages


class TsslBpNetwork(nn.Module):
    """Convolutions and linear layers in a row, each followed by TSSL-BP neurons, for static images.

    The image passes the first layer once; later layers see all time steps in one call, only the
    neurons loop over time. No state survives a call.

    Attributes:
        time_steps: T.
        neuron: Constants of every neuron.
        dropout: Fraction of the inputs of every layer but the first that are 0 in training.
        fire: The neurons.
    """

    fire: TsslBpLayer

    def __init__(
        self,
        layers: Mapping[str, nn.Conv2d | nn.Linear | SumPool],
        time_steps: int,
        neuron: TsslBpNeuron,
        dropout: float = 0.0,
    ) -> None:
        """Take the layers by name, first to last.

        Raises:
            ValueError: A layer has a bias, or a pooling stands first or last.
        """
        super().__init__()
        self.time_steps, self.neuron, self.dropout = time_steps, neuron, dropout
        for name, layer in layers.items():
            if not isinstance(layer, SumPool) and layer.bias is not None:
                raise ValueError(f"{name} has a bias, which the synapses would filter: bias=False")
            self.add_module(name, layer)
        # Not among the children: these are layers and poolings, in their order.
        self.__dict__["fire"] = TsslBpLayer(neuron)
        ends = [list(layers.values())[i] for i in (0, -1)]
        if any(isinstance(layer, SumPool) for layer in ends):
            raise ValueError("a pooling stands between layers, not first or last")

    def forward(self, images: Tensor) -> Tensor:
        """Return the output neurons' filtered spikes ``[T, B, K]`` for images ``[B, C, H, W]``.

        Spikes travel in the form that the next layer takes.
        """
        first, *rest = self.children()
        stages = _stages(rest)
        fired = self.fire(first(images).unsqueeze(0), self.time_steps, self._form(first, stages[0]))
        forms = [self._form(stage.layer, following) for stage, following in pairwise(stages)]
        for stage, form in zip(stages, [*forms, None], strict=True):
            spikes, gain = self._handed_on(fired, stage)
            given = (stage.layer, spikes, self.time_steps, form)
            fired = self.fire.behind(*given, gain=gain)
        assert isinstance(fired, Tensor)
        return synaptic_filter(fired, self.neuron.tau_s)

    def _form(self, layer: nn.Module, following: "_Stage") -> Form | None:
        """Return in which form spikes pass from the neurons behind a layer to the next."""
        form = wanted(layer, following.layer)
        return None if isinstance(form, Packed) and self.training and self.dropout else form

    def _handed_on(
        self, fired: Tensor | PackedSpikes, stage: "_Stage"
    ) -> tuple[Tensor | PackedSpikes, float]:
        """Return what a layer gets of spikes, and the factor that its currents lack."""
        spikes = fired if isinstance(fired, PackedSpikes) else fired.flatten(0, 1)
        gain = 1.0
        for pool in stage.pools:
            spikes, gain = pool(spikes), gain * pool.factor
        if isinstance(spikes, PackedSpikes):
            return spikes, gain
        if self.training and self.dropout:
            spikes, gain = self._drop(spikes), gain / (1 - self.dropout)
        return spikes.flatten(1) if isinstance(stage.layer, nn.Linear) else spikes, gain

    def _drop(self, spikes: Tensor) -> Tensor:
        """Return ``[T*B, ...]`` with dropped inputs 0; ``1 / (1 - dropout)`` is left to the gain.

        The mask is the same at every step. It drops whole rows of a map, as the reference does,
        whose ``dropout3d`` takes channel times row for the channel.
        """
        train = spikes.view(self.time_steps, -1, *spikes.shape[1:])
        shape = train.shape[1:] if spikes.dim() < 4 else (*train.shape[1:4], 1)
        mask = torch.empty(shape, dtype=spikes.dtype, device=spikes.device)
        kept: Tensor = train * mask.bernoulli_(1 - self.dropout)
        return kept.flatten(0, 1)


def alexnet(
    classes: int,
    *,
    time_steps: int,
    neuron: TsslBpNeuron,
    width: float = 1.0,
    pooling_factor: float = 1.1,
    dropout: float = 0.2,
    conv_gain: float = 5.0,
) -> TsslBpNetwork:
    """Return the network for images ``[B, 3, 32, 32]``.

    Convolutions start as PyTorch's do, times ``conv_gain``; linear layers as Kaiming normal.

    Args:
        classes: K.
        time_steps: T.
        neuron: Constants of every neuron.
        width: Channels and hidden units as a fraction of the paper's.
        pooling_factor: Factor on the sum over 2x2 spikes.
        dropout: Fraction of inputs dropped before each layer but the first, in training.
        conv_gain: Factor on the convolutions' initial weights.

    References:
        Paper, Section IV, the TSSL-BP network; numbers and initialisation of the script and layers
        of CBP-QSNN's TSSL-BP.
    """
    channels = [3, *(max(1, round(c * width)) for c in CHANNELS)]
    units = [channels[-1] * SIDE**2, *(max(1, round(h * width)) for h in HIDDEN), classes]
    layers: dict[str, nn.Conv2d | nn.Linear | SumPool] = {}
    for i in range(1, len(CHANNELS) + 1):
        conv = nn.Conv2d(channels[i - 1], channels[i], 3, padding=1, bias=False)
        with torch.no_grad():
            conv.weight.mul_(conv_gain)
        layers[f"conv{i}"] = conv
        if i in POOLED_AFTER:
            layers[f"pool{i}"] = SumPool(pooling_factor)
    for i in range(1, len(HIDDEN) + 2):
        linear = nn.Linear(units[i - 1], units[i], bias=False)
        nn.init.kaiming_normal_(linear.weight)
        layers[f"fc{i}"] = linear
    return TsslBpNetwork(layers, time_steps, neuron, dropout)
