"""STBP's leaky integrate-and-fire neuron with the rectangular surrogate gradient.

Reference: Wu et al., *Spatio-temporal backpropagation for training high-performance spiking neural
networks*, Frontiers in Neuroscience 12:331 (2018), equations 2 to 5 and 24.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from repro.neurons.surrogate import rectangular_spike


@dataclass(frozen=True)
class StbpNeuron:
    """Constants of the neuron.

    Attributes:
        decay: Factor of the membrane potential per time step, 0 to 1.
        threshold: A neuron fires where its potential is above this.
        half_width: The surrogate gradient passes within this distance of the threshold.
    """

    decay: float
    threshold: float = 0.5
    half_width: float = 0.5


def step(
    current: Tensor, potential: Tensor, spikes: Tensor, neuron: StbpNeuron
) -> tuple[Tensor, Tensor]:
    """Return membrane potential ``u[t]`` and spikes ``s[t]`` from those of the step before.

    ``u[t] = decay * u[t-1] * (1 - s[t-1]) + current``; ``s[t] = 1`` where ``u[t] > threshold``. The
    gradient flows through the reset.

    Args:
        current: Input current, any shape.
        potential: ``u[t-1]``, same shape.
        spikes: ``s[t-1]``, same shape, 0 or 1.
        neuron: Constants.
    """
    potential = neuron.decay * potential * (1 - spikes) + current
    return potential, rectangular_spike(potential, neuron.threshold, neuron.half_width)


def scan_plain(current: Tensor, time_steps: int, neuron: StbpNeuron) -> Tensor:
    """Return the spikes ``[T, ...]``: the neuron's definition, one step after another.

    Args:
        current: ``[T, ...]``, or ``[1, ...]`` for a current that is the same at every step.
        time_steps: T.
        neuron: Constants.
    """
    potential = spikes = torch.zeros_like(current[0])
    train = []
    for t in range(time_steps):
        now = current[t if current.shape[0] > 1 else 0]
        potential, spikes = step(now, potential, spikes, neuron)
        train.append(spikes)
    return torch.stack(train)
