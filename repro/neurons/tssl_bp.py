"""TSSL-BP's leaky integrate-and-fire neuron with synapse, its loss and its target.

Layers exchange spikes. The reference's layers exchange spikes that have passed the synaptic filter;
the filter is linear and constant in time, so it commutes with convolutions, pooling and a dropout
mask that is constant in time, and stands here at the neuron's input: one filter per neuron instead
of one per synapse's source, and layers whose inputs are 0 and 1. The rule's sum over later
gradients, ``sum_k kappa[k] g[t + k]``, is then the gradient at this neuron's spikes.

Reference: Zhang & Li, *Temporal spike sequence learning via backpropagation for deep spiking neural
networks*, NeurIPS 2020 (arXiv 2002.10085), sections 2 and 3, and its code (stonezwr/TSSL-BP), where
the constants below stand.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

GREATEST_SLOPE: Final = 8.0  # code: 1/d of a spike is clamped to 8
WIDTH: Final = 0.2  # code: of the logistic surrogate where no spike is near
GREATEST_ARGUMENT: Final = 8.0  # code: |threshold - u| / WIDTH is clamped to 8
RECENT: Final = 0.25  # code: a filtered output below RECENT / tau_s counts as no recent spike
STATES: Final = 2  # kept by a neuron from step to step: membrane potential and filtered current


@dataclass(frozen=True)
class TsslBpNeuron:
    """Constants of the neuron.

    Attributes:
        tau_m: Time constant of the membrane, in time steps, 1 and up.
        tau_s: Time constant of the synaptic filter, in time steps, 1 and up.
        threshold: A neuron fires where its potential is above this; above 0.
    """

    tau_m: float = 5.0
    tau_s: float = 3.0
    threshold: float = 1.0


def synaptic_filter(spikes: Tensor, tau_s: float) -> Tensor:
    """Return ``psp[t] = p[t] / tau_s`` with ``p[t] = p[t-1] (1 - 1/tau_s) + spikes[t]``.

    Args:
        spikes: ``[T, ...]``, floating point.
        tau_s: Time constant in time steps.

    Returns:
        Post-synaptic potentials ``[T, ...]``, differentiable.

    References:
        TSSL-BP, equation 3, in discrete time.

    >>> synaptic_filter(torch.tensor([1.0, 0.0, 0.0]), tau_s=2.0)
    tensor([0.5000, 0.2500, 0.1250])
    """
    kept, filtered = torch.zeros_like(spikes[0]), []
    for now in spikes:
        kept = kept * (1 - 1 / tau_s) + now
        filtered.append(kept / tau_s)
    return torch.stack(filtered)


def target_train(
    labels: Tensor,
    classes: int,
    time_steps: int,
    tau_s: float,
    silent_steps: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the filtered target train ``[T, B, K]``: the label's neuron fires, all others never.

    It fires at every step but the first ``silent_steps``.

    Args:
        labels: ``[B]``, int64.
        classes: K.
        time_steps: T.
        tau_s: Time constant of the filter.
        silent_steps: Steps without a spike at the start.
        dtype: Of the result.

    References:
        CBP-QSNN's TSSL-BP script: the train [0, 1, 1, 1, 1], filtered.
    """
    neurons = torch.nn.functional.one_hot(labels, classes).to(dtype)
    train = neurons.expand(time_steps, *neurons.shape).clone()
    train[:silent_steps] = 0
    return synaptic_filter(train, tau_s)


def spike_kernel_loss(output: Tensor, target: Tensor, tau_s: float) -> Tensor:
    """Return ``1/2 sum (output - filter(target))^2``, a sum over time, batch and classes.

    The target has passed the filter already in ``target_train``, and passes it here a second time,
    as in the reference: its desired potential is lower and later than that of the train itself.

    Args:
        output: Post-synaptic potentials ``[T, B, K]`` of the last layer.
        target: ``[T, B, K]``, of ``target_train``.
        tau_s: Time constant of the filter.

    References:
        TSSL-BP, equation 5, as CBP-QSNN's script calls the code of TSSL-BP.
    """
    return (output - synaptic_filter(target, tau_s)).square().sum() / 2


def _states(
    current: Tensor, time_steps: int, neuron: TsslBpNeuron, gain: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return input to the membrane ``d``, potential ``u`` and spikes ``s``, each ``[T, ...]``.

    ``x`` is the filtered current times ``gain``; ``d[t] = x[t] - v[t-1] / tau_m``;
    ``u[t] = v[t-1] + d[t]``; ``s[t] = 1`` where ``u[t] > threshold``; ``v[t] = u[t] (1 - s[t])``.
    """
    kept = after_reset = torch.zeros_like(current[0])
    changes, potentials, train = [], [], []
    for t in range(time_steps):
        kept = kept * (1 - 1 / neuron.tau_s) + current[t if current.shape[0] > 1 else 0]
        change = kept * (gain / neuron.tau_s) - after_reset * (1 / neuron.tau_m)
        potential = after_reset + change
        spikes = (potential > neuron.threshold).to(current.dtype)
        after_reset = potential * (1 - spikes)
        changes.append(change)
        potentials.append(potential)
        train.append(spikes)
    return torch.stack(changes), torch.stack(potentials), torch.stack(train)


def logistic_slope(potential: Tensor, threshold: float) -> Tensor:
    """Return ``q / (WIDTH (1 + q)^2)`` with ``q = exp((threshold - u) / WIDTH)``, clamped."""
    q = ((threshold - potential) / WIDTH).clamp(-GREATEST_ARGUMENT, GREATEST_ARGUMENT).exp()
    return q / (WIDTH * (1 + q) ** 2)


class _PlainScan(torch.autograd.Function):
    """The rule, one time step after another, all neurons at once."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        current: Tensor,
        time_steps: int,
        neuron: TsslBpNeuron,
        gain: float,
    ) -> Tensor:
        ctx.save_for_backward(current)
        ctx.arguments = time_steps, neuron, gain
        return _states(current, time_steps, neuron, gain)[2]

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (current,) = ctx.saved_tensors
        time_steps, neuron, gain = ctx.arguments
        change, potential, spikes = _states(current, time_steps, neuron, gain)
        output = synaptic_filter(spikes, neuron.tau_s)
        carry = later = torch.zeros_like(current[0])
        grads = []
        for t in reversed(range(time_steps)):
            incoming, u = grad_spikes[t], potential[t]
            slope = (1 / change[t]).clamp(0, GREATEST_SLOPE)
            fired = slope * (incoming + carry * u * (1 / neuron.tau_m))
            carry = torch.where(spikes[t] > 0, fired, carry * (1 - 1 / neuron.tau_m))
            silent = incoming * logistic_slope(u, neuron.threshold)
            at_input = torch.where(output[t] < RECENT / neuron.tau_s, silent, carry)
            later = at_input + later * (1 - 1 / neuron.tau_s)
            grads.append(later * (gain / neuron.tau_s))
        grad = torch.stack(grads[::-1])
        if current.shape[0] == 1:
            grad = grad.sum(0, keepdim=True)
        return grad, None, None, None


def scan_plain(current: Tensor, time_steps: int, neuron: TsslBpNeuron, gain: float = 1.0) -> Tensor:
    """Return the spikes ``[T, ...]``: the neuron's definition, one step after another.

    Backwards, with ``theta = 1/tau_m`` and ``g`` the gradient at the spikes: where the neuron
    fired, ``carry[t] = min(1/d[t], 8) (g[t] + carry[t+1] theta u[t])``, elsewhere ``carry[t] =
    carry[t+1] (1 - theta)``; the gradient at the filtered current is ``g[t] logistic_slope(u[t])``
    where no spike is recent, ``carry[t]`` elsewhere; the filter runs backwards over it.

    Args:
        current: ``[T, ...]``, or ``[1, ...]`` for a current that is the same at every step. It has
            not passed the synaptic filter.
        time_steps: T.
        neuron: Constants.
        gain: Factor on the current, of pooling and dropout before the layer.

    References:
        TSSL-BP, section 3; golden values, ``tssl_bp``.
    """
    spikes: Tensor = _PlainScan.apply(current, time_steps, neuron, gain)  # type: ignore[no-untyped-call]
    return spikes
