"""A spiking network built with spikingjelly: ``python examples/spikingjelly_digits.py``.

Requires ``pip install spikingjelly``. Minutes on a CPU.
"""

import sys
from pathlib import Path

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from examples.digits import Classifier, Digits, compare

TIME_STEPS = 4


class Network(nn.Module):
    """Convolutions with batch norm, linear layers, leaky neurons between; all steps at once."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            layer.Conv2d(1, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16), self.fire(),
            layer.Conv2d(16, 32, 3, padding=1, bias=False), layer.BatchNorm2d(32), self.fire(),
            layer.MaxPool2d(2),
            layer.Flatten(), layer.Linear(32 * 4 * 4, 64), self.fire(),
            layer.Linear(64, 10),
        )  # fmt: skip
        functional.set_step_mode(self, "m")

    @staticmethod
    def fire() -> nn.Module:
        """Return neurons."""
        return neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, 10]`` for images ``[B, 1, 8, 8]``, shown at every time step."""
        functional.reset_net(self)
        steps = images.unsqueeze(0).expand(TIME_STEPS, *images.shape)
        logits: Tensor = self.layers(steps).sum(0)
        return logits


class Model(Classifier):
    """The network and how it is trained."""

    def __init__(self) -> None:
        """Build it."""
        super().__init__(Network())


if __name__ == "__main__":
    compare(Model, Digits(), epochs=10, levels="binary")
