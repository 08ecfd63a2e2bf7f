"""What every pre-training method shares: counting right answers, one network, two phases."""

from abc import abstractmethod
from typing import Literal

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

Phase = Literal["pretrain", "cbp"]
PARTS = ("val", "test")  # order of the loaders that a datamodule evaluates every epoch


def predictions(train: Tensor) -> Tensor:
    """Return the class ``[B]`` with the most output over time, from ``[T, B, K]``; ties: lowest."""
    return train.sum(0).argmax(1)


class SpikingModule(LightningModule):
    """A spiking network in training. Subclasses say what the loss is and which optimiser steps.

    Attributes:
        network: Maps images ``[B, C, H, W]`` or events ``[B, T, 2, H, W]`` to ``[T, B, K]``.
        phase: ``pretrain`` or ``cbp``.
        accuracy: Fraction of right answers at the last evaluation, for ``val`` and ``test``.
    """

    def __init__(self, network: nn.Module, phase: Phase) -> None:
        """Keep network and phase."""
        super().__init__()
        self.network, self.phase = network, phase
        self.accuracy = dict.fromkeys(PARTS, 0.0)
        self._losses: list[Tensor] = []
        self._right = {part: [0, 0] for part in PARTS}

    @abstractmethod
    def loss(self, train: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of outputs ``[T, B, K]`` for labels ``[B]``."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        loss = self.loss(self.network(batch[0]), batch[1])
        self._losses.append(loss.detach())
        return loss

    def on_train_epoch_start(self) -> None:
        """Forget the losses of an epoch that was cut short."""
        self._losses.clear()

    def mean_loss(self) -> float:
        """Return the mean over the batches of the epoch so far, in full precision."""
        return float(torch.stack(self._losses).double().mean())

    def on_train_epoch_end(self) -> None:
        """Log the mean loss."""
        self.log("train/loss", self.mean_loss())

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self._right = {part: [0, 0] for part in PARTS}

    def validation_step(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count right answers of the validation (0) and the test images (1)."""
        count = self._right[PARTS[dataloader_idx]]
        count[0] += int((predictions(self.network(batch[0])) == batch[1]).sum())
        count[1] += len(batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log both accuracies."""
        for part, (right, images) in self._right.items():
            self.accuracy[part] = right / images
            self.log(f"{part}/accuracy", self.accuracy[part])
