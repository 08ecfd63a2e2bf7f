"""Spikes of a layer of neurons over all time steps, by the fastest backend for the device.

Each function equals the plain scan of the neuron's own file: ``cpu/`` has kernels for the CPU,
``gpu/`` for a GPU where Triton compiles; elsewhere the plain scan itself runs.
"""

from pkgutil import resolve_name
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn

from repro.device.triton_support import takes_triton
from repro.neurons import integrate_and_fire as integrate_and_fire_definition
from repro.neurons import stbp as stbp_definition
from repro.neurons import tssl_bp as tssl_bp_definition
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.memory import dense
from repro.neurons.normed_plif import Connection, norm_and_fire_plain
from repro.neurons.stbp import StbpNeuron
from repro.neurons.tssl_bp import TsslBpNeuron
from repro.products.spikes import PackedSpikes

Neuron = IntegrateAndFire | StbpNeuron | TsslBpNeuron


def backend(current: Tensor, time_steps: int) -> Literal["cpu", "gpu", "plain"]:
    """Return which implementation computes a scan of ``current`` over T steps.

    Raises:
        ValueError: ``current`` has neither 1 nor T steps.
    """
    if current.shape[0] not in (1, time_steps):
        raise ValueError(f"input has {current.shape[0]} steps, neither 1 nor T = {time_steps}")
    if takes_triton(current):
        return "gpu"
    return "cpu" if current.device.type == "cpu" else "plain"


def as_bits(
    current: Tensor,
    time_steps: int,
    neuron: Neuron,
    bits: int,
    gain: float = 1.0,
    initial: Tensor | None = None,
) -> PackedSpikes | None:
    """Return the spikes ``[T * B, ...]`` as bits; None on a GPU, or if a gradient is to go through.

    Args:
        current: See `stbp`.
        time_steps: T.
        neuron: Constants.
        bits: Of a word.
        gain: Factor on the current, of TSSL-BP's neurons.
        initial: Potential before the first step, of integrate-and-fire neurons; 0 if None.

    Raises:
        ValueError: ``current`` has neither 1 nor T steps.
    """
    found = backend(current, time_steps)
    if found != "cpu" or (torch.is_grad_enabled() and current.requires_grad):
        return None
    from repro.neurons.cpu import on_bits

    return on_bits.scan(current, time_steps, neuron, bits, gain, initial)


def _scan(
    definition: ModuleType,
    current: Tensor,
    time_steps: int,
    arguments: tuple[object, ...],
    spike_dtype: torch.dtype | None,
) -> Tensor:
    """Return the spikes of a neuron by the file of its name in the backend.

    Args:
        definition: Module of the neuron.
        current: See `stbp`.
        time_steps: T.
        arguments: Of the scan, behind T.
        spike_dtype: See `stbp`.
    """
    dtype, found = spike_dtype or current.dtype, backend(current, time_steps)
    spikes: Tensor
    if found == "plain":
        spikes = definition.scan_plain(current, time_steps, *arguments).to(dtype)
        return spikes
    name = definition.__name__.rpartition(".")[2]
    scan = resolve_name(f"repro.neurons.{found}.{name}:_Scan")
    spikes = scan.apply(current, time_steps, *arguments, dtype)
    return spikes


def stbp(
    current: Tensor, time_steps: int, neuron: StbpNeuron, spike_dtype: torch.dtype | None = None
) -> Tensor:
    """Return the spikes ``[T, ...]`` of STBP's neurons.

    Args:
        current: ``[T, ...]``, or ``[1, ...]`` for a current that is the same at every step; float32
            or float64, dense with time outermost (contiguous or channels-last).
        time_steps: T.
        neuron: Constants.
        spike_dtype: Type of the spikes; that of ``current`` if None. The potential stays in the
            type of ``current``.
    """
    return _scan(stbp_definition, current, time_steps, (neuron,), spike_dtype)


def tssl_bp(
    current: Tensor,
    time_steps: int,
    neuron: TsslBpNeuron,
    gain: float = 1.0,
    spike_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the spikes ``[T, ...]`` of TSSL-BP's neurons; further arguments as of `stbp`.

    Args:
        current: See `stbp`.
        time_steps: T.
        neuron: Constants.
        gain: Factor on the current.
        spike_dtype: See `stbp`.
    """
    return _scan(tssl_bp_definition, current, time_steps, (neuron, gain), spike_dtype)


def integrate_and_fire(
    current: Tensor,
    time_steps: int,
    neuron: IntegrateAndFire,
    initial: Tensor | None = None,
    spike_dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Tensor:
    """Return the spikes ``[T, ...]`` of integrate-and-fire neurons with soft reset.

    Args:
        current: See `stbp`.
        time_steps: T.
        neuron: Constants.
        initial: Potential before the first step, to be broadcast to ``current[0]``; 0 if None.
        spike_dtype: See `stbp`.
        overwrite: Whether the memory of ``current`` may be used for the potential, if a backward
            pass follows. Then nobody must read it afterwards; autograd notices if it would. On a
            GPU it never is.
    """
    if initial is not None:  # the gradient of the sum takes it back to its own shape
        current = dense(current)
        initial = torch.zeros_like(current[0]) + initial
    definition, arguments = integrate_and_fire_definition, (neuron, initial, overwrite)
    return _scan(definition, current, time_steps, arguments, spike_dtype)


def norm_and_fire(
    maps: Tensor,
    time_steps: int,
    norm: nn.BatchNorm2d,
    leak: Tensor | None,
    shortcut: Tensor | None = None,
    connection: Connection = "add",
) -> Tensor:
    """Return the output of a SEW layer; arguments as in ``norm_and_fire_plain``.

    On a GPU, PyTorch normalises, and one kernel does the rest.

    Raises:
        ValueError: ``maps`` has neither 1 nor T steps, or one value per channel to normalise.
    """
    if norm.training and maps.numel() == maps.shape[2]:
        raise ValueError("one value per channel has no variance: give more images or time steps")
    found = backend(maps, time_steps)
    if found == "gpu":
        from repro.neurons.gpu import plif as on_gpu

        current = norm(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        return on_gpu.scan(current, time_steps, leak, shortcut, connection)
    if found == "cpu" and maps.dtype in (torch.float32, torch.float64):
        from repro.neurons.cpu import normed_plif as on_cpu

        return on_cpu.norm_and_fire(maps, time_steps, norm, leak, shortcut, connection)
    return norm_and_fire_plain(maps, time_steps, norm, leak, shortcut, connection)
