"""SEW-ResNet: spiking residual networks with spike-element-wise connections.

References: Fang et al., *Deep residual learning in spiking neural networks*, NeurIPS 2021. 7B-Net
is its network for DVS128 Gesture, Wide-7B-Net that for CIFAR10-DVS, both with PLIF neurons;
SEW-ResNet18 and 34 are those for ImageNet, with IF neurons. 5B-Net is ours, for N-MNIST: 7B-Net
without the two blocks that would only see one pixel of a 34x34 sensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from repro.networks.convolution import UnfoldedConv2d
from repro.neurons.layer import HardResetLayer
from repro.neurons.normed_plif import Connection

EventNetwork = Literal["sew_7b", "sew_wide_7b", "sew_5b"]
ImageNetwork = Literal["sew_resnet18", "sew_resnet34"]
# Channels of the blocks; each is followed by a max-pool that halves the side.
BLOCKS: Final[dict[EventNetwork, tuple[int, ...]]] = {
    "sew_7b": (32,) * 7,
    "sew_wide_7b": (64,) * 4 + (128,) * 3,
    "sew_5b": (32,) * 5,
}
# Kernel of the convolution that changes the channels; the stem's is 3 in all.
CHANGE_KERNEL: Final[dict[EventNetwork, int]] = {"sew_7b": 1, "sew_wide_7b": 3, "sew_5b": 1}
# Blocks of the four stages, of 64 to 512 channels.
STAGES: Final[dict[ImageNetwork, tuple[int, ...]]] = {
    "sew_resnet18": (2, 2, 2, 2),
    "sew_resnet34": (3, 4, 6, 3),
}
POLARITIES: Final = 2
COLOURS: Final = 3


@dataclass(frozen=True)
class NeuronKind:
    """Neurons of a network.

    Attributes:
        tau: Initial time constant of PLIF neurons, steps; None for IF neurons.
    """

    tau: float | None

    def layer(self) -> HardResetLayer:
        """Return the neurons of one layer."""
        return HardResetLayer(self.tau)


def _unfold(folded: Tensor, steps: int) -> Tensor:
    """Return ``[T, B, ...]`` of ``[T*B, ...]``, the same memory."""
    maps: Tensor = folded.unflatten(0, (steps, -1))  # type: ignore[no-untyped-call]
    return maps


class Layer(nn.Module):
    """Convolution without bias, batch normalisation over batch and time, and neurons.

    Attributes:
        conv: Sees all time steps in one call.
        norm: Its statistics run over batch, time and space.
        neuron: One leak for the layer.
    """

    def __init__(self, conv: nn.Conv2d, neuron: HardResetLayer) -> None:
        """Take the convolution and the neurons."""
        super().__init__()
        self.conv, self.norm, self.neuron = conv, nn.BatchNorm2d(conv.out_channels), neuron

    def forward(
        self,
        spikes: Tensor,
        time_steps: int,
        shortcut: Tensor | None = None,
        connection: Connection = "add",
    ) -> Tensor:
        """Return ``[T, B, C, H, W]`` for ``[T, B, ...]``, or ``[1, B, ...]`` of a static image.

        Args:
            spikes: Input.
            time_steps: T.
            shortcut: What the spikes are combined with.
            connection: How.
        """
        maps = _unfold(self.conv(spikes.flatten(0, 1)), spikes.shape[0])
        out: Tensor = self.neuron(maps, time_steps, self.norm, shortcut, connection)
        return out


class SewBlock(nn.Module):
    """Two layers and a shortcut, combined spike by spike.

    Attributes:
        first: A 3x3 layer, of stride 2 where the block halves the side.
        second: A 3x3 layer.
        shortcut: A 1x1 layer where the shape changes, else None.
        connection: How spikes and shortcut combine.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, kind: NeuronKind, connection: Connection
    ) -> None:
        """Build the block."""
        super().__init__()
        self.first = _layer(inputs, outputs, 3, kind, stride)
        self.second = _layer(outputs, outputs, 3, kind)
        changes = stride != 1 or inputs != outputs
        self.shortcut = _layer(inputs, outputs, 1, kind, stride) if changes else None
        self.connection = connection

    def forward(self, spikes: Tensor, time_steps: int) -> Tensor:
        """Return ``[T, B, C', H', W']`` for ``[T, B, C, H, W]``."""
        other = spikes if self.shortcut is None else self.shortcut(spikes, time_steps)
        hidden = self.first(spikes, time_steps)
        out: Tensor = self.second(hidden, time_steps, other, self.connection)
        return out


def _layer(inputs: int, outputs: int, kernel: int, kind: NeuronKind, stride: int = 1) -> Layer:
    # oneDNN gives a wrong gradient, or writes past its memory, where a 1x1 layer of few channels
    # takes steps over maps that lie channels-last (its issue 6035).
    convolution = UnfoldedConv2d if kernel == 1 and stride > 1 else nn.Conv2d
    conv = convolution(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return Layer(conv, kind.layer())


class Halve(nn.Module):
    """Maximum of 2x2; a map of one pixel stays as it is."""

    def forward(self, spikes: Tensor, time_steps: int) -> Tensor:
        """Return ``[T, B, C, H/2, W/2]`` for ``[T, B, C, H, W]``."""
        if max(spikes.shape[-2:]) == 1:
            return spikes
        return _unfold(max_pool2d(spikes.flatten(0, 1), 2), spikes.shape[0])


class SewNet(nn.Module):
    """A row of layers, blocks and poolings for events; the classifier reads the mean over time.

    No state survives a call.

    Attributes:
        features: First to last; each takes spikes and T.
        classifier: Linear, with bias.
    """

    def __init__(self, features: Sequence[nn.Module], classifier: nn.Linear) -> None:
        """Take the modules."""
        super().__init__()
        self.features = nn.ModuleList(features)
        self.classifier = classifier

    def forward(self, events: Tensor) -> Tensor:
        """Return logits ``[1, B, K]`` for frames of events ``[B, T, 2, H, W]``.

        T may differ from call to call: in training the network sees a choice of the frames. The
        mean over time is taken before the classifier, so that one time step is left.
        """
        time_steps, spikes = events.shape[1], events.transpose(0, 1).contiguous()
        for module in self.features:
            spikes = module(spikes, time_steps)
        logits: Tensor = self.classifier(spikes.flatten(2).mean(0))
        return logits.unsqueeze(0)


class SewResNet(nn.Module):
    """SEW-ResNet for images, which are shown at every time step.

    The static image passes stem convolution and normalisation once. No state survives a call.

    Attributes:
        stem: 7x7 layer of stride 2, then a 3x3 max-pool of stride 2.
        blocks: First to last.
        classifier: Linear, with bias; reads the mean over space and time.
        time_steps: T.
    """

    def __init__(
        self, stem: Layer, blocks: Sequence[SewBlock], classifier: nn.Linear, time_steps: int
    ) -> None:
        """Take the modules."""
        super().__init__()
        self.stem, self.blocks, self.classifier = stem, nn.ModuleList(blocks), classifier
        self.time_steps = time_steps

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[1, B, K]`` for images ``[B, 3, H, W]``."""
        spikes = self.stem(images.unsqueeze(0), self.time_steps)
        pooled = max_pool2d(spikes.flatten(0, 1), 3, stride=2, padding=1)
        spikes = _unfold(pooled, self.time_steps)
        for block in self.blocks:
            spikes = block(spikes, self.time_steps)
        logits: Tensor = self.classifier(spikes.mean((0, 3, 4)))
        return logits.unsqueeze(0)


def _channels(units: int, width: float) -> int:
    return max(1, round(units * width))


def sew_net(
    name: EventNetwork,
    classes: int,
    *,
    width: float = 1.0,
    connection: Connection = "add",
    tau: float | None = 2.0,
) -> SewNet:
    """Return 7B-Net, Wide-7B-Net or 5B-Net for events ``[B, T, 2, H, W]``.

    H and W are at most 128, of 5B-Net at most 63. Seven or five blocks, each followed by a max-pool
    of 2 while the map is larger than a pixel, so that one pixel is left for the classifier. Weights
    are initialised as PyTorch does.

    Args:
        name: Which.
        classes: K.
        width: Channels as a fraction of the paper's.
        connection: How a block combines spikes and shortcut.
        tau: Initial time constant of the PLIF neurons, steps; None for IF neurons.
    """
    kind, features, inputs = NeuronKind(tau), list[nn.Module](), POLARITIES
    for units in BLOCKS[name]:
        outputs = _channels(units, width)
        if not features:
            features.append(_layer(inputs, outputs, 3, kind))
        elif outputs != inputs:
            features.append(_layer(inputs, outputs, CHANGE_KERNEL[name], kind))
        features += [SewBlock(outputs, outputs, 1, kind, connection), Halve()]
        inputs = outputs
    return SewNet(features, nn.Linear(inputs, classes))


def sew_resnet(
    name: ImageNetwork,
    classes: int,
    *,
    time_steps: int,
    width: float = 1.0,
    connection: Connection = "add",
    tau: float | None = None,
) -> SewResNet:
    """Return SEW-ResNet18 or 34 for images ``[B, 3, H, W]``.

    Convolutions are initialised as in ResNet (normal, by their outputs), normalisations with 1 and
    0.

    Args:
        name: Which.
        classes: K.
        time_steps: T.
        width: Channels as a fraction of the paper's.
        connection: How a block combines spikes and shortcut.
        tau: As in ``sew_net``; the paper's neurons are IF.
    """
    kind, inputs = NeuronKind(tau), _channels(64, width)
    stem = Layer(nn.Conv2d(COLOURS, inputs, 7, 2, padding=3, bias=False), kind.layer())
    blocks = []
    for stage, count in enumerate(STAGES[name]):
        outputs = _channels(64 * 2**stage, width)
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            blocks.append(SewBlock(inputs, outputs, stride, kind, connection))
            inputs = outputs
    network = SewResNet(stem, blocks, nn.Linear(inputs, classes), time_steps)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def zero_init_residual_(network: nn.Module) -> None:
    """Let every block begin as its shortcut: the last normalisation's weights are set to 0."""
    for module in network.modules():
        if isinstance(module, SewBlock):
            nn.init.zeros_(module.second.norm.weight)
