"""The integrate-and-fire neuron of converted networks: soft reset, half-threshold shift.

References: Li et al., *A free lunch from ANN: towards efficient, accurate spiking neural networks
calibration*, ICML 2021 (SNN-Calibration), equations 1 to 3 and the shift of Section 4.1 (after Deng
and Gu, ICLR 2021); the surrogate gradient is the paper's, for the CBP phase.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from repro.neurons.surrogate import arctan_spike


@dataclass(frozen=True)
class IntegrateAndFire:
    """Constants of the neuron.

    Attributes:
        threshold: A neuron fires where its potential is at or above it, and loses it by firing.
        alpha: Steepness of the arctan surrogate.
    """

    threshold: float = 1.0
    alpha: float = 2.0

    def shift(self, time_steps: int) -> float:
        """Return what every step adds to the potential: half a threshold over all T steps."""
        return self.threshold / (2 * time_steps)


def step(
    current: Tensor, potential: Tensor, shift: float, neuron: IntegrateAndFire
) -> tuple[Tensor, Tensor]:
    """Return the membrane potential after the reset ``v[t]`` and the spikes ``s[t]``.

    ``u = v[t-1] + current + shift``; ``s[t] = 1`` where ``u >= threshold``; ``v[t] = u - threshold
    s[t]``. The gradient flows through the reset.

    Args:
        current: Input current, any shape.
        potential: ``v[t-1]``, same shape.
        shift: ``neuron.shift(T)``.
        neuron: Constants.
    """
    before = potential + current + shift
    spikes = arctan_spike(before, neuron.threshold, neuron.alpha)
    return before - neuron.threshold * spikes, spikes


def scan_plain(
    current: Tensor,
    time_steps: int,
    neuron: IntegrateAndFire,
    initial: Tensor | None = None,
    overwrite: bool = False,
) -> Tensor:
    """Return the spikes ``[T, ...]``: the neuron's definition, one step after another.

    Args:
        current: ``[T, ...]``, or ``[1, ...]`` for a current that is the same at every step.
        time_steps: T.
        neuron: Constants.
        initial: Potential before the first step, to be broadcast to ``current[0]``; 0 if None.
        overwrite: Not done here, see ``repro.neurons.scan.integrate_and_fire``.
    """
    potential = torch.zeros_like(current[0])
    if initial is not None:
        potential = potential + initial
    shift, train = neuron.shift(time_steps), []
    for t in range(time_steps):
        now = current[t if current.shape[0] > 1 else 0]
        potential, spikes = step(now, potential, shift, neuron)
        train.append(spikes)
    return torch.stack(train)
