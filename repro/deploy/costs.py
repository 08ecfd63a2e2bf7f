"""What an inference costs: spikes, synaptic operations, memory traffic, energy estimates, memory.

A *synaptic operation* is one nonzero input value meeting one weight: an input is counted once for
every output that it reaches, at every time step at which the layer runs. Zero padding reaches
nothing; stride, dilation and groups are exact. It is an *accumulate* (AC) where the layer's input
is made of 0 and 1, that is of spikes, and a *multiply-accumulate* (MAC) where it is not: images,
frames of events, averages, sums of several spikes, the values of a ReLU. A static image passes the
first layer once, so its operations count once and not T times.

*Memory traffic* is what an event-driven machine without caches moves: a weight is read for every
synaptic operation, with the bits that it has, and each number that a neuron keeps is read and
written at every time step, in FP32.

Not counted: biases, batch normalisation, pooling, the arithmetic of the neurons, and the traffic of
inputs, spikes and addresses.

Energies are those of 32-bit floating-point arithmetic in a 45 nm process at 0.9 V: 0.9 pJ an
addition, 3.7 pJ a multiplication; and of its memories: 10 pJ to read 64 bits from a cache of 8 KB,
1.3 nJ from DRAM, the lower end of the 1.3 to 2.6 nJ given. Writing is taken to cost what reading
does. Arithmetic with weights of 1 or 2 bits needs less than that; no such saving is claimed.

References:
    M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from repro.cbp.selection import WeightLayer, find_layers
from repro.deploy.packed_inference import packed_bits
from repro.deploy.synaptic_operations import operations
from repro.errors import UserError
from repro.memory import packed_bytes
from repro.neurons.layer import NeuronLayer
from repro.neurons.observe import observed
from repro.products.dispatch import unpack
from repro.products.layer import plain_kind
from repro.products.spikes import PackedSpikes

PICOJOULE_AC: Final = 0.9
PICOJOULE_MAC: Final = 4.6
PICOJOULE_CACHE_BIT: Final = 10 / 64  # a cache of 8 KB
PICOJOULE_DRAM_BIT: Final = 1300 / 64
STATE_BYTES: Final = 4  # a membrane potential in FP32


@dataclass(frozen=True)
class LayerCost:
    """One Conv or Linear layer; numbers per inference are means over the images measured.

    Attributes:
        name: Module path.
        kind: Class of the layer.
        weights: Number of weights.
        bits: Bits per weight.
        passes: How often the layer runs per inference: T, or 1 where a static image passes once.
        low: Least input value.
        high: Greatest input value.
        spiking: Whether every input value was 0 or 1.
        nonzero: Fraction of the input values that were not 0.
        operations: Synaptic operations per inference.
        operations_at_nonzero_weights: Those of them whose weight is not 0.
        dense_operations: Synaptic operations if no input were 0.
    """

    name: str
    kind: str
    weights: int
    bits: int
    passes: float
    low: float
    high: float
    spiking: bool
    nonzero: float
    operations: float
    operations_at_nonzero_weights: float
    dense_operations: float

    @property
    def accumulates(self) -> float:
        """Operations that are an addition."""
        return self.operations if self.spiking else 0.0

    @property
    def multiply_accumulates(self) -> float:
        """Operations that are a multiplication and an addition."""
        return 0.0 if self.spiking else self.operations

    @property
    def weight_bytes_read(self) -> float:
        """Bytes of weights read per inference: one weight of its bits for every operation."""
        return self.operations * self.bits / 8


@dataclass(frozen=True)
class NeuronCost:
    """One layer of neurons.

    Attributes:
        name: Module that ran before them, or the module that they are.
        neurons: Per image.
        states: Numbers that a neuron keeps from step to step.
        rate: Spikes per neuron and time step, a fraction.
        spikes_per_neuron: Spikes per neuron and inference, ``rate * T``.
    """

    name: str
    neurons: int
    states: int
    rate: float
    spikes_per_neuron: float


@dataclass(frozen=True)
class Costs:
    """Costs of one inference, means over the images measured.

    Attributes:
        images: How many were measured.
        time_steps: T; None where no neurons were seen.
        layers: Conv and Linear layers in the order in which they ran.
        neurons: Layers of neurons in the order in which they fired.
        not_counted: Other modules with weights of two or more dimensions, and layers that no image
            reached.
    """

    images: int
    time_steps: int | None
    layers: tuple[LayerCost, ...]
    neurons: tuple[NeuronCost, ...]
    not_counted: tuple[str, ...]

    @property
    def accumulates(self) -> float:
        """ACs per inference."""
        return sum(layer.accumulates for layer in self.layers)

    @property
    def multiply_accumulates(self) -> float:
        """MACs per inference."""
        return sum(layer.multiply_accumulates for layer in self.layers)

    @property
    def picojoules(self) -> float:
        """Energy estimate per inference, pJ."""
        return PICOJOULE_AC * self.accumulates + PICOJOULE_MAC * self.multiply_accumulates

    @property
    def dense_picojoules(self) -> float:
        """Energy estimate of the same layers as an ANN: one time step, no input 0, all MACs, pJ."""
        steps = self.time_steps or 1
        per_step = (x.dense_operations / (steps if x.passes >= steps else 1) for x in self.layers)
        return PICOJOULE_MAC * sum(per_step)

    @property
    def spikes(self) -> float:
        """Spikes per inference."""
        return sum(layer.neurons * layer.spikes_per_neuron for layer in self.neurons)

    @property
    def spikes_per_neuron(self) -> float | None:
        """Spikes per neuron and inference over all neurons; None where none were seen."""
        count = sum(layer.neurons for layer in self.neurons)
        return self.spikes / count if count else None

    @property
    def weight_bytes(self) -> int:
        """Bytes of the Conv and Linear weights, quantised ones packed."""
        return sum(packed_bytes(layer.weights, layer.bits) for layer in self.layers)

    @property
    def weight_bytes_read(self) -> float:
        """Bytes of weights read per inference, each with its own bits."""
        return sum(layer.weight_bytes_read for layer in self.layers)

    def weight_bytes_read_at(self, bits: int) -> float:
        """Return bytes of weights read per inference if all weights had so many bits."""
        return sum(layer.operations for layer in self.layers) * bits / 8

    @property
    def potential_bytes_moved(self) -> int:
        """Bytes of what neurons keep, read and written at every time step of an inference."""
        return 2 * self.membrane_bytes * (self.time_steps or 0)

    @property
    def cache_picojoules(self) -> float:
        """Energy estimate of the memory traffic if all of it were with caches of 8 KB, pJ."""
        return 8 * PICOJOULE_CACHE_BIT * (self.weight_bytes_read + self.potential_bytes_moved)

    @property
    def dram_picojoules(self) -> float:
        """Energy estimate of the memory traffic if all of it were with DRAM, pJ."""
        return 8 * PICOJOULE_DRAM_BIT * (self.weight_bytes_read + self.potential_bytes_moved)

    @property
    def membrane_bytes(self) -> int:
        """Bytes of what the neurons keep from step to step for one image, in FP32."""
        return sum(layer.neurons * layer.states * STATE_BYTES for layer in self.neurons)


class _Input:
    """What a layer has seen so far: nonzero values by place, calls, range."""

    def __init__(self) -> None:
        self.counts: Tensor | None = None
        self.samples = 0
        self.low, self.high = float("inf"), float("-inf")
        self.spiking = True

    def add(self, inputs: Tensor, dims: int) -> None:
        """Add inputs ``[..., C, *space]``, ``dims`` of them those of a single sample."""
        samples = inputs.detach().reshape(-1, *inputs.shape[inputs.dim() - dims :])
        nonzero = samples != 0
        counts = nonzero.sum(0).double()
        if self.counts is not None and self.counts.shape != counts.shape:
            raise UserError(
                f"a layer saw samples of {tuple(self.counts.shape)} and of {tuple(counts.shape)}: "
                "give images of one size"
            )
        self.counts = counts if self.counts is None else self.counts + counts
        self.samples += len(samples)
        low, high = (float(value) for value in samples.aminmax())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.spiking &= bool((samples == 1).sum() == nonzero.sum())


class _Fired:
    """Spikes of a layer of neurons so far."""

    def __init__(self, states: int) -> None:
        self.states, self.spikes, self.elements = states, 0, 0
        self.binary, self.driven = True, False

    def add(self, spikes: Tensor) -> None:
        """Add spikes of any shape."""
        self.spikes += int(spikes.count_nonzero())
        self.elements += spikes.numel()


def measure(
    network: nn.Module,
    batches: Iterable[Tensor],
    *,
    time_steps: int | None = None,
    bits: Mapping[str, int] | None = None,
) -> Costs:
    """Return the costs of an inference, measured on images.

    Layers are seen by hooks, our neurons by ``repro.neurons.observe``; they may be called once for
    all time steps, or once for each. Where none of ours fire, modules are taken for neurons whose
    output is made of 0 and 1 while their input is not (spikingjelly's and snntorch's, for example).

    Args:
        network: Any network; set to evaluation mode.
        batches: Inputs of the network, ``[B, ...]``, at least one.
        time_steps: T; needed for neurons that are modules of other libraries.
        bits: Bits per weight by module path; by default those of packed weights, else their type's.

    Raises:
        UserError: No image, or neurons without T.
    """
    probe = _Probe(network)
    images = 0
    network.eval()
    with probe.attached(), torch.no_grad():
        for batch in batches:
            network(batch)
            images += len(batch)
    if not images:
        raise UserError("no image to measure: give at least one")
    return probe.costs(images, time_steps or getattr(network, "time_steps", None), bits or {})


class _Probe:
    """Hooks on every module, and what they have seen."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.layers = network, find_layers(network)
        self.inputs: dict[str, _Input] = {}
        self.fired: dict[str, _Fired] = {}
        self.modules: dict[str, _Fired] = {}
        self.steps = set[int]()

    def attached(self) -> ExitStack:
        """Return a block in which everything is seen."""
        stack = ExitStack()
        for name, module in self.network.named_modules():
            layer = self.layers.get(name)
            if layer is not None:
                hook = layer.register_forward_pre_hook(self._see_input(name), with_kwargs=True)
            elif not find_layers(module) and not isinstance(module, NeuronLayer):
                hook = module.register_forward_hook(self._see_output(name), with_kwargs=True)
            else:
                continue
            stack.callback(hook.remove)
        stack.enter_context(observed(self.network, self._see_spikes))
        return stack

    def _see_input(self, name: str) -> Any:  # noqa: ANN401
        def see(layer: WeightLayer, given: Any, named: Any) -> None:  # noqa: ANN401
            dims = 1 if isinstance(layer, nn.Linear) else 1 + len(layer.kernel_size)
            inputs = given[0] if given else named["input"]
            if isinstance(inputs, PackedSpikes):
                inputs = unpack(inputs)
                inputs = inputs.flatten(1) if dims == 1 else inputs
            self.inputs.setdefault(name, _Input()).add(inputs, dims)

        return see

    def _see_output(self, name: str) -> Any:  # noqa: ANN401
        def see(module: nn.Module, given: Any, named: Any, out: Any) -> None:  # noqa: ANN401
            inputs = given[0] if given else next(iter(named.values()), None)
            out = out[0] if isinstance(out, tuple) and out else out
            if isinstance(out, Tensor) and isinstance(inputs, Tensor):
                seen = self.modules.setdefault(name, _Fired(states=1))
                seen.add(out)
                seen.binary &= _is_binary(out)
                seen.driven |= not _is_binary(inputs)

        return see

    def _see_spikes(self, name: str, spikes: Tensor, states: int) -> None:
        self.fired.setdefault(name, _Fired(states)).add(spikes)
        self.steps.add(spikes.shape[0])

    def costs(self, images: int, time_steps: int | None, bits: Mapping[str, int]) -> Costs:
        """Return what was seen, per image."""
        if len(self.steps) == 1:
            time_steps = self.steps.pop()
        fired = self.fired or _neurons_among(self.modules)
        if fired and time_steps is None:
            raise UserError(f"{next(iter(fired))} fires, T is not known: give time_steps")
        reached = [name for name in self.inputs if self.inputs[name].samples]
        return Costs(
            images=images,
            time_steps=time_steps if fired else None,
            layers=tuple(self._layer(name, images, bits) for name in reached),
            neurons=tuple(_neurons(n, fired[n], images, time_steps or 1) for n in fired),
            not_counted=tuple(self._not_counted(set(reached))),
        )

    def _layer(self, name: str, images: int, bits: Mapping[str, int]) -> LayerCost:
        layer, seen = self.layers[name], self.inputs[name]
        assert seen.counts is not None
        done, at_nonzero = operations(layer, seen.counts)
        dense, _ = operations(layer, torch.full_like(seen.counts, seen.samples))
        weight = layer.weight
        own = packed_bits(layer) or 8 * weight.element_size()
        return LayerCost(
            name=name,
            kind=plain_kind(layer).__name__,
            weights=weight.numel(),
            bits=bits.get(name, own),
            passes=seen.samples / images,
            low=seen.low,
            high=seen.high,
            spiking=seen.spiking,
            nonzero=float(seen.counts.sum()) / (seen.samples * seen.counts.numel()),
            operations=done / images,
            operations_at_nonzero_weights=at_nonzero / images,
            dense_operations=dense / images,
        )

    def _not_counted(self, reached: set[str]) -> list[str]:
        names = [name for name in self.layers if name not in reached]
        for name, module in self.network.named_modules():
            wide = any(p.dim() > 1 for p in module.parameters(recurse=False))
            if name not in self.layers and wide:
                names.append(name)
        return names


def _is_binary(tensor: Tensor) -> bool:
    """Return whether all values are 0 or 1."""
    return bool((tensor == 1).sum() == tensor.count_nonzero())


def _neurons_among(modules: Mapping[str, _Fired]) -> dict[str, _Fired]:
    """Return the modules that are neurons.

    Of modules inside each other the outermost, where it fires as often as those in it; a pooling
    behind the neurons, for example, makes the outer one no neuron.
    """
    found = {name: seen for name, seen in modules.items() if seen.binary and seen.driven}
    chosen: dict[str, _Fired] = {}
    for name in sorted(found, key=lambda name: name.count("."), reverse=True):
        inner = [other for other in chosen if other.startswith(f"{name}.")]
        if inner and sum(chosen[other].elements for other in inner) != found[name].elements:
            continue
        for other in inner:
            del chosen[other]
        chosen[name] = found[name]
    return {name: found[name] for name in found if name in chosen}


def _neurons(name: str, seen: _Fired, images: int, time_steps: int) -> NeuronCost:
    """Return a layer of neurons, per image."""
    neurons, rest = divmod(seen.elements, images * time_steps)
    if rest:
        raise UserError(
            f"{name}: {seen.elements} outputs for {images} images are not T = {time_steps} for "
            "every neuron: give the right time_steps"
        )
    rate = seen.spikes / seen.elements
    return NeuronCost(name, neurons, seen.states, rate, rate * time_steps)
