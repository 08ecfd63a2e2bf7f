"""An ANN, torchvision's ResNet-18, binary by CBP: ``python examples/resnet18_digits.py``.

Minutes on a CPU; no download.
"""

import sys
from pathlib import Path

from torch import nn
from torchvision.models import resnet18

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from examples.digits import Classifier, Digits, compare


class Model(Classifier):
    """ResNet-18 for one channel and ten classes."""

    def __init__(self) -> None:
        """Build it."""
        network = resnet18(num_classes=10)
        network.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        super().__init__(network)


class Data(Digits):
    """Digits of 16 by 16."""

    def __init__(self) -> None:
        """Read them."""
        super().__init__(times=2)


if __name__ == "__main__":
    compare(Model, Data(), epochs=4, levels="binary")
