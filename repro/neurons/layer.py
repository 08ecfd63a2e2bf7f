"""Layers of neurons as modules: their forward returns spikes, so that hooks see them fire."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from repro.neurons import scan
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.normed_plif import Connection
from repro.neurons.plif import scan_plain
from repro.neurons.stbp import StbpNeuron
from repro.neurons.tssl_bp import STATES, TsslBpNeuron


class NeuronLayer(nn.Module):
    """Neurons of one layer or, since no state survives a call, of several of the same kind.

    Attributes:
        states: Numbers that a neuron keeps from step to step.
    """

    states = 1

    def spikes(self, output: Tensor, *inputs: object) -> Tensor:
        """Return the spikes ``[T, B, ...]`` of a call, from its output and its inputs."""
        return output


class StbpLayer(NeuronLayer):
    """STBP's neurons."""

    def __init__(self, neuron: StbpNeuron) -> None:
        """Keep the constants."""
        super().__init__()
        self.neuron = neuron

    def forward(
        self, current: Tensor, time_steps: int, spike_dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return the spikes; arguments as in ``repro.neurons.scan.stbp``."""
        return scan.stbp(current, time_steps, self.neuron, spike_dtype)


class TsslBpLayer(NeuronLayer):
    """TSSL-BP's neurons."""

    states = STATES

    def __init__(self, neuron: TsslBpNeuron) -> None:
        """Keep the constants."""
        super().__init__()
        self.neuron = neuron

    def forward(
        self,
        current: Tensor,
        time_steps: int,
        gain: float = 1.0,
        spike_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return the spikes; arguments as in ``repro.neurons.scan.tssl_bp``."""
        return scan.tssl_bp(current, time_steps, self.neuron, gain, spike_dtype)


class IntegrateAndFireLayer(NeuronLayer):
    """Integrate-and-fire neurons with soft reset; the memory of their input is used up."""

    def __init__(self, neuron: IntegrateAndFire) -> None:
        """Keep the constants."""
        super().__init__()
        self.neuron = neuron

    def forward(
        self,
        current: Tensor,
        time_steps: int,
        initial: Tensor | None = None,
        spike_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return the spikes; arguments as in ``repro.neurons.scan.integrate_and_fire``."""
        return scan.integrate_and_fire(
            current, time_steps, self.neuron, initial, spike_dtype, overwrite=True
        )


class HardResetLayer(NeuronLayer):
    """PLIF neurons, whose leak is learnt and shared by all of the layer, or IF neurons.

    Attributes:
        w: Scalar parameter of PLIF neurons, ``leak = sigmoid(w)``; None of IF neurons.
    """

    w: nn.Parameter | None

    def __init__(self, tau: float | None) -> None:
        """Start with that time constant.

        Args:
            tau: Initial time constant of the membrane, in steps, above 1; None for IF neurons.

        Raises:
            ValueError: ``tau`` is not above 1.
        """
        super().__init__()
        if tau is not None and not 1 < tau < math.inf:
            raise ValueError(f"tau is {tau}: give more than 1 step")
        self.w = None if tau is None else nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def leak(self) -> Tensor | None:
        """Return the scalar ``1 / tau``, None of IF neurons."""
        return None if self.w is None else self.w.sigmoid()

    def forward(
        self,
        maps: Tensor,
        time_steps: int,
        norm: nn.BatchNorm2d,
        shortcut: Tensor | None = None,
        connection: Connection = "add",
    ) -> Tensor:
        """Return spikes of the normalised maps, combined with a shortcut if there is one.

        Arguments as in ``repro.neurons.scan.norm_and_fire``.
        """
        return scan.norm_and_fire(maps, time_steps, norm, self.leak(), shortcut, connection)

    def spikes(self, output: Tensor, *inputs: object) -> Tensor:
        """Return the spikes alone; where the connection hides some, they are computed again."""
        maps, time_steps, norm, shortcut, connection = inputs
        assert isinstance(maps, Tensor)
        assert isinstance(time_steps, int)
        assert isinstance(norm, nn.BatchNorm2d)
        if not isinstance(shortcut, Tensor):
            return output
        if connection == "add":
            return output - shortcut  # small whole numbers: exact
        running = (None, None) if norm.training else (norm.running_mean, norm.running_var)
        flat = maps.flatten(0, 1)
        current = batch_norm(flat, *running, norm.weight, norm.bias, norm.training, 0.0, norm.eps)
        return scan_plain(current.view_as(maps), time_steps, self.leak())
