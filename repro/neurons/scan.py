"""Spikes of a layer of neurons over all time steps, by the fastest backend for the device.

Each function equals the plain scan of the neuron's own file: ``cpu/`` has kernels for the CPU,
``gpu/`` for a GPU where Triton compiles; elsewhere the plain scan itself runs.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from repro.device.triton_support import takes_triton
from repro.neurons import integrate_and_fire as integrate_and_fire_definition
from repro.neurons import stbp as stbp_definition
from repro.neurons import tssl_bp as tssl_bp_definition
from repro.neurons.integrate_and_fire import IntegrateAndFire
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


def stbp(
    current: Tensor,
    time_steps: int,
    neuron: StbpNeuron,
    spike_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the spikes ``[T, ...]`` of STBP's neurons.

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
    dtype = spike_dtype or current.dtype
    match backend(current, time_steps):
        case "gpu":
            from repro.neurons.gpu import stbp as on_gpu

            return on_gpu.scan(current, time_steps, neuron, dtype)
        case "cpu":
            from repro.neurons.cpu import stbp as on_cpu

            return on_cpu.scan(current, time_steps, neuron, dtype)
    return stbp_definition.scan_plain(current, time_steps, neuron).to(dtype)


def tssl_bp(
    current: Tensor,
    time_steps: int,
    neuron: TsslBpNeuron,
    gain: float = 1.0,
    spike_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the spikes ``[T, ...]`` of TSSL-BP's neurons.

    Args:
        current: See `stbp`.
        time_steps: T.
        neuron: Constants.
        gain: Factor on the current.
        spike_dtype: See `stbp`.

    Raises:
        ValueError: ``current`` has neither 1 nor T steps.
    """
    dtype = spike_dtype or current.dtype
    match backend(current, time_steps):
        case "gpu":
            from repro.neurons.gpu import tssl_bp as on_gpu

            return on_gpu.scan(current, time_steps, neuron, gain, dtype)
        case "cpu":
            from repro.neurons.cpu import tssl_bp as on_cpu

            return on_cpu.scan(current, time_steps, neuron, gain, dtype)
    return tssl_bp_definition.scan_plain(current, time_steps, neuron, gain).to(dtype)


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

    Raises:
        ValueError: ``current`` has neither 1 nor T steps.
    """
    dtype = spike_dtype or current.dtype
    match backend(current, time_steps):
        case "gpu":
            from repro.neurons.gpu import integrate_and_fire as on_gpu

            return on_gpu.scan(current, time_steps, neuron, initial, dtype)
        case "cpu":
            from repro.neurons.cpu import integrate_and_fire as on_cpu

            return on_cpu.scan(current, time_steps, neuron, initial, dtype, overwrite)
    plain = integrate_and_fire_definition.scan_plain(current, time_steps, neuron, initial)
    return plain.to(dtype)


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
