"""What the step benchmark measures of every method: network, recipe, input, and the plain way."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from benchmarks import plain_stbp, plain_tssl_bp
from benchmarks.plain_sew import PlainSew, PlainSewStep
from benchmarks.plain_stbp import PlainCbpStep, PlainNetwork, PlainStbp
from benchmarks.plain_tssl_bp import PlainTsslBp, PlainTsslBpStep
from benchmarks.plain_vgg import PlainVgg, PlainVggStep, enliven_
from repro.networks.sew_resnet import sew_net
from repro.recipes.fields import Recipe
from repro.recipes.paper import (
    SNN_CALIBRATION_CIFAR10,
    STBP_CIFAR10,
    SURROGATE_DVS128_GESTURE,
    TSSL_BP_CIFAR10,
)

CLASSES: Final = 10
GESTURES: Final = 11
CPU: Final = torch.device("cpu")


def as_initialised_(network: object) -> None:
    """Leave a network's weights as they are."""


def images(size: int, time_steps: int) -> Tensor:
    """Return static images of normal noise ``[B, 3, 32, 32]``."""
    return torch.randn(size, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def events(size: int, time_steps: int) -> Tensor:
    """Return frames ``[B, T, 2, 128, 128]`` of random numbers of events, half an event a pixel."""
    mean = torch.full((size, time_steps, 2, 128, 128), 0.5)
    return torch.poisson(mean, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Case:
    """What is measured of a method.

    Attributes:
        batch: Images, or recordings of events, a step, unless another number is asked for.
        recipe: The paper's, but for what lets every layer fire and both ways be compared.
        plain_network: Makes the plain network of T and width.
        plain_step: Makes its step, from network, precision and learning rates.
        enliven_: Gives our network the weights that a gain in the recipe cannot.
        dataset: Of the cell.
        classes: K.
        noise: Makes the input, from batch and T.
    """

    batch: int
    recipe: Recipe
    plain_network: Callable[[int, float], PlainNetwork]
    plain_step: Callable[..., PlainCbpStep]
    enliven_: Callable[[Any], None] = as_initialised_
    dataset: str = "cifar10"
    classes: int = CLASSES
    noise: Callable[[int, int], Tensor] = images


CASES: Final[dict[str, Case]] = {
    "stbp": Case(
        batch=10,
        recipe=replace(STBP_CIFAR10, gain=3.0),  # 0.2 to 0.4 spikes a neuron and step everywhere
        plain_network=lambda steps, width: PlainStbp(
            plain_stbp.full_size(CLASSES, width), time_steps=steps
        ),
        plain_step=PlainCbpStep,
    ),
    "tssl_bp": Case(
        batch=10,
        # With gain 1 the linear layers are all but silent; dropout: see the top of this file.
        recipe=replace(TSSL_BP_CIFAR10, linear_gain=8.0, dropout=0.0),
        plain_network=lambda steps, width: PlainTsslBp(
            plain_tssl_bp.full_size(CLASSES, width), time_steps=steps, dropout=0.0
        ),
        plain_step=PlainTsslBpStep,
    ),
    "snn_calibration": Case(
        batch=4,
        recipe=replace(SNN_CALIBRATION_CIFAR10, spike_dropout=0.0),  # two masks, two gradients
        plain_network=lambda steps, width: PlainVgg(CLASSES, time_steps=steps, width=width),
        plain_step=PlainVggStep,
        enliven_=enliven_,
    ),
    "surrogate": Case(
        batch=2,
        # All T frames, none left out; blocks that fire from the start.
        recipe=replace(SURROGATE_DVS128_GESTURE, train_steps=0, zero_init_residual=False),
        plain_network=lambda steps, width: PlainSew(sew_net("sew_7b", GESTURES, width=width)),
        plain_step=PlainSewStep,
        dataset="dvs128_gesture",
        classes=GESTURES,
        noise=events,
    ),
}


def batch(
    network: str, time_steps: int, size: int, device: torch.device = CPU
) -> tuple[Tensor, Tensor]:
    """Return random images or events of a network's case, and labels ``[B]``."""
    case = CASES[network]
    labels = torch.arange(size) % case.classes
    return case.noise(size, time_steps).to(device), labels.to(device)
