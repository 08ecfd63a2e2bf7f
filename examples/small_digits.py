"""A small network of the handwritten digits, trained in FP32 and saved.

``python examples/small_digits.py [FILE]`` writes ``parent.safetensors``; seconds on a CPU.
"""

import sys
from pathlib import Path

from pytorch_lightning import seed_everything
from safetensors.torch import save_file
from torch import nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from examples.digits import Classifier, Digits, fit, percent


class Model(Classifier):
    """Three convolutions and two linear layers with ReLU."""

    def __init__(self, width: int = 16) -> None:
        """Build them.

        Args:
            width: Channels of the first convolution.
        """
        network = nn.Sequential()
        network.features = nn.Sequential(
            nn.Conv2d(1, width, 3), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        network.head = nn.Sequential(nn.Linear(8 * width, 64), nn.ReLU(), nn.Linear(64, 10))
        super().__init__(network)


if __name__ == "__main__":
    seed_everything(0, verbose=False)
    data, path = Digits(), sys.argv[1] if len(sys.argv) > 1 else "parent.safetensors"
    model = fit(Model(), data, epochs=10)
    save_file(model.state_dict(), path)
    print(f"{path}: {percent(model, data):.1f} % of the test digits right")
