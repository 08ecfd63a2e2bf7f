"""Batch normalisation, hard-reset neurons and the SEW connection: three operations in one pass.

A layer of SEW-ResNet normalises the maps of a convolution over batch, time and space, feeds its
neurons with them, and combines their spikes with the block's shortcut. Done one by one, every
operation reads and writes the activations of all time steps; here one kernel does it per direction,
and only the convolution's own output is kept for the backward pass.
"""

from typing import Literal

from torch import Tensor, nn

from repro.neurons.plif import scan_plain

Connection = Literal["add", "and", "iand"]


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
    leak: Tensor | None,
    shortcut: Tensor | None = None,
    connection: Connection = "add",
) -> Tensor:
    """Return the layer's output ``[T, B, C, H, W]``, one operation after another.

    Args:
        maps: ``[T, B, C, H, W]``, or ``[1, B, C, H, W]`` for maps that are the same at every step.
        time_steps: T.
        norm: Normalisation; in training mode it updates its running statistics.
        leak: Of its neurons, see ``repro.neurons.plif.step``.
        shortcut: ``[T, B, C, H, W]``; None for spikes alone.
        connection: How spikes and shortcut combine.
    """
    current = norm(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
    spikes = scan_plain(current, time_steps, leak)
    return spikes if shortcut is None else connect(spikes, shortcut, connection)
