"""CBP training of SEW-ResNet the plain way: the baseline that a faster version must beat.

Plain is what a researcher writes first, and how the paper's own code is built: convolution, batch
normalisation and pooling see all time steps as one batch in PyTorch's default memory order, one
module after another; the neurons loop over time step by step in autograd, and their spikes are
stacked; constraint and quantiser go through autograd. Plain is not sabotaged: PyTorch's own
optimisers, one backward pass, nothing copied or retained without need.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.plain_stbp import PlainCbpStep, PlainNetwork
from repro.networks.sew_resnet import Halve, Layer, SewBlock, SewNet
from repro.neurons.surrogate import arctan_spike

THRESHOLD = 1.0


def unfold(folded: Tensor, time_steps: int) -> Tensor:
    """Return ``[T, B, ...]`` of ``[T*B, ...]``."""
    return folded.reshape(time_steps, -1, *folded.shape[1:])


def fire(current: Tensor, w: Tensor) -> Tensor:
    """Return the spikes of parametric leaky integrate-and-fire neurons, same shape.

    ``h = v[t-1] + (current[t] - v[t-1]) sigmoid(w)``, spike where ``h >= 1``, hard reset to 0,
    through which no gradient flows.

    Args:
        current: ``[T, B, C, H, W]``.
        w: Scalar parameter of the layer.
    """
    potential, train = torch.zeros_like(current[0]), []
    for now in current:
        potential = potential + (now - potential) * w.sigmoid()
        spikes = arctan_spike(potential, THRESHOLD)
        potential = potential * (1 - spikes.detach())
        train.append(spikes)
    return torch.stack(train)


class PlainSew(PlainNetwork):
    """7B-Net or Wide-7B-Net, one call per operation; the connection is ADD.

    Parameters have the names of ``repro.networks.sew_resnet.SewNet``.
    """

    features: nn.ModuleList
    classifier: nn.Module

    def __init__(self, network: "SewNet | PlainSew") -> None:
        """Take the modules of a network, which hold the weights; nothing is quantised yet.

        Args:
            network: With PLIF neurons and no shortcut that has weights.
        """
        super().__init__()
        self.features, self.classifier = network.features, network.classifier

    def neurons(self, layer: Layer, current: Tensor) -> Tensor:
        """Return the spikes of a layer's neurons ``[T, B, C, H, W]``."""
        assert layer.neuron.w is not None
        return fire(current, layer.neuron.w)

    def _layer(self, name: str, spikes: Tensor) -> Tensor:
        """Return ``[T, B, C, H, W]`` behind convolution, normalisation and neurons.

        Args:
            name: Of the layer.
            spikes: ``[T, B, ...]``.
        """
        layer = self.get_submodule(name)
        assert isinstance(layer, Layer)
        conv = layer.conv
        maps = functional.conv2d(
            spikes.flatten(0, 1), self.weight(f"{name}.conv"), None, conv.stride, conv.padding
        )
        return self.neurons(layer, unfold(layer.norm(maps), len(spikes)))

    def forward(self, events: Tensor) -> Tensor:
        """Return the logits ``[B, K]`` of frames of events ``[B, T, 2, H, W]``."""
        spikes = events.transpose(0, 1)
        for i, module in enumerate(self.features):
            name = f"features.{i}"
            if isinstance(module, SewBlock):
                hidden = self._layer(f"{name}.first", spikes)
                spikes = self._layer(f"{name}.second", hidden) + spikes
            elif isinstance(module, Layer):
                spikes = self._layer(name, spikes)
            elif isinstance(module, Halve) and max(spikes.shape[-2:]) > 1:
                spikes = unfold(functional.max_pool2d(spikes.flatten(0, 1), 2), len(spikes))
        logits: Tensor = self.classifier(spikes.flatten(2).mean(0))
        return logits


class PlainSewStep(PlainCbpStep):
    """Algorithm 1 as the published surrogate scripts have it: cross-entropy, gradients by value."""

    network: PlainSew

    def __init__(
        self,
        network: PlainSew,
        precision: str,
        *,
        lr: float = 0.1,
        momentum: float = 0.9,
        multiplier_lr: float = 0.01,
    ) -> None:
        """Quantise the network and let the multipliers, zero at first, ascend once at g = 1.

        Args:
            network: With its pre-trained weights loaded.
            precision: A key of ``LEVELS``.
            lr: Learning rate of SGD; the defaults are those of the published scripts.
            momentum: Momentum of SGD.
            multiplier_lr: Learning rate of the multipliers' Adam.
        """
        super().__init__(network, precision, lr=lr, momentum=momentum, multiplier_lr=multiplier_lr)

    def task_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of what the classifier says of the mean over time.

        Args:
            images: Frames of events ``[B, T, 2, H, W]``; running statistics move.
            labels: ``[B]``, int64.
        """
        return functional.cross_entropy(self.network(images), labels)
