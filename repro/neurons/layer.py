"""Layers of neurons as modules: their forward returns spikes, so that hooks see them fire."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from repro.neurons import scan
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.normed_plif import Connection
from repro.neurons.plif import scan_plain
from repro.neurons.stbp import StbpNeuron
from repro.neurons.tssl_bp import STATES, TsslBpNeuron
from repro.products.dispatch import unpack
from repro.products.layer import CodedLayer, Form, Packed
from repro.products.spikes import PackedSpikes


class NeuronLayer(nn.Module):
    """Neurons of one layer or, since no state survives a call, of several of the same kind.

    Attributes:
        states: Numbers that a neuron keeps from step to step.
    """

    states = 1

    def spikes(self, output: Tensor | PackedSpikes, *inputs: object) -> Tensor:
        """Return the spikes ``[T, B, ...]`` of a call, from its output and its inputs."""
        if isinstance(output, Tensor):
            return output
        current, time_steps = inputs[:2]
        assert isinstance(current, Tensor)
        folded = unpack(output).unflatten(0, (time_steps, -1))  # type: ignore[no-untyped-call]
        spikes: Tensor = folded.view(*folded.shape[:2], *current.shape[2:])
        return spikes


class FeedForwardLayer(NeuronLayer):
    """Neurons whose only input is a current; their spikes may leave as bits.

    Attributes:
        neuron: Constants.
    """

    neuron: scan.Neuron

    def forward(
        self,
        current: Tensor,
        time_steps: int,
        form: Form | None = None,
        *,
        gain: float = 1.0,
        initial: Tensor | None = None,
    ) -> Tensor | PackedSpikes:
        """Return the spikes ``[T, B, ...]``, or as bits ``[T * B, ...]``.

        Args:
            current: As in ``repro.neurons.scan``.
            time_steps: T.
            form: Type of the spikes, that of the current if None; or bits, where no gradient is to
                go through, on the CPU (else the type of the current).
            gain: Factor on the current, of TSSL-BP's neurons.
            initial: Potential before the first step, of integrate-and-fire neurons, to be broadcast
                to ``current[0]``; 0 if None.
        """
        if isinstance(form, Packed):
            given = (current, time_steps, self.neuron, form.bits, gain, initial)
            if (packed := scan.as_bits(*given)) is not None:
                return packed
            form = None
        return self.scan(current, time_steps, form, gain, initial)

    @abstractmethod
    def scan(
        self,
        current: Tensor,
        time_steps: int,
        dtype: torch.dtype | None,
        gain: float,
        initial: Tensor | None,
    ) -> Tensor:
        """Return the spikes ``[T, B, ...]`` in a data type."""

    def behind(
        self,
        layer: nn.Module,
        spikes: Tensor | PackedSpikes,
        time_steps: int,
        form: Form | None = None,
        *,
        gain: float = 1.0,
        initial: Tensor | None = None,
    ) -> Tensor | PackedSpikes:
        """Return the spikes of the neurons behind a layer, in one pass where all is on bits.

        Args:
            layer: Gets the spikes.
            spikes: ``[T * B, ...]``.
            time_steps: T.
            form: As in ``forward``, as the next two.
            gain: Factor on the current.
            initial: First potential.
        """
        if (
            isinstance(layer, CodedLayer)
            and isinstance(spikes, PackedSpikes)
            and isinstance(form, Packed)
            and layer.form is not None
            and initial is None
            and not (layer.trains() or _is_watched(layer) or _is_watched(self))
        ):
            from repro.neurons.cpu import on_bits

            given = (spikes, layer, time_steps, self.neuron, form.bits, gain)
            return on_bits.counted(*given)
        maps = layer(spikes)
        current = maps.view(time_steps, -1, *maps.shape[1:])
        fired: Tensor | PackedSpikes = self(current, time_steps, form, gain=gain, initial=initial)
        return fired


def _is_watched(module: nn.Module) -> bool:
    """Return whether a hook sees what goes in or comes out."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


class StbpLayer(FeedForwardLayer):
    """STBP's neurons."""

    neuron: StbpNeuron

    def __init__(self, neuron: StbpNeuron) -> None:
        """Keep the constants."""
        super().__init__()
        self.neuron = neuron

    def scan(
        self,
        current: Tensor,
        time_steps: int,
        dtype: torch.dtype | None,
        gain: float,
        initial: Tensor | None,
    ) -> Tensor:
        """Return the spikes; neither gain nor first potential are known here."""
        return scan.stbp(current, time_steps, self.neuron, dtype)


class TsslBpLayer(FeedForwardLayer):
    """TSSL-BP's neurons."""

    states = STATES
    neuron: TsslBpNeuron

    def __init__(self, neuron: TsslBpNeuron) -> None:
        """Keep the constants."""
        super().__init__()
        self.neuron = neuron

    def scan(
        self,
        current: Tensor,
        time_steps: int,
        dtype: torch.dtype | None,
        gain: float,
        initial: Tensor | None,
    ) -> Tensor:
        """Return the spikes; there is no first potential."""
        return scan.tssl_bp(current, time_steps, self.neuron, gain, dtype)


class IntegrateAndFireLayer(FeedForwardLayer):
    """Integrate-and-fire neurons with soft reset; the memory of their input is used up."""

    neuron: IntegrateAndFire

    def __init__(self, neuron: IntegrateAndFire) -> None:
        """Keep the constants."""
        super().__init__()
        self.neuron = neuron

    def scan(
        self,
        current: Tensor,
        time_steps: int,
        dtype: torch.dtype | None,
        gain: float,
        initial: Tensor | None,
    ) -> Tensor:
        """Return the spikes; there is no gain."""
        given = (current, time_steps, self.neuron, initial, dtype)
        return scan.integrate_and_fire(*given, overwrite=True)


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

    def spikes(self, output: Tensor | PackedSpikes, *inputs: object) -> Tensor:
        """Return the spikes alone; where the connection hides some, they are computed again."""
        maps, time_steps, norm, shortcut, connection = inputs
        assert isinstance(output, Tensor)
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
