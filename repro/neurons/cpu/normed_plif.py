"""Batch normalisation, hard-reset neurons and the SEW connection on the CPU, in one pass each."""

from typing import Any, Final

import torch
from torch import Tensor, nn

from repro.neurons.cpu import plif
from repro.neurons.cpu.memory import rows
from repro.neurons.memory import empty, laid_out_like
from repro.neurons.normed_plif import Connection
from repro.neurons.plif import ALPHA

CHUNK: Final = 2048  # elements that a thread works on at a time, about


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
        out = empty((time_steps, *maps.shape[1:]), maps, maps.dtype)
        gain, offset = _gain_and_offset(gamma, beta, mean, inverse)
        code = _code(shortcut, connection)
        real = rows(maps).dtype.type
        plif.forward(
            rows(maps),
            _repeated(gain),
            _repeated(offset),
            real(0.0 if leak is None else leak.item()),
            leak is not None,
            rows(out)[:, :0] if shortcut is None else rows(laid_out_like(shortcut, out)),
            code,
            rows(out),
        )
        keeps = shortcut if connection != "add" else None
        ctx.save_for_backward(maps, gamma, beta, leak, keeps, mean, inverse)
        ctx.of_batch, ctx.code = of_batch, code
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        maps, gamma, beta, leak, shortcut, mean, inverse = ctx.saved_tensors
        gain, offset = _gain_and_offset(gamma, beta, mean, inverse)
        grad_out = laid_out_like(grad_out, maps)
        grad, channels = torch.empty_like(maps), maps.shape[2]
        chunks = -(-maps[0].numel() // _chunk(channels))
        sums = torch.empty((chunks, 3, channels), dtype=torch.float64)
        to_shortcut = None if shortcut is None else torch.empty_like(grad_out)
        nothing = rows(grad_out)[:, :0]
        real = rows(maps).dtype.type
        plif.backward(
            rows(grad_out),
            rows(maps),
            _repeated(gain),
            _repeated(offset),
            real(0.0 if leak is None else leak.item()),
            leak is not None,
            real(ALPHA),
            nothing if shortcut is None else rows(laid_out_like(shortcut, maps)),
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
            grad_out if ctx.code == plif.ADD else to_shortcut,
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
    plif.through_norm(rows(grad), rows(maps), *factors)


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


def _code(shortcut: Tensor | None, connection: Connection) -> int:
    """Return the kernels' number of a connection."""
    codes = {"add": plif.ADD, "and": plif.AND, "iand": plif.IAND}
    return plif.NONE if shortcut is None else codes[connection]


@torch.no_grad()
def _statistics(maps: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return mean and inverse standard deviation ``[C]``; in training, move the running ones.

    Sums are in float64.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if not norm.training:
        return norm.running_mean, (norm.running_var + norm.eps).rsqrt()
    channels, count = maps.shape[2], maps.numel() // maps.shape[2]
    shift = maps[0, 0, :, 0, 0].clone()
    repeated = _repeated(shift)
    sums = torch.empty((plif.PIECES, 2, len(repeated)), dtype=torch.float64)
    plif.moments(rows(maps), repeated, sums.numpy())
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
    leak: Tensor | None,
    shortcut: Tensor | None,
    connection: Connection,
) -> Tensor:
    """Return the layer's output; see ``repro.neurons.scan.norm_and_fire``.

    Memory of maps and shortcut is brought into channels-last order.
    """
    flat = maps.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    maps = flat.unflatten(0, maps.shape[:2])  # type: ignore[no-untyped-call]
    mean, inverse = _statistics(maps, norm)
    given = (maps, norm.weight, norm.bias, leak, shortcut, mean, inverse)
    out: Tensor = _NormAndFire.apply(*given, norm.training, time_steps, connection)  # type: ignore[no-untyped-call]
    return out
