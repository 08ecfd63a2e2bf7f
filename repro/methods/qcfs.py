"""Quantisation-clip-floor-shift (QCFS): an ANN's activations trained for few time steps.

In the place of every ReLU stands ``V clamp(floor(z L / V + 1/2) / L, 0, 1)``, the floor straight
through and the threshold V trained with the weights. It is V / L times the spikes that a neuron of
threshold V, charged to half of it at the start, fires in L steps at a constant current z. So at
T = L the conversion errs only where currents change over time. With T > L the two no longer agree
exactly at a constant current, and changing ones have more steps to even out.

References: Bu et al., *Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking
neural networks*, ICLR 2022, Equation 15 and Algorithm 1.
"""

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

from repro.methods.base import make_optimiser
from repro.networks.vgg import Vgg

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


class Qcfs(nn.Module):
    """The activation, for inputs of any shape.

    Attributes:
        threshold: V, a trained scalar.
        levels: L, between 0 and V.
    """

    def __init__(self, threshold: float, levels: int) -> None:
        """Take where V starts, and L."""
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))
        self.levels = levels

    def forward(self, current: Tensor) -> Tensor:
        """Return the activation."""
        charge = (current / self.threshold).clamp(0, 1) * self.levels + 0.5
        fired = charge + (charge.floor() - charge).detach()
        return fired / self.levels * self.threshold


def with_qcfs(ann: Vgg, thresholds: Sequence[float], levels: int) -> Vgg:
    """Return a copy of an ANN with QCFS in the place of its ReLUs, one threshold for each."""
    trained = copy.deepcopy(ann)
    places = [i for i, module in enumerate(trained.features) if isinstance(module, nn.ReLU)]
    for place, threshold in zip(places, thresholds, strict=True):
        trained.features[place] = Qcfs(threshold, levels)
    return trained


def thresholds_of(ann: Vgg) -> list[float]:
    """Return the trained thresholds, first layer to last."""
    return [float(module.threshold.detach()) for module in ann.features if isinstance(module, Qcfs)]


@torch.enable_grad()
def train_qcfs_(
    ann: Vgg,
    epoch_of: Callable[[int], Iterable[tuple[Tensor, Tensor]]],
    epochs: int,
    lr: float,
    say: Callable[[str], None] = print,
) -> None:
    """Train an ANN with QCFS in place: SGD, the rate falling to 0 as a cosine.

    Args:
        ann: Of `with_qcfs`; left in evaluation mode.
        epoch_of: Returns the batches of an epoch, from 0: images, normalised, and labels.
        epochs: How many.
        lr: Learning rate at the start.
        say: Takes a line after every epoch.
    """
    optimiser = make_optimiser(
        ann.parameters(),
        "sgd",
        lr=lr,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        decay_weights_only=True,
    )
    schedule = CosineAnnealingLR(optimiser, epochs)
    ann.train()
    for epoch in range(epochs):
        losses = []
        torch.manual_seed(epoch)  # of dropout
        for images, labels in epoch_of(epoch):
            loss = cross_entropy(ann(images).sum(0), labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.detach())
        schedule.step()
        say(f"QCFS epoch {epoch + 1}/{epochs}  loss {float(torch.stack(losses).mean()):.4f}")
    ann.eval()
