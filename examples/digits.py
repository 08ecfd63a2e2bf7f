"""Data and training that the examples of networks share; nothing here knows of a network.

The 1,797 handwritten digits come with scikit-learn: 1,297 to train, the last 500 to test.
"""

import logging
import warnings
from collections.abc import Callable

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from repro import Cbp, convert, prepare

TEST = 500
SEEDS = (0, 1, 2)


class Digits(LightningDataModule):
    """Images ``[B, 1, 8, 8]`` in 0 to 1, or larger by whole pixels, and labels ``[B]``."""

    def __init__(self, times: int = 1) -> None:
        """Read the images, every pixel ``times`` by ``times``."""
        super().__init__()
        pixels, labels = map(torch.as_tensor, load_digits(return_X_y=True))
        images = pixels.float().view(-1, 1, 8, 8) / 16
        images = images.repeat_interleave(times, 2).repeat_interleave(times, 3)
        self.train = TensorDataset(images[:-TEST], labels[:-TEST])
        self.test = TensorDataset(images[-TEST:], labels[-TEST:])

    def train_dataloader(self) -> DataLoader[list[Tensor]]:
        """Return shuffled batches of 50."""
        return DataLoader(self.train, batch_size=50, shuffle=True)

    def test_dataloader(self) -> DataLoader[list[Tensor]]:
        """Return the 500 test images."""
        return DataLoader(self.test, batch_size=TEST)


class Classifier(LightningModule):
    """A network from images to logits, trained with cross-entropy; logs ``test_accuracy``."""

    def __init__(self, network: nn.Module, lr: float = 1e-3) -> None:
        """Keep the network and the learning rate of Adam."""
        super().__init__()
        self.network, self.lr = network, lr

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log the accuracy."""
        right = self.network(batch[0]).argmax(1) == batch[1]
        self.log("test_accuracy", right.float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def fit(module: Classifier, data: Digits, epochs: int, *callbacks: Cbp) -> Classifier:
    """Train the module and return it."""
    quiet(max_epochs=epochs, callbacks=list(callbacks)).fit(module, data)
    return module


def quiet(**fields: object) -> Trainer:
    """Return a Trainer that prints and writes nothing."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers")
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)
    return Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **fields,  # type: ignore[arg-type]
    )


def percent(module: LightningModule, data: Digits) -> float:
    """Return the accuracy on the test images, in percent."""
    (found,) = quiet().test(module, data, verbose=False)
    return 100 * found["test_accuracy"]


def compare(make: Callable[[], Classifier], data: Digits, epochs: int, levels: str) -> None:
    """Print CBP beside plain rounding of the same trained weights, for each seed.

    Plain rounding takes every weight to the nearest level, with the scale that CBP starts from, and
    trains nothing. The FP32 network, fine-tuned for the same number of epochs, shows what training
    alone gains.
    """
    print(f"{levels}, % of {TEST} test digits right; {epochs} epochs, then {epochs} more")
    lost = []
    for seed in SEEDS:
        seed_everything(seed, verbose=False)
        parent, rounded, longer, cbp = (make() for _ in range(4))
        fit(parent, data, epochs)
        for module in (rounded, longer, cbp):
            module.load_state_dict(parent.state_dict())
        prepare(rounded, levels)
        convert(rounded)
        fit(longer, data, epochs)
        fit(cbp, data, epochs, Cbp(levels, multiplier_lr=0.01, p_max=2))
        convert(cbp)
        fp32, plain, tuned, ours = (percent(m, data) for m in (parent, rounded, longer, cbp))
        print(
            f"seed {seed}: FP32 {fp32:.1f}, fine-tuned in FP32 {tuned:.1f}, "
            f"rounded {plain:.1f}, CBP {ours:.1f}",
            flush=True,
        )
        lost.append((fp32 - plain, fp32 - ours))
    rounding, ours = (sum(column) / len(lost) for column in zip(*lost, strict=True))
    print(f"mean loss against FP32: plain rounding {rounding:.1f} points, CBP {ours:.1f} points")
