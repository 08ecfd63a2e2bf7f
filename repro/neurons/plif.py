"""Neurons with a hard reset: parametric leaky integrate-and-fire (PLIF), and without leak (IF).

References: Fang et al., *Incorporating learnable membrane time constant to enhance learning of
spiking neural networks*, ICCV 2021, equations 1 to 3 and 9; Fang et al., *Deep residual learning in
spiking neural networks* (SEW-ResNet), NeurIPS 2021, whose networks have these neurons.
"""

from typing import Final

import torch
from torch import Tensor

from repro.neurons.surrogate import arctan_spike

THRESHOLD: Final = 1.0
ALPHA: Final = 2.0  # steepness of the arctan surrogate


def step(current: Tensor, potential: Tensor, leak: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the membrane potential after the reset ``v[t]`` and the spikes ``s[t]``.

    ``h = v[t-1] + leak (current - v[t-1])``, or ``v[t-1] + current`` without leak; ``s[t] = 1``
    where ``h >= 1``; ``v[t] = h (1 - s[t])``. No gradient flows through the reset.

    Args:
        current: Input current, any shape.
        potential: ``v[t-1]``, same shape.
        leak: Scalar ``1 / tau``, between 0 and 1; None for an integrate-and-fire neuron.
    """
    charged = potential + (current if leak is None else (current - potential) * leak)
    spikes = arctan_spike(charged, THRESHOLD, ALPHA)
    return charged * (1 - spikes.detach()), spikes


def scan_plain(current: Tensor, time_steps: int, leak: Tensor | None) -> Tensor:
    """Return the spikes ``[T, ...]``: the neuron's definition, one step after another.

    Args:
        current: ``[T, ...]``, or ``[1, ...]`` for a current that is the same at every step.
        time_steps: T.
        leak: See ``step``.
    """
    potential, train = torch.zeros_like(current[0]), []
    for t in range(time_steps):
        now = current[t if current.shape[0] > 1 else 0]
        potential, spikes = step(now, potential, leak)
        train.append(spikes)
    return torch.stack(train)
