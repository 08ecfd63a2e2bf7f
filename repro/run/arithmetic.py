"""In which arithmetic matrix products are computed; sums, neurons and weights are float32 always.

A recipe's ``matmul`` is ``float32`` exactly, unless it says otherwise: TF32, which PyTorch allows
convolutions on a GPU by default, is then switched off. ``bf16`` is for inner layers alone.

An ANN's gradients are hardly moved by it. A spiking network's are: a weight that is rounded flips
spikes, and every flip moves all later layers (``tests/run/test_arithmetic.py``: as much as weights
rounded to bfloat16 do, and TF32 little less). The network that then trains is another one, not a
wrong one, and its validation accuracy says whether it is as good. Nothing is rounded in the CBP
phase with ``spikes_bf16``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from repro.cbp.layers import choose_layers
from repro.networks.convolution import UnfoldedConv2d
from repro.products.layer import ProductLayer, SpikeLayer, event_kind, like, replace_
from repro.recipes.fields import Matmul


def use(network: nn.Module, matmul: Matmul) -> None:
    """Choose the arithmetic of a network's products, and of all others in this process on a GPU.

    Args:
        network: Its convolutions and linear layers but the first and the last compute in bfloat16,
            weights rounded to it, products summed in float32, and their results are float32 again.
            With ``cbp.arithmetic = spikes_bf16`` the prepared layers compute in that way instead.
        matmul: ``float32``, ``tf32`` (on a GPU; elsewhere float32), ``bf16``, or ``events``: the
            same layers touch spikes alone where that is faster (on the CPU; elsewhere float32).
    """
    allow_tf32(matmul == "tf32")
    # By default parts of a long sum may be rounded to bfloat16, which spikes_bf16 does not stand.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    if matmul == "bf16":
        for layer in choose_layers(network).values():
            replace_(network, layer, like(layer, IN_BF16[type(layer)]))
    if matmul == "events":
        for layer in choose_layers(network).values():
            if (kind := event_kind(layer)) is not None:
                replace_(network, layer, like(layer, kind))


class Bf16Layer(SpikeLayer):
    """A layer that computes in bfloat16 what its other class does, and takes its spikes in it."""

    form = torch.bfloat16
    computes_as_torch = True

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output in float32."""
        with torch.autocast(inputs.device.type, torch.bfloat16):
            result: Tensor = super().forward(inputs)
        return result.float()


class Bf16Conv1d(Bf16Layer, nn.Conv1d):
    """A convolution over one axis."""


class Bf16Conv2d(Bf16Layer, nn.Conv2d):
    """A convolution over two axes."""


class Bf16UnfoldedConv2d(Bf16Layer, UnfoldedConv2d):
    """A convolution over two axes that is one matrix product."""


class Bf16Conv3d(Bf16Layer, nn.Conv3d):
    """A convolution over three axes."""


class Bf16Linear(Bf16Layer, nn.Linear):
    """A linear layer."""


IN_BF16: Final[dict[type[nn.Module], type[Bf16Layer]]] = {
    nn.Conv1d: Bf16Conv1d,
    nn.Conv2d: Bf16Conv2d,
    UnfoldedConv2d: Bf16UnfoldedConv2d,
    nn.Conv3d: Bf16Conv3d,
    nn.Linear: Bf16Linear,
}


def allow_tf32(allowed: bool) -> None:
    """Let products of float32 tensors on a GPU be computed in TF32, or not."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def exact() -> Iterator[None]:
    """Compute in float32 within the block, whatever a recipe has chosen for training."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    allow_tf32(False)
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def ways_of(network: nn.Module) -> dict[str, dict[str, int]]:
    """Return how often layers computed products of spikes in a way in this process, by layer.

    Keys inside are ``forward, events``, ``weight gradient, dense`` and so on; only layers that had
    a choice are named.
    """
    return {
        name: {", ".join(which): count for which, count in sorted(module.chosen.items())}
        for name, module in network.named_modules()
        if isinstance(module, ProductLayer) and module.chosen
    }
