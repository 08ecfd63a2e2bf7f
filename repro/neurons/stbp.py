"""STBP's leaky integrate-and-fire neuron with the rectangular surrogate gradient.

Reference: Wu et al., *Spatio-temporal backpropagation for training high-performance spiking neural
networks*, Frontiers in Neuroscience 12:331 (2018), equations 2 to 5 and 24.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from repro.gpu import takes_triton
from repro.neurons.surrogate import rectangular_spike
from repro.neurons.watch import fired


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


class _Scan(torch.autograd.Function):
    """The scan in one kernel per direction; only the potential is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        current: Tensor,
        time_steps: int,
        neuron: StbpNeuron,
        spike_dtype: torch.dtype,
    ) -> Tensor:
        from repro.neurons import kernels

        shape = (time_steps, *current.shape[1:])
        strides = (current[0].numel(), *current.stride()[1:])
        potential = torch.empty_strided(shape, strides, dtype=current.dtype)
        spikes = torch.empty_strided(shape, strides, dtype=spike_dtype)
        currents = kernels.rows(current)
        decay, threshold = (currents.dtype.type(c) for c in (neuron.decay, neuron.threshold))
        spike = kernels.spike_code(spike_dtype)
        kernels.stbp_forward(
            currents, decay, threshold, spike, kernels.rows(potential), kernels.rows(spikes)
        )
        ctx.save_for_backward(potential)
        ctx.neuron, ctx.steps_of_current = neuron, current.shape[0]
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        from repro.neurons import kernels

        (potential,) = ctx.saved_tensors
        if (grad_spikes.dtype, grad_spikes.stride()) != (potential.dtype, potential.stride()):
            grad_spikes = torch.empty_like(potential).copy_(grad_spikes)
        shape = (ctx.steps_of_current, *potential.shape[1:])
        grad = torch.empty_strided(shape, potential.stride(), dtype=potential.dtype)
        potentials, neuron = kernels.rows(potential), ctx.neuron
        real = potentials.dtype.type
        kernels.stbp_backward(
            kernels.rows(grad_spikes),
            potentials,
            real(neuron.decay),
            real(neuron.threshold),
            real(neuron.half_width),
            kernels.rows(grad),
        )
        return grad, None, None, None


def scan(
    current: Tensor,
    time_steps: int,
    neuron: StbpNeuron,
    spike_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the spikes ``[T, ...]``; equal to ``scan_plain``, faster.

    Args:
        current: ``[T, ...]``, or ``[1, ...]`` for a current that is the same at every step; float32
            or float64, dense with time outermost (contiguous or channels-last).
        time_steps: T.
        neuron: Constants.
        spike_dtype: Type of the spikes; that of ``current`` if None. The potential stays in the
            type of ``current``.

    Raises:
        ValueError: ``current`` has neither 1 nor T steps.
    """
    if current.shape[0] not in (1, time_steps):
        raise ValueError(f"current has {current.shape[0]} steps, neither 1 nor T = {time_steps}")
    spike_dtype = spike_dtype or current.dtype
    if takes_triton(current):
        from repro.neurons import triton_stbp

        return fired(triton_stbp.scan(current, time_steps, neuron, spike_dtype))
    if current.device.type != "cpu":
        return fired(scan_plain(current, time_steps, neuron).to(spike_dtype))
    spikes: Tensor = _Scan.apply(current, time_steps, neuron, spike_dtype)  # type: ignore[no-untyped-call]
    return fired(spikes)
