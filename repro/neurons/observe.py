"""Spikes of a network's neurons while it runs, seen by forward hooks; nothing else changes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from repro.neurons.layer import NeuronLayer

See = Callable[[str, Tensor, int], None]
NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@contextmanager
def observed(network: nn.Module, see: See) -> Iterator[None]:
    """Call ``see(name, spikes, states)`` whenever neurons of the network fire in this block.

    Args:
        network: Any network; neurons that are no `NeuronLayer` are not seen.
        see: Gets the module that ran before the neurons, by name (``input`` if there is none), the
            spikes ``[T, B, ...]``, which it must not change, and how many numbers a neuron keeps
            from step to step.
    """
    last = "input"

    def note(name: str) -> Callable[..., None]:
        def after(*_: Any) -> None:  # noqa: ANN401  (a hook's arguments)
            nonlocal last
            last = name

        return after

    def show(layer: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        with torch.no_grad():
            seen = output.detach() if isinstance(output, Tensor) else output
            see(last, layer.spikes(seen, *inputs), layer.states)

    with ExitStack() as stack:
        for name, module in network.named_modules():
            for layer in (module, *vars(module).values()):  # some are not registered as children
                if isinstance(layer, NeuronLayer):
                    stack.callback(layer.register_forward_hook(show).remove)
            inner = {child for child, _ in module.named_children()} - {"parametrizations"}
            is_layer = not inner and "parametrizations" not in name.split(".")
            if is_layer and not isinstance(module, NeuronLayer | NORMS):
                stack.callback(module.register_forward_hook(note(name)).remove)
        yield
