"""A spiking network built with snntorch, binary by CBP: ``python examples/snntorch_digits.py``.

Requires ``pip install snntorch``. Minutes on a CPU.
"""

import sys
from pathlib import Path

import torch
from snntorch import Leaky, surrogate
from torch import Tensor, nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from examples.digits import Classifier, Digits, compare

TIME_STEPS = 8


class Network(nn.Module):
    """Two convolutions and two linear layers with leaky neurons between; logits are a sum."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)
        fire = surrogate.atan()
        self.neurons = nn.ModuleList(Leaky(beta=0.8, spike_grad=fire) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, 10]`` for images ``[B, 1, 8, 8]``, shown at every time step."""
        membranes = [neuron.reset_mem() for neuron in self.neurons]
        logits = torch.zeros(len(images), 10)
        for _ in range(TIME_STEPS):
            spikes = images
            for i, layer in enumerate((self.conv1, self.conv2, self.fc1)):
                spikes = spikes.flatten(1) if layer is self.fc1 else spikes
                spikes, membranes[i] = self.neurons[i](layer(spikes), membranes[i])
            logits = logits + self.fc2(spikes)
        return logits


class Model(Classifier):
    """The network and how it is trained."""

    def __init__(self) -> None:
        """Build it."""
        super().__init__(Network())


if __name__ == "__main__":
    compare(Model, Digits(), epochs=10, levels="binary")
