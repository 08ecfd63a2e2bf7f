"""CBP training of the spiking VGG16 the plain way: the baseline that a faster version must beat.

Plain is what a researcher writes first, and how the paper's own code is built: a Python loop over
time that calls every layer at every step, the first one on the same image each time, quantises the
weight in every call, keeps the neurons' states in autograd, and sends the whole Lagrangian through
autograd. Plain is not sabotaged: PyTorch's own optimisers and pooling, one backward pass, nothing
copied or retained without need.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.plain_stbp import PlainCbpStep, PlainNetwork, _Quantise
from repro.cbp.levels import LEVELS
from repro.errors import UserError
from repro.networks.vgg import AveragePool, SpikingVgg, spiking_vgg
from repro.neurons.surrogate import arctan_spike

WEIGHT_DECAY = 1e-4


class PlainVgg(PlainNetwork):
    """Spiking VGG16, one call per layer and time step; output is the sum over the steps.

    Parameters have the names of ``repro.networks.vgg.SpikingVgg``.
    """

    features: nn.Sequential
    classifier: nn.Linear

    def __init__(self, classes: int = 10, *, time_steps: int = 32, width: float = 1.0) -> None:
        """Build the layers; nothing is quantised yet.

        Args:
            classes: K.
            time_steps: T.
            width: Factor on the channels.
        """
        super().__init__()
        layers = spiking_vgg(classes, time_steps=time_steps, width=width)
        self.features, self.classifier = layers.features, layers.classifier
        self.time_steps = time_steps
        self._levels: dict[str, Tensor] = {}

    def quantise_(self, precision: str) -> None:
        """Quantise the convolutions but the first from the next forward pass on.

        Args:
            precision: A key of ``LEVELS``.

        Raises:
            UserError: Another word.
        """
        if precision not in LEVELS:
            raise UserError(f"no levels for precision {precision}: choose one of {sorted(LEVELS)}")
        for i, layer in enumerate(self.features):
            if i > 0 and isinstance(layer, nn.Conv2d):
                unscaled = torch.tensor(LEVELS[precision], dtype=layer.weight.dtype)
                self._levels[f"features.{i}"] = unscaled * layer.weight.detach().abs().mean()

    def quantised(self) -> dict[str, tuple[nn.Parameter, Tensor]]:
        """Return latent weight and levels of each quantised layer; empty before ``quantise_``."""
        return {
            name: (cast(nn.Parameter, self.get_submodule(name).weight), levels)
            for name, levels in self._levels.items()
        }

    def _current(self, layer: int, signal: Tensor) -> Tensor:
        """Return the input current of the layer's neurons."""
        module, levels = self.features[layer], self._levels.get(f"features.{layer}")
        if levels is None:
            return cast(Tensor, module(signal))
        assert isinstance(module, nn.Conv2d)
        weight = cast(Tensor, _Quantise.apply(module.weight, levels))  # type: ignore[no-untyped-call]
        return functional.conv2d(signal, weight, module.bias, padding=1)

    def step(self, images: Tensor, potentials: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the classifier's output ``[B, K]`` and the potentials after one more time step.

        ``u = v[t-1] + current + 1 / (2 T)``, spike where ``u >= 1``, ``v[t] = u - s[t]``; the
        gradient flows through the reset.

        Args:
            images: ``[B, C, H, W]``.
            potentials: Of every layer's neurons after the step before; empty at the first step.
        """
        after, signal = [], images
        for i in range(len(self.features)):
            potential = self._current(i, signal) + 1 / (2 * self.time_steps)
            if potentials:
                potential = potential + potentials[i]
            signal = arctan_spike(potential, 1.0)
            after.append(potential - signal)
        return self.classifier(signal.flatten(1)), after

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``[B, K]`` of static images ``[B, C, H, W]``."""
        logits, potentials = self.step(images, [])
        for _ in range(1, self.time_steps):
            output, potentials = self.step(images, potentials)
            logits = logits + output
        return logits


class PlainVggStep(PlainCbpStep):
    """Algorithm 1 as the published snn_calibration script has it: cross-entropy, weight decay."""

    network: PlainVgg

    def __init__(
        self,
        network: PlainVgg,
        precision: str,
        *,
        lr: float = 0.01,
        momentum: float = 0.9,
        multiplier_lr: float = 1e-3,
    ) -> None:
        """Quantise the network and let the multipliers, zero at first, ascend once at g = 1.

        Args:
            network: With its converted weights loaded.
            precision: A key of ``LEVELS``.
            lr: Learning rate of SGD; the defaults are those of the published script.
            momentum: Momentum of SGD.
            multiplier_lr: Learning rate of the multipliers' Adam.
        """
        super().__init__(network, precision, lr=lr, momentum=momentum, multiplier_lr=multiplier_lr)

    def make_optimiser(self, lr: float, momentum: float) -> torch.optim.Optimizer:
        """Return SGD with weight decay on the weights, none on the biases."""
        named = list(self.network.named_parameters())
        weights = [parameter for name, parameter in named if name.endswith("weight")]
        biases = [parameter for name, parameter in named if name.endswith("bias")]
        groups: list[dict[str, Any]] = [
            {"params": weights, "weight_decay": WEIGHT_DECAY},
            {"params": biases},
        ]
        return torch.optim.SGD(groups, lr=lr, momentum=momentum)

    def task_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the output summed over T."""
        return functional.cross_entropy(self.network(images), labels)


@torch.no_grad()
def enliven_(network: PlainVgg | SpikingVgg, gain: float = 2.2) -> None:
    """Give a network random weights with which every layer fires on images of normal noise.

    Args:
        network: Changed in place.
        gain: Standard deviation of a convolution's weights times the root of its inputs.
    """
    generator = torch.Generator().manual_seed(0)
    for layer in network.features:
        if isinstance(layer, AveragePool):
            layer.factor.fill_(math.pi / 2)  # no rational number: no potential is exactly 1
        elif isinstance(layer, nn.Conv2d):
            normal = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.copy_(normal * gain / layer.weight[0].numel() ** 0.5)


def train_steps(
    steps: int = 1,
    batch_size: int = 4,
    time_steps: int = 32,
    precision: str = "binary",
    width: float = 1.0,
    threads: int = 2,
) -> float:
    """Train on one batch of random images and return the last Lagrangian.

    A target for ``benchmarks.measure.peak_memory``: sets the threads and seed of the process.

    Args:
        steps: Training steps, 1 and up.
        batch_size: Images of 3x32x32, normally distributed; 10 classes.
        time_steps: T.
        precision: A key of ``LEVELS``.
        width: Factor on the channels.
        threads: Threads of PyTorch.
    """
    if steps < 1:
        raise UserError(f"{steps} steps measure nothing: ask for one or more")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = PlainVgg(time_steps=time_steps, width=width)
    enliven_(network)
    cbp = PlainVggStep(network, precision)
    images, labels = torch.randn(batch_size, 3, 32, 32), torch.arange(batch_size) % 10
    return [cbp.step(images, labels) for _ in range(steps)][-1]
