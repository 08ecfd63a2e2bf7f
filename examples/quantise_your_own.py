"""Make the weights of your own network binary: pre-train, train on with ``Cbp``, convert, pack.

``python examples/quantise_your_own.py [FILE]`` takes seconds on a CPU. It needs no download: the
handwritten digits come with scikit-learn.
"""

import sys
from functools import partial

import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from repro import Cbp, convert, pack, unpack


class Classifier(LightningModule):
    """A network and how it is trained; nothing here knows of CBP."""

    def __init__(self) -> None:
        """Build the network."""
        super().__init__()
        features = [nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten()]
        self.network = nn.Sequential(*features, nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def report(name: str, network: nn.Module, size: int) -> None:
    """Print the accuracy on the last 500 digits."""
    right = network(images[-500:]).argmax(1) == labels[-500:]
    print(f"{name}: {100 * right.float().mean():.1f} % of 500 test digits, {size:,} bytes")


seed_everything(0, verbose=False)
images, labels = map(torch.as_tensor, load_digits(return_X_y=True))
images = images.float().view(-1, 1, 8, 8) / 16
batches = DataLoader(TensorDataset(images[:-500], labels[:-500]), batch_size=50, shuffle=True)
trainer = partial(Trainer, logger=False, enable_checkpointing=False, enable_progress_bar=False)

model = Classifier()  # 1. any network, pre-trained in any way
trainer(max_epochs=10).fit(model, batches)
report("FP32", model.network, sum(4 * p.numel() for p in model.parameters()))

cbp = Cbp("binary", multiplier_lr=0.01, p_max=2)  # 2. the same training, with the callback
trainer(max_epochs=10, callbacks=[cbp]).fit(model, batches)

levels = convert(model)  # 3. plain layers whose weights are -a or +a, and a file of them
path = sys.argv[1] if len(sys.argv) > 1 else "digits_binary.safetensors"
size = pack(path, model, levels)
again = Classifier()
again.load_state_dict(unpack(path)[0])
report("binary, read back from the file", again.network, size)
