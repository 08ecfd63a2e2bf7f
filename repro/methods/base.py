"""What every pre-training method shares: right answers, optimisers, one network, its phases."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, StepLR

from repro.cells import Phase
from repro.methods.distributed import gradient_factor, rank, total, world_size
from repro.recipes.fields import CbpRecipe, ImageRecipe, Optimiser

PARTS = ("val", "test")  # order of the loaders that a datamodule evaluates every epoch


def predictions(train: Tensor) -> Tensor:
    """Return the class ``[B]`` with the most output over time, from ``[T, B, K]``; ties: lowest."""
    return train.sum(0).argmax(1)


def make_optimiser(
    parameters: Iterable[nn.Parameter],
    name: Optimiser,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    decay_weights_only: bool,
    fused: bool = True,
) -> torch.optim.Optimizer:
    """Return the optimiser.

    Args:
        parameters: What it steps.
        name: Which.
        lr: Learning rate.
        momentum: Of SGD; the others have none.
        weight_decay: Of Adam as a penalty, of AdamW decoupled.
        decay_weights_only: Whether parameters of fewer than two dimensions (biases, scales of
            normalisation) do not decay.
        fused: In its fused form, faster, which undoes a loss scale inside its step: Lightning then
            leaves the gradients scaled until there.
    """
    weights: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in parameters:
        (weights if parameter.dim() > 1 or not decay_weights_only else rest).append(parameter)
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": weight_decay}]
    if rest:
        groups.append({"params": rest, "weight_decay": 0.0})
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=fused)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(groups, lr=lr, fused=fused)


def schedules(
    optimiser: torch.optim.Optimizer, recipe: ImageRecipe | CbpRecipe
) -> list[dict[str, Any]]:
    """Return the learning rate's schedules, as Lightning takes them.

    Each multiplies what the others leave: a warm-up by steps and a fall by epochs go together.
    """
    found: list[dict[str, Any]] = []
    if recipe.schedule == "cosine":
        found.append({"scheduler": CosineAnnealingLR(optimiser, recipe.epochs)})
    elif isinstance(recipe, ImageRecipe) and recipe.schedule == "step":
        found.append({"scheduler": StepLR(optimiser, recipe.lr_step, recipe.lr_gamma)})
    if (steps := recipe.warmup_steps) > 1:
        rise = LinearLR(optimiser, start_factor=1 / steps, total_iters=steps - 1)
        found.append({"scheduler": rise, "interval": "step"})
    return found


class SpikingModule(LightningModule):
    """A network in training. Subclasses say what the loss is.

    Where several processes train it, each on its share of every batch, losses, gradients and
    counts are those of the whole batch. Two things are a process's own: what is dropped out, and
    the statistics of a batch normalisation (the running ones are those of process 0).

    Attributes:
        reduction: Whether `loss` is the mean or the sum over the images of a batch.
        recipe: Numbers of the run.
        network: Maps images ``[B, C, H, W]`` or events ``[B, T, 2, H, W]`` to ``[T, B, K]``.
        phase: ``ann`` for the network that a converted cell starts from, ``pretrain``, or ``cbp``
            for whatever follows it, the FP32 control included, by the ``cbp`` part of the recipe.
        accuracy: Fraction of right answers at the last evaluation, for ``val`` and ``test``.
        seed: Dropout of an epoch draws from a stream of seed and epoch, so that a resumed run drops
            what an uninterrupted one drops; of the process's number, too, where there are several.
    """

    reduction: ClassVar[Literal["mean", "sum"]] = "mean"
    seed = 0

    def __init__(self, recipe: ImageRecipe, network: nn.Module, phase: Phase) -> None:
        """Keep recipe, network and phase."""
        super().__init__()
        self.recipe, self.network, self.phase = recipe, network, phase
        self.accuracy = dict.fromkeys(PARTS, 0.0)
        self._losses: list[Tensor] = []
        self._right: dict[str, list[Tensor]] = {part: [] for part in PARTS}
        self._images = dict.fromkeys(PARTS, 0)

    def configure_optimizers(self) -> Any:  # noqa: ANN401  (one of many shapes Lightning takes)
        """Return the optimiser of the phase, and the schedules of its learning rate."""
        recipe: Any = self.recipe.cbp if self.phase == "cbp" else self.recipe
        plugin = getattr(self._trainer, "precision_plugin", None)
        optimiser = make_optimiser(
            self.parameters(),
            recipe.optimiser,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            decay_weights_only=self.phase == "cbp",
            # Where AMP scales the loss, gradients must be unscaled before a clip.
            fused=getattr(plugin, "scaler", None) is None,
        )
        return [optimiser], schedules(optimiser, recipe)

    @abstractmethod
    def loss(self, train: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch: outputs ``[T, B, K]`` against labels ``[B]``."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, weighted so that its mean over all processes is the loss."""
        loss = self.loss(self.network(batch[0]), batch[1])
        if world_size() > 1:
            factor = gradient_factor(len(batch[1]), self.reduction, loss.device)
            loss = loss * factor.to(loss.dtype)
        self._losses.append(loss.detach())
        return loss

    def on_train_epoch_start(self) -> None:
        """Forget the losses of an epoch that was cut short; start its stream of random numbers."""
        self._losses.clear()
        numbers = (self.seed, self.current_epoch, *([rank()] if rank() else []))
        state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def mean_loss(self) -> float:
        """Return the mean over the batches of the epoch so far, in full precision.

        All processes must ask, for they add up their losses; all get the same number.
        """
        return float(total(torch.stack(self._losses).double().mean())) / world_size()

    def on_train_epoch_end(self) -> None:
        """Log the mean loss; processes agree on it, yet Lightning warns without ``sync_dist``."""
        self.log("train/loss", self.mean_loss(), sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self._right = {part: [] for part in PARTS}
        self._images = dict.fromkeys(PARTS, 0)

    def validation_step(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count right answers of the validation (0) and the test images (1), on the device.

        In float32, as the saved file is evaluated, also where training mixes precisions.
        """
        part = PARTS[dataloader_idx]
        with torch.autocast(self.device.type, enabled=False):
            outputs = self.network(batch[0])
        self._right[part].append((predictions(outputs) == batch[1]).sum())
        self._images[part] += len(batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log both accuracies, of the images of all processes."""
        none = torch.zeros((), dtype=torch.int64, device=self.device)
        right_ones = torch.stack([sum(self._right[part], start=none) for part in PARTS])
        asked = torch.tensor([self._images[part] for part in PARTS], device=self.device)
        counts = total(torch.stack([right_ones, asked], dim=1))
        for part, (right, images) in zip(PARTS, counts.tolist(), strict=True):
            self.accuracy[part] = right / images
            self.log(f"{part}/accuracy", self.accuracy[part], sync_dist=True)
