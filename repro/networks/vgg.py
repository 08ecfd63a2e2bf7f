"""VGG16 for 32x32 images: the ANN that SNN-Calibration converts, and the converted network.

Thirteen 3x3 convolutions with bias, 2x2 averages between them, one linear classifier. In the
spiking network every convolution and every average is followed by integrate-and-fire neurons of
threshold 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, starmap
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from repro.errors import UserError
from repro.networks.passing import folded, wanted
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.layer import IntegrateAndFireLayer
from repro.products.dispatch import unpack
from repro.products.layer import Form, Packed, SpikeLayer
from repro.products.spikes import PackedSpikes, sum_of_squares

AVERAGE: Final = 0  # among the channels: not a convolution but a 2x2 average
CHANNELS: Final = (
    *(64, 64, AVERAGE, 128, 128, AVERAGE, 256, 256, 256, AVERAGE),
    *(512, 512, 512, AVERAGE, 512, 512, 512, AVERAGE),
)
SIDE: Final = 32  # of the images
COLOURS: Final = 3
WORD: Final = 64  # bits of a word of spikes that an average takes
Potentials = Literal["neuron", "layer"]
"""First potentials: one number for each neuron, or for all neurons of a layer."""
UNITS: Final = tuple(channels for channels in CHANNELS if channels != AVERAGE)


class _Mean(torch.autograd.Function):
    """Mean of 2x2 that keeps nothing of its input for the backward pass but the shape."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:  # noqa: ANN401
        ctx.layout = maps.shape, maps.stride()
        return avg_pool2d(maps, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ANN401
        # Never written or read, so it costs address space and no memory.
        shaped = torch.empty_strided(*ctx.layout, dtype=grad.dtype, device=grad.device)
        arguments = ([2, 2], [2, 2], [0, 0], False, True, None)
        maps: Tensor = torch.ops.aten.avg_pool2d_backward(grad, shaped, *arguments)
        return maps


class AveragePool(SpikeLayer):
    """Mean of 2x2, times ``factor``, plus a bias per channel; nothing here is trained or counted.

    Equal to a depthwise 2x2 convolution of stride 2 whose weights are all ``factor / 4``, which is
    what the reference uses.

    Attributes:
        factor: Scalar buffer: 1, or the ratio of the thresholds before and behind the average.
        bias: Buffer ``[C]`` of a spiking network (light calibration); None in an ANN.
    """

    factor: Tensor
    bias: Tensor | None

    def __init__(self, channels: int | None = None) -> None:
        """Start as the mean.

        Args:
            channels: C, for a bias; None for an average without.
        """
        super().__init__()
        self.register_buffer("factor", torch.ones(()))
        self.register_buffer("bias", None if channels is None else torch.zeros(channels))

    form = Packed(WORD)

    def forward(self, maps: Tensor | PackedSpikes) -> Tensor:
        """Return ``[N, C, H/2, W/2]`` for maps ``[N, C, H, W]``."""
        if isinstance(maps, PackedSpikes):
            means = unpack(sum_of_squares(maps), self.factor.dtype) * 0.25 * self.factor
        else:
            means = _Mean.apply(maps) * self.factor  # type: ignore[no-untyped-call]
        return means if self.bias is None else means + self.bias[:, None, None]


class Vgg(nn.Module):
    """An ANN of convolutions, ReLU and averages in a row, and a linear classifier."""

    def __init__(self, features: Sequence[nn.Module], classifier: nn.Linear) -> None:
        """Take the modules, first to last."""
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[1, B, K]`` for images ``[B, C, H, W]``: an ANN takes one time step."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits.unsqueeze(0)


def _forms(layers: Sequence[nn.Module]) -> Iterator[Form | None]:
    """Yield in which form spikes pass from the neurons behind each layer to the next layer."""
    yield from starmap(wanted, pairwise(layers))


def one_potential(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return one number for first potentials that repeat it, where a network keeps one.

    Files of version 0.2 repeat half a threshold for every neuron of a network converted by QCFS.

    Args:
        given: Tensors of a file or state dict, by name.
        own: The network's, of which potentials have one element or one a neuron.
    """
    found = {}
    for name in given.keys() & own.keys():
        values = given[name].flatten()
        one = name.rpartition(".")[2].startswith("potential") and own[name].numel() == 1
        if one and len(values) > 1 and bool((values == values[0]).all()):
            found[name] = values[0].reshape(own[name].shape)
    return found


class SpikingVgg(nn.Module):
    """Convolutions and averages in a row, neurons of threshold 1 behind each, and a classifier.

    The static image passes the first layer once; later layers see all time steps in one call, only
    the neurons loop over time. No state survives a call.

    Attributes:
        features: The layers, without neurons.
        classifier: Reads the last neurons' spikes at every step.
        time_steps: T.
        neuron: Constants of every neuron.
        dropout: Probability that a convolution's spike is dropped, in training mode.
    """

    def __init__(
        self,
        features: Sequence[nn.Module],
        classifier: nn.Linear,
        time_steps: int,
        potentials: Sequence[Tensor] = (),
        dropout: float = 0.0,
        alpha: float = 2.0,
    ) -> None:
        """Take the layers.

        Args:
            features: Each gives the input current of its neurons.
            classifier: Last layer.
            time_steps: T.
            potentials: Initial potential ``[1, C, H, W]`` of the neurons of each layer, or
                ``[1, 1, 1, 1]``, kept as buffers; none for 0.
            dropout: See the attribute.
            alpha: Steepness of the surrogate gradient.
        """
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier, self.dropout = classifier, dropout
        self.time_steps, self.neuron = time_steps, IntegrateAndFire(alpha=alpha)
        self.neurons = IntegrateAndFireLayer(self.neuron)
        if potentials and len(potentials) != len(features):
            raise UserError(f"{len(potentials)} initial potentials for {len(features)} layers")
        for i, potential in enumerate(potentials):
            self.register_buffer(f"potential{i}", potential)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *more: Any) -> None:  # noqa: ANN401
        """Load; a file of version 0.2 repeats a layer's first potential for every neuron."""
        own = {
            prefix + name: buffer for name, buffer in self._buffers.items() if buffer is not None
        }
        state.update(one_potential(state, own))
        super()._load_from_state_dict(state, prefix, *more)

    def potential(self, layer: int) -> Tensor | None:
        """Return the initial potential of a layer's neurons, None for 0."""
        return self._buffers.get(f"potential{layer}")

    def fire(self, layer: int, current: Tensor) -> Tensor:
        """Return the spikes ``[T, B, C, H, W]`` of a layer's neurons.

        Args:
            layer: Number of the layer.
            current: Its output ``[T, B, C, H, W]``, or ``[1, B, C, H, W]`` if it is constant; used
                up where a backward pass follows.
        """
        spikes: Tensor = self.neurons(current, self.time_steps, initial=self.potential(layer))
        return spikes

    def forward(self, images: Tensor) -> Tensor:
        """Return the classifier's output ``[T, B, K]`` for images ``[B, C, H, W]``.

        The logits are the sum over T. Spikes travel in the form that the next layer takes.
        """
        layers = [*self.features, self.classifier]
        forms = [None if self._drops(i) else form for i, form in enumerate(_forms(layers))]
        fired = self.neurons(
            layers[0](images).unsqueeze(0), self.time_steps, forms[0], initial=self.potential(0)
        )
        for i, layer in enumerate(layers[1:-1], start=1):
            spikes = folded(fired, layer)
            given = (self.time_steps, forms[i])
            if isinstance(spikes, Tensor) and self._drops(i - 1):
                maps = self._drop_and_feed(spikes, layer)
                current = maps.view(self.time_steps, -1, *maps.shape[1:])
                fired = self.neurons(current, *given, initial=self.potential(i))
            else:
                fired = self.neurons.behind(layer, spikes, *given, initial=self.potential(i))
        spikes = folded(fired, self.classifier)
        if isinstance(spikes, Tensor) and self._drops(len(self.features) - 1):
            read = self._drop_and_feed(spikes, self.classifier)
        else:
            read = self.classifier(spikes)
        return read.view(self.time_steps, -1, read.shape[-1])

    def _drops(self, layer: int) -> bool:
        """Return whether spikes behind a layer are dropped now."""
        dropping = bool(self.dropout and self.training)
        return dropping and isinstance(self.features[layer], nn.Conv2d)

    def _drop_and_feed(self, spikes: Tensor, layer: nn.Module) -> Tensor:
        """Return ``layer(dropout(spikes))``; what dropout multiplies by is multiplied behind.

        Spikes stay 0 and 1, exact in bfloat16. Every spike of every step is dropped by itself.
        """
        kept = 1 - self.dropout
        maps: Tensor = layer(spikes * torch.empty_like(spikes).bernoulli_(kept)) / kept
        if (bias := layer.bias) is None:
            return maps
        assert isinstance(bias, Tensor)
        return maps - bias.reshape(-1, *[1] * (maps.dim() - 2)) * (1 / kept - 1)


def _channels(width: float) -> list[int]:
    return [max(1, round(units * width)) for units in UNITS]


def _convolutions(width: float) -> list[nn.Conv2d]:
    """Return the 13 convolutions, weights normal with variance ``2 / (9 * output channels)``."""
    channels = [COLOURS, *_channels(width)]
    layers = [nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(channels)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layers


def _classifier(classes: int, width: float) -> nn.Linear:
    """Return the classifier, weights normal with standard deviation ``1 / inputs``."""
    layer = nn.Linear(_channels(width)[-1], classes)
    nn.init.normal_(layer.weight, std=1 / layer.in_features)
    nn.init.zeros_(layer.bias)
    return layer


def vgg16(
    classes: int,
    *,
    width: float = 1.0,
    batch_norm: bool = False,
    dropout: float = 0.25,
) -> Vgg:
    """Return the ANN for images ``[B, 3, 32, 32]``.

    As in the reference, dropout stands where batch norm would: behind each of the 13 convolutions,
    before its ReLU, and nowhere in a network with batch norm. Names of the modules do not depend on
    either. Weights are initialised as in the reference.

    Args:
        classes: K.
        width: Channels as a fraction of the paper's.
        batch_norm: Batch norm behind every convolution.
        dropout: Probability, for a network without batch norm; 0 for none.

    References:
        Paper, Section V-D; Simonyan and Zisserman, ICLR 2015, configuration D with one linear
        layer and averages instead of maxima.
    """
    convolutions, features = iter(_convolutions(width)), []
    for units in CHANNELS:
        if units == AVERAGE:
            features += [AveragePool(), nn.ReLU()]
            continue
        layer = next(convolutions)
        between = nn.BatchNorm2d(layer.out_channels) if batch_norm else nn.Dropout(dropout)
        features += [layer, between, nn.ReLU()]
    return Vgg(features, _classifier(classes, width))


def spiking_vgg(
    classes: int,
    *,
    time_steps: int,
    width: float = 1.0,
    potentials: Potentials | None = None,
    dropout: float = 0.0,
    alpha: float = 2.0,
) -> SpikingVgg:
    """Return the spiking network for images ``[B, 3, 32, 32]``, for converted weights to load into.

    Args:
        classes: K.
        time_steps: T.
        width: Channels as a fraction of the paper's.
        potentials: What the neurons' initial potentials are (buffers, 0 at first); None for none.
        dropout: Probability that a convolution's spike is dropped, in training mode.
        alpha: Steepness of the surrogate gradient.
    """
    convolutions = iter(_convolutions(width))
    features: list[nn.Module] = []
    shapes, channels, side = [], COLOURS, SIDE
    for units in CHANNELS:
        if units == AVERAGE:
            features.append(AveragePool(channels))
            side //= 2
        else:
            layer = next(convolutions)
            channels = layer.out_channels
            features.append(layer)
        shapes.append((1, channels, side, side))
    if potentials == "layer":
        shapes = [(1, 1, 1, 1)] * len(shapes)
    initial = [torch.zeros(shape) for shape in shapes] if potentials else []
    return SpikingVgg(features, _classifier(classes, width), time_steps, initial, dropout, alpha)
