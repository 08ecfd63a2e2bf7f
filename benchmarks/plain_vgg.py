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

from benchmarks.plain_stbp import PlainCbpStep, PlainNetwork
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

    def _current(self, layer: int, signal: Tensor) -> Tensor:
        """Return the input current of the layer's neurons."""
        module = self.features[layer]
        if not isinstance(module, nn.Conv2d):
            return cast(Tensor, module(signal))
        return functional.conv2d(signal, self.weight(f"features.{layer}"), module.bias, padding=1)

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
