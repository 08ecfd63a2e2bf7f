"""A NIR graph step by step, in float64: NIR's equations by forward Euler, nothing of ours."""

from graphlib import TopologicalSorter
from typing import Any

import nir
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, linear


def execute(graph: Any, inputs: Tensor) -> dict[str, Tensor]:
    """Outputs ``[T, B, ...]`` of every node, for inputs ``[T, B, C, H, W]``.

    Edges that end in a node add up. Neurons fire above their threshold. Those whose metadata say
    that they are reset by subtraction lose their threshold, all others are set to ``v_reset``.
    """
    sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for start, end in graph.edges:
        sources[end].append(start)
    order = [*TopologicalSorter(sources).static_order()]
    dt, states = float(graph.metadata["dt"]), dict[str, Any]()
    train: dict[str, list[Tensor]] = {name: [] for name in order}
    for now in inputs.double():
        for name in order:
            given = now if not sources[name] else sum(train[each][-1] for each in sources[name])
            train[name].append(output(graph.nodes[name], given, dt, states.setdefault(name, {})))
    return {name: torch.stack(steps) for name, steps in train.items()}


def output(node: Any, given: Any, dt: float, state: dict[str, Any]) -> Tensor:
    """The output of a node at one step; its state changes."""
    of = {k: torch.as_tensor(v) for k, v in vars(node).items() if hasattr(v, "dtype")}
    of = {k: v.double() if v.is_floating_point() else v for k, v in of.items()}
    if isinstance(node, nir.Input | nir.Output):
        return given
    if isinstance(node, nir.Flatten):
        return given.flatten(node.start_dim + 1, node.end_dim + 1)
    if isinstance(node, nir.Affine):
        return linear(given, of["weight"], of["bias"])
    if isinstance(node, nir.Conv2d):
        sizes = [tuple(map(int, v)) for v in (node.stride, node.padding, node.dilation)]
        return conv2d(given, of["weight"], of["bias"], *sizes, groups=int(node.groups))
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        sizes = [tuple(map(int, v)) for v in (node.kernel_size, node.stride, node.padding)]
        divisor = 1 if isinstance(node, nir.SumPool2d) else None
        return avg_pool2d(given, *sizes, divisor_override=divisor)
    first = of.get("v_init", torch.as_tensor(node.metadata.get("v_init", 0.0)).double())
    v = state.get("v", first)
    current = given
    if isinstance(node, nir.CubaLIF):
        i = state.get("i", torch.zeros_like(given))
        state["i"] = i + dt / of["tau_syn"] * (of["w_in"] * given - i)
        current = state["i"]
    slope = of["r"] * current
    if not isinstance(node, nir.IF):
        slope = (of["v_leak"] - v + slope) / of.get("tau", of.get("tau_mem"))
    v = v + dt * slope
    spikes = (v > of["v_threshold"]).double()
    reset = text(node.metadata.get("reset", ""))
    by_subtraction = reset.startswith("by subtraction")
    state["v"] = torch.where(
        spikes > 0, v - of["v_threshold"] if by_subtraction else of["v_reset"], v
    )
    return spikes


def text(value: Any) -> str:
    """A string of a file's metadata."""
    return value.decode() if isinstance(value, bytes) else str(value)
