"""The integrate-and-fire neuron of converted networks: soft reset, half-threshold shift.

References: Li et al., *A free lunch from ANN: towards efficient, accurate spiking neural networks
calibration*, ICML 2021 (SNN-Calibration), equations 1 to 3 and the shift of Section 4.1 (after Deng
and Gu, ICLR 2021); the surrogate gradient is the paper's, for the CBP phase.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from repro.gpu import takes_triton
from repro.neurons.surrogate import arctan_spike
from repro.neurons.watch import fired


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
    current: Tensor, time_steps: int, neuron: IntegrateAndFire, initial: Tensor | None = None
) -> Tensor:
    """Return the spikes ``[T, ...]``: the neuron's definition, one step after another.

    Args:
        current: ``[T, ...]``, or ``[1, ...]`` for a current that is the same at every step.
        time_steps: T.
        neuron: Constants.
        initial: Potential before the first step, to be broadcast to ``current[0]``; 0 if None.
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


class _Scan(torch.autograd.Function):
    """The scan in one kernel per direction.

    The potential is kept for the backward pass, in the current's own memory if that may be
    overwritten; of a constant current only the current itself. The backward pass leaves the
    gradient where the potential was. New memory would cost more than the arithmetic (page faults);
    version counters make a second use of what is gone an error.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        current: Tensor,
        initial: Tensor | None,
        time_steps: int,
        neuron: IntegrateAndFire,
        spike_dtype: torch.dtype,
        overwrite: bool,
    ) -> Tensor:
        from repro.neurons import integrate_and_fire_kernels
        from repro.neurons.kernels import rows, spike_code

        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        strides = (current[0].numel(), *current.stride()[1:])
        shape = (time_steps, *current.shape[1:])
        spikes = torch.empty_strided(shape, strides, dtype=spike_dtype)
        kept = current
        if wanted and len(current) > 1:
            kept = (
                current if overwrite else torch.empty_strided(shape, strides, dtype=current.dtype)
            )
            increment_version(kept)
        currents = rows(current)
        real = currents.dtype.type
        integrate_and_fire_kernels.forward(
            currents,
            _initial(initial, current),
            real(neuron.threshold),
            real(neuron.shift(time_steps)),
            spike_code(spike_dtype),
            rows(kept) if wanted and len(current) > 1 else currents[:0],
            rows(spikes),
        )
        ctx.save_for_backward(kept, initial)
        ctx.neuron, ctx.time_steps = neuron, time_steps
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        from repro.neurons import integrate_and_fire_kernels
        from repro.neurons.kernels import rows

        source, initial = ctx.saved_tensors
        strides = (source[0].numel(), *source.stride()[1:])
        if (grad_spikes.dtype, grad_spikes.stride()) != (source.dtype, strides):
            empty = torch.empty_strided(grad_spikes.shape, strides, dtype=source.dtype)
            grad_spikes = empty.copy_(grad_spikes)
        constant = len(source) == 1
        grad = torch.empty_like(source) if constant else source.detach()
        grad_initial = torch.empty_like(source[0]) if ctx.needs_input_grad[1] else None
        sources = rows(source)
        real = sources.dtype.type
        integrate_and_fire_kernels.backward(
            rows(grad_spikes),
            sources,
            _initial(initial, source),
            real(ctx.neuron.threshold),
            real(ctx.neuron.shift(ctx.time_steps)),
            real(ctx.neuron.alpha),
            rows(grad),
            _initial(grad_initial, source),
        )
        if not constant:
            increment_version(source)
        return grad, grad_initial, None, None, None, None


def _initial(potential: Tensor | None, like: Tensor) -> Any:  # noqa: ANN401  (a NumPy array)
    """Return ``[1, N]`` of one step's potentials, or ``[1, 0]`` for None."""
    from repro.neurons.kernels import rows

    return rows(like)[:1, :0] if potential is None else rows(potential.unsqueeze(0))


def scan(
    current: Tensor,
    time_steps: int,
    neuron: IntegrateAndFire,
    initial: Tensor | None = None,
    spike_dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Tensor:
    """Return the spikes ``[T, ...]``; equal to ``scan_plain``, faster.

    Args:
        current: ``[T, ...]``, or ``[1, ...]`` for a current that is the same at every step; float32
            or float64, dense with time outermost (contiguous or channels-last).
        time_steps: T.
        neuron: Constants.
        initial: Potential before the first step, to be broadcast to ``current[0]``; 0 if None.
        spike_dtype: Type of the spikes; that of ``current`` if None. The potential stays in the
            type of ``current``.
        overwrite: Whether the memory of ``current`` may be used for the potential, if a backward
            pass follows. Then nobody must read it afterwards; autograd notices if it would. On a
            GPU it never is.

    Raises:
        ValueError: ``current`` has neither 1 nor T steps.
    """
    if current.shape[0] not in (1, time_steps):
        raise ValueError(f"current has {current.shape[0]} steps, neither 1 nor T = {time_steps}")
    spike_dtype = spike_dtype or current.dtype
    if takes_triton(current):
        from repro.neurons import triton_integrate_and_fire

        return fired(
            triton_integrate_and_fire.scan(current, time_steps, neuron, initial, spike_dtype)
        )
    if current.device.type != "cpu":
        return fired(scan_plain(current, time_steps, neuron, initial).to(spike_dtype))
    if initial is not None:  # the gradient of the sum takes it back to its own shape
        initial = torch.zeros_like(current[0]) + initial
    spikes: Tensor = _Scan.apply(current, initial, time_steps, neuron, spike_dtype, overwrite)  # type: ignore[no-untyped-call]
    return fired(spikes)
