"""Batch normalisation, hard-reset neurons and the SEW connection: three operations in one pass.

A layer of SEW-ResNet normalises the maps of a convolution over batch, time and space, feeds its
neurons with them, and combines their spikes with the block's shortcut. Done one by one, every
operation reads and writes the activations of all time steps; here one kernel does it per direction,
and only the convolution's own output is kept for the backward pass.
"""

from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from repro.gpu import takes_triton
from repro.neurons.plif import ALPHA, HardResetNeuron, scan_plain
from repro.neurons.watch import fired, is_watched

Connection = Literal["add", "and", "iand"]
CHUNK: Final = 2048  # elements that a thread works on at a time, about


def connect(spikes: Tensor, shortcut: Tensor, connection: Connection) -> Tensor:
    """Return spikes A and shortcut S combined: ``A + S``, ``A S`` or ``(1 - A) S``.

    References:
        Fang et al., SEW-ResNet, NeurIPS 2021, Table 1: the functions ADD, AND and IAND.
    """
    if connection == "add":
        return spikes + shortcut
    return (spikes if connection == "and" else 1 - spikes) * shortcut


def norm_and_fire_plain(
    maps: Tensor,
    time_steps: int,
    norm: nn.BatchNorm2d,
    neuron: HardResetNeuron,
    shortcut: Tensor | None = None,
    connection: Connection = "add",
) -> Tensor:
    """Return the layer's output ``[T, B, C, H, W]``, one operation after another.

    Args:
        maps: ``[T, B, C, H, W]``, or ``[1, B, C, H, W]`` for maps that are the same at every step.
        time_steps: T.
        norm: Normalisation; in training mode it updates its running statistics.
        neuron: Its neurons.
        shortcut: ``[T, B, C, H, W]``; None for spikes alone.
        connection: How spikes and shortcut combine.
    """
    current = norm(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
    spikes = scan_plain(current, time_steps, neuron.leak())
    return spikes if shortcut is None else connect(spikes, shortcut, connection)


class _NormAndFire(torch.autograd.Function):
    """The layer in one kernel per direction, and one more through the normalisation.

    ``mean`` and ``inverse`` (of the standard deviation) are constants for autograd: where they are
    the batch's, the backward pass accounts for them.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (autograd's context has no public type)
        maps: Tensor,
        gamma: Tensor,
        beta: Tensor,
        leak: Tensor | None,
        shortcut: Tensor | None,
        mean: Tensor,
        inverse: Tensor,
        of_batch: bool,
        time_steps: int,
        connection: Connection,
    ) -> Tensor:
        from repro.neurons import plif_kernels
        from repro.neurons.kernels import rows

        strides = (maps[0].numel(), *maps.stride()[1:])
        out = torch.empty_strided((time_steps, *maps.shape[1:]), strides, dtype=maps.dtype)
        gain, offset = _gain_and_offset(gamma, beta, mean, inverse)
        code = _code(shortcut, connection)
        real = rows(maps).dtype.type
        plif_kernels.forward(
            rows(maps),
            _repeated(gain),
            _repeated(offset),
            real(0.0 if leak is None else leak.item()),
            leak is not None,
            rows(out)[:, :0] if shortcut is None else rows(_like(shortcut, out)),
            code,
            rows(out),
        )
        keeps = shortcut if connection != "add" else None
        ctx.save_for_backward(maps, gamma, beta, leak, keeps, mean, inverse)
        ctx.of_batch, ctx.code = of_batch, code
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        from repro.neurons import plif_kernels
        from repro.neurons.kernels import rows

        maps, gamma, beta, leak, shortcut, mean, inverse = ctx.saved_tensors
        gain, offset = _gain_and_offset(gamma, beta, mean, inverse)
        grad_out = _like(grad_out, maps)
        grad, channels = torch.empty_like(maps), maps.shape[2]
        chunks = -(-maps[0].numel() // _chunk(channels))
        sums = torch.empty((chunks, 3, channels), dtype=torch.float64)
        to_shortcut = None if shortcut is None else torch.empty_like(grad_out)
        nothing = rows(grad_out)[:, :0]
        real = rows(maps).dtype.type
        plif_kernels.backward(
            rows(grad_out),
            rows(maps),
            _repeated(gain),
            _repeated(offset),
            real(0.0 if leak is None else leak.item()),
            leak is not None,
            real(ALPHA),
            nothing if shortcut is None else rows(_like(shortcut, maps)),
            ctx.code,
            rows(grad),
            nothing if to_shortcut is None else rows(to_shortcut),
            sums.numpy(),
        )
        total, product, to_leak = sums.sum(0)
        average, deviation = mean.double(), inverse.double()
        to_gamma = deviation * (product - average * total)
        _through_norm_(grad, maps, gamma, mean, inverse, (total, to_gamma), ctx.of_batch)
        return (
            grad,
            to_gamma.to(gamma.dtype),
            total.to(beta.dtype),
            None if leak is None else (to_leak.sum() / leak.double()).to(leak.dtype),
            grad_out if ctx.code == plif_kernels.ADD else to_shortcut,
            *(None,) * 5,
        )


def _through_norm_(
    grad: Tensor,
    maps: Tensor,
    gamma: Tensor,
    mean: Tensor,
    inverse: Tensor,
    sums: tuple[Tensor, Tensor],
    of_batch: bool,
) -> None:
    """Turn the gradient of the normalised maps into that of the maps, in place."""
    from repro.neurons import plif_kernels
    from repro.neurons.kernels import rows

    deviation = inverse.double()
    a = gamma.double() * deviation
    if of_batch:
        count = maps.numel() // maps.shape[2]
        total, to_gamma = sums
        b = -a * deviation * to_gamma / count
        c = -a * total / count - b * mean.double()
    else:
        b = c = torch.zeros_like(a)
    factors = [_repeated(factor.to(maps.dtype)) for factor in (a, b, c)]
    plif_kernels.through_norm(rows(grad), rows(maps), *factors)


def _gain_and_offset(
    gamma: Tensor, beta: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the ``[C]`` factors of ``maps * gain + offset``, the normalised maps."""
    gain = gamma.detach() * inverse
    return gain, beta.detach() - mean * gain


def _chunk(channels: int) -> int:
    """Return the length of a chunk: whole pixels."""
    return channels * max(1, CHUNK // channels)


def _repeated(by_channel: Tensor) -> Any:  # noqa: ANN401  (a NumPy array)
    """Return ``[chunk]``: a number per channel, repeated for every pixel of a chunk."""
    channels = len(by_channel)
    return by_channel.repeat(_chunk(channels) // channels).numpy()


def _like(tensor: Tensor, layout: Tensor) -> Tensor:
    """Return the tensor in the memory order of another, itself where it has it."""
    strides = (layout[0].numel(), *layout.stride()[1:])
    if tensor.stride() == strides:
        return tensor
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)


def _code(shortcut: Tensor | None, connection: Connection) -> int:
    """Return the kernels' number of a connection."""
    from repro.neurons import plif_kernels

    codes = {"add": plif_kernels.ADD, "and": plif_kernels.AND, "iand": plif_kernels.IAND}
    return plif_kernels.NONE if shortcut is None else codes[connection]


@torch.no_grad()
def _statistics(maps: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return mean and inverse standard deviation ``[C]``; in training, move the running ones.

    Sums are in float64.
    """
    from repro.neurons import plif_kernels
    from repro.neurons.kernels import rows

    assert norm.running_mean is not None
    assert norm.running_var is not None
    if not norm.training:
        return norm.running_mean, (norm.running_var + norm.eps).rsqrt()
    channels, count = maps.shape[2], maps.numel() // maps.shape[2]
    shift = maps[0, 0, :, 0, 0].clone()
    repeated = _repeated(shift)
    sums = torch.empty((plif_kernels.PIECES, 2, len(repeated)), dtype=torch.float64)
    plif_kernels.moments(rows(maps), repeated, sums.numpy())
    first, second = sums.sum(0).view(2, -1, channels).sum(1) / count
    mean, variance = first + shift.double(), (second - first.square()).clamp_(min=0)
    assert norm.momentum is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    norm.running_mean.lerp_(mean.to(maps.dtype), norm.momentum)
    unbiased = variance * (count / (count - 1))
    norm.running_var.lerp_(unbiased.to(maps.dtype), norm.momentum)
    return mean.to(maps.dtype), (variance + norm.eps).rsqrt().to(maps.dtype)


def norm_and_fire(
    maps: Tensor,
    time_steps: int,
    norm: nn.BatchNorm2d,
    neuron: HardResetNeuron,
    shortcut: Tensor | None = None,
    connection: Connection = "add",
) -> Tensor:
    """Return the layer's output; equal to ``norm_and_fire_plain``, faster.

    On the CPU, memory of maps and shortcut is brought into channels-last order. On a GPU, PyTorch
    normalises, and one kernel does the rest. Arguments as there.

    Raises:
        ValueError: ``maps`` has neither 1 nor T steps, or one value per channel to normalise.
    """
    if maps.shape[0] not in (1, time_steps):
        raise ValueError(f"maps have {maps.shape[0]} steps, neither 1 nor T = {time_steps}")
    if norm.training and maps.numel() == maps.shape[2]:
        raise ValueError("one value per channel has no variance: give more images or time steps")
    if shortcut is not None and is_watched():  # the spikes alone, before they are combined
        spikes = norm_and_fire(maps, time_steps, norm, neuron)
        return connect(spikes, shortcut, connection)
    if takes_triton(maps):
        from repro.neurons import triton_plif

        current = norm(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        return fired(triton_plif.scan(current, time_steps, neuron.leak(), shortcut, connection))
    if maps.device.type != "cpu" or maps.dtype not in (torch.float32, torch.float64):
        plain = norm_and_fire_plain(maps, time_steps, norm, neuron, shortcut, connection)
        return fired(plain)
    flat = maps.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    maps = flat.unflatten(0, maps.shape[:2])  # type: ignore[no-untyped-call]
    mean, inverse = _statistics(maps, norm)
    out: Tensor = _NormAndFire.apply(  # type: ignore[no-untyped-call]
        maps,
        norm.weight,
        norm.bias,
        neuron.leak(),
        shortcut,
        mean,
        inverse,
        norm.training,
        time_steps,
        connection,
    )
    return fired(out)
