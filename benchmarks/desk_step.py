"""A training step of the desk tier's networks on real images, at the firing rates of training.

``python -m benchmarks.desk_step --model model:stbp-cifar10-fp32-desk-s0`` takes a trained FP32
parent that ships (`repro.run.models`), prints the firing rate behind each layer, and measures a
step of the FP32 control and of CBP, as they are by default and with spikes counted and events
(``matmul=events``, ``cbp.arithmetic=codes``), in turns. ``--method tssl_bp`` trains a network of
its own for some steps first. Printed are ratios of rounds, by the clock and by processor time,
which other work on the machine changes less; which part of the dense step its products take,
computed once more in the same rounds; how each layer chose; which part of the gradient at each
layer's output is not 0, which says whether an input gradient by events could pay; and, as a
roofline, operations per second as if every product were dense, against those of a large matrix
product.

Where spikingjelly is installed, the FP32 control is timed with its neurons, too, all time steps in
one call: same layers, same numbers, no CBP.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from benchmarks.device import operations, reachable
from benchmarks.measure import environment, interleaved, paired_ratio
from benchmarks.rates import firing_rates
from repro import packing
from repro.build import make_data
from repro.cbp.layers import find_layers, prepare
from repro.cbp.loop import CbpLoop
from repro.cbp.settings import Arithmetic
from repro.cells import RunKey, find_cell
from repro.methods.base import SpikingModule
from repro.networks.conv7fc3 import StbpNetwork
from repro.networks.vgg import SpikingVgg
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.layer import FeedForwardLayer
from repro.neurons.scan import Neuron
from repro.neurons.stbp import StbpNeuron
from repro.products.dense import convolve, input_gradient, weight_gradient
from repro.products.geometry import geometry_of
from repro.products.layer import Form
from repro.recipes.fields import Matmul
from repro.recipes.shipped import find_recipe
from repro.recipes.spec import RunSpec
from repro.results.rows import read_row
from repro.run.arithmetic import ways_of
from repro.run.models import ROWS, model_file
from repro.run.training import make_module, quiet_lightning

METHODS: Final = ("stbp", "tssl_bp")
FORMS: Final[dict[str, tuple[Arithmetic | None, Matmul]]] = {
    "FP32 control": (None, "float32"),
    "FP32 control, events": (None, "events"),
    "binary": ("float32", "float32"),
    "binary, codes and events": ("codes", "events"),
}
BEFORE: Final = {"FP32 control, events": "FP32 control", "binary, codes and events": "binary"}
PEER: Final = "spikingjelly"
PRODUCTS: Final = ("forward", "weight gradient", "input gradient")
Batches = list[tuple[Tensor, Tensor]]


class SpikingJellyLayer(FeedForwardLayer):
    """spikingjelly's multi-step neurons, torch backend, in place of ours."""

    def __init__(self, neuron: Neuron) -> None:
        """Take the constants of integrate-and-fire neurons or of STBP's."""
        from spikingjelly.activation_based import neuron as nodes
        from spikingjelly.activation_based import surrogate

        super().__init__(neuron)
        common = {"v_threshold": neuron.threshold, "step_mode": "m"}
        if isinstance(neuron, IntegrateAndFire):
            arctan = surrogate.ATan(alpha=neuron.alpha)
            self.node = nodes.IFNode(**common, v_reset=None, surrogate_function=arctan)
            return
        assert isinstance(neuron, StbpNeuron)
        self.node = nodes.LIFNode(
            **common,
            tau=1 / (1 - neuron.decay),
            decay_input=False,
            v_reset=0.0,
            surrogate_function=surrogate.Rect(alpha=1 / (2 * neuron.half_width)),
        )

    def forward(
        self,
        current: Tensor,
        time_steps: int,
        form: Form | None = None,
        *,
        gain: float = 1.0,
        initial: Tensor | None = None,
    ) -> Tensor:
        """Return the spikes ``[T, B, ...]``; arguments as of ours, ``form`` and ``gain`` unused."""
        self.node.reset()
        if initial is not None:
            self.node.v = initial.expand_as(current[0]).clone()
        spikes: Tensor = self.node(current.expand(time_steps, *current.shape[1:]))
        return spikes


@torch.no_grad()
def use_spikingjelly(network: nn.Module) -> None:
    """Put spikingjelly's neurons in the place of a network's own.

    Integrate-and-fire neurons of ours add a shift at every step; here the biases have it.

    Raises:
        TypeError: Neither STBP's network nor VGG16.
    """
    if isinstance(network, StbpNetwork):
        vars(network)["fire"] = SpikingJellyLayer(network.neuron)
    elif isinstance(network, SpikingVgg):
        network._modules["neurons"] = SpikingJellyLayer(network.neuron)
        for layer in network.features:
            assert isinstance(layer.bias, Tensor)
            layer.bias += network.neuron.shift(network.time_steps)
    else:
        raise TypeError(f"{type(network).__name__} has no neurons that {PEER} has, too")


class Step:
    """A module, its optimiser, and CBP around its steps.

    Attributes:
        module: Of the run.
    """

    def __init__(
        self,
        spec: RunSpec,
        classes: int,
        state: dict[str, Tensor] | None,
        form: tuple[Arithmetic | None, Matmul],
    ) -> None:
        """Do what a run does before its first batch.

        Args:
            spec: The run.
            classes: K.
            state: Weights; None for fresh ones.
            form: Arithmetic of CBP, None for none, and of all other products.
        """
        arithmetic, matmul = form
        recipe = replace(spec.recipe, matmul=matmul)
        self.module: SpikingModule = make_module(RunSpec(spec.key, recipe), classes, parent=None)
        if state is not None:
            self.module.network.load_state_dict(state)
        if arithmetic:
            prepare(self.module, arithmetic=arithmetic)
        (self._optimiser,), _ = self.module.configure_optimizers()
        settings = replace(recipe.cbp, arithmetic=arithmetic or "float32")
        self._cbp = CbpLoop(self.module, settings, self._optimiser) if arithmetic else None

    def forward_and_backward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Leave gradients on the parameters; return the loss."""
        loss = self.module.training_step(batch, 0)
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        return loss

    def step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Take one step."""
        loss = self.forward_and_backward(batch)
        if self._cbp is not None:
            self._cbp.before_step()
        self._optimiser.step()
        if self._cbp is not None:
            self._cbp.after_step(loss)


def seen_by_layers(step: Step, batch: tuple[Tensor, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the input and the gradient at the output of each layer, by its name."""
    inputs, found = dict[str, Tensor](), dict[str, tuple[Tensor, Tensor]]()

    def watch(name: str, given: Tensor, output: Tensor) -> None:
        def see(grad: Tensor) -> None:
            found[name] = inputs[name], grad.detach()

        inputs[name] = given.detach()
        output.register_hook(see)  # type: ignore[no-untyped-call]

    hooks = [
        layer.register_forward_hook(lambda _, given, out, name=name: watch(name, given[0], out))
        for name, layer in find_layers(step.module.network).items()
    ]
    step.forward_and_backward(batch)
    for hook in hooks:
        hook.remove()
    return found


def gradients_not_zero(step: Step, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Return the part of the gradient at each layer's output that is not 0, by the layer's name."""
    return {
        name: float((grad != 0).double().mean())
        for name, (_, grad) in seen_by_layers(step, batch).items()
    }


def dense_products(step: Step, batch: tuple[Tensor, Tensor]) -> dict[str, Callable[[], object]]:
    """Return calls that compute the dense products of a step again, all layers', by kind.

    Those of the first layer, whose input is an image, are left out.
    """
    layers = find_layers(step.module.network)
    kinds: dict[str, list[Callable[[], object]]] = {kind: [] for kind in PRODUCTS}
    for name, pair in seen_by_layers(step, batch).items():
        layer, geometry = layers[name], geometry_of(layers[name])
        assert isinstance(layer.weight, Tensor)
        assert geometry is not None
        if name == next(iter(layers)):
            continue
        numbers, grad, weight = (
            tensor if tensor.dim() == 4 else tensor[..., None, None]
            for tensor in (*pair, layer.weight.detach())
        )
        shapes = tuple(weight.shape), tuple(numbers.shape)
        calls: tuple[Callable[[], object], ...] = (
            partial(convolve, numbers, weight, None, geometry),
            partial(weight_gradient, grad, numbers, geometry, shapes[0]),
            partial(input_gradient, grad, weight, geometry, shapes[1]),
        )
        for kind, call in zip(PRODUCTS, calls, strict=True):
            kinds[kind].append(call)
    return {kind: lambda calls=calls: [call() for call in calls] for kind, calls in kinds.items()}  # type: ignore[misc]


def batches_of(spec: RunSpec, count: int) -> tuple[int, Batches]:
    """Return the number of classes, and training batches as the module gets them."""
    data = make_data(replace(spec.recipe, batch_size=spec.batch_size), 0, None)
    data.setup("fit")
    found: Batches = []
    for batch in data.training_batches():
        images, labels = data.on_after_batch_transfer(tuple(batch), 0)
        found.append((images, labels))
        if len(found) == count:
            break
    return data.classes, found


def measure(method: str, model: str | None, steps: int, repeats: int) -> dict[str, object]:
    """Return all figures of a model that ships, or of a method's network on CIFAR-10."""
    cell, state = find_cell(method, "cifar10"), None
    if model is not None:
        file = model_file(model)
        cell, steps = read_row(ROWS / f"{file.stem}.json").key.cell, 0
        state, _ = packing.unpack(file)
    keys = {name: RunKey(cell, name, 0, "desk") for name in ("fp32", "fp32_control", "binary")}
    specs = {name: RunSpec(key, find_recipe(cell, "desk")) for name, key in keys.items()}
    classes, batches = batches_of(specs["binary"], 20)
    trains = specs["fp32" if steps else "fp32_control"]  # a conversion trains no spiking network
    parent = Step(trains, classes, state, (None, "float32"))
    for i in range(steps):
        parent.step(batches[i % len(batches)])
    state = {name: tensor.clone() for name, tensor in parent.module.network.state_dict().items()}
    rates = firing_rates(parent.module.network, batches[0][0])
    made = {
        name: Step(specs["binary" if form[0] else "fp32_control"], classes, state, form)
        for name, form in FORMS.items()
    }
    peer = find_spec(PEER) is not None and cell.method in ("stbp", "snn_calibration")
    if peer:
        made[PEER] = Step(specs["fp32_control"], classes, state, (None, "float32"))
        use_spikingjelly(made[PEER].module.network)
    flop = operations(lambda: parent.forward_and_backward(batches[0]))
    calls: dict[str, Callable[[], object]] = {
        name: lambda one=one: one.step(batches[0])  # type: ignore[misc]
        for name, one in made.items()
    }
    wall = interleaved(calls, repeats)
    calls |= dense_products(made["FP32 control"], batches[0])
    processor = interleaved(calls, repeats, clock=time.process_time)
    dense = processor["FP32 control"]
    best = {name: min(rounds) for name, rounds in wall.items()}
    peak = reachable()
    return {
        "network": model or method,
        "steps trained before": steps,
        "batch": len(batches[0][1]),
        "spikes per neuron and step": rates,
        "part of the gradient not 0": gradients_not_zero(parent, batches[0]),
        "seconds of a step, least": best,
        "part of the dense step, by processor time": {
            kind: statistics.median(
                part / whole for part, whole in zip(processor[kind], dense, strict=True)
            )
            for kind in PRODUCTS
        },
        "times faster, by the clock": {
            name: paired_ratio(wall[before], wall[name])._asdict()
            for name, before in BEFORE.items()
        },
        "times faster, by processor time": {
            name: paired_ratio(processor[before], processor[name])._asdict()
            for name, before in BEFORE.items()
        },
        "times as fast as spikingjelly": {
            name: paired_ratio(wall[PEER], wall[name])._asdict() for name in FORMS if peer
        },
        "versions": {PEER: version(PEER)} if peer else {},
        "ways chosen": {name: ways_of(one.module.network) for name, one in made.items()},
        "roofline": {
            "FLOP of a step, all products dense": flop,
            "FLOP/s of a matrix product": peak,
            "share of it": {name: flop / seconds / peak for name, seconds in best.items()},
        },
    }


def main() -> int:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--method", choices=METHODS, default="stbp", help="trains a network first")
    network.add_argument("--model", help="a trained parent, model:NAME of python -m repro models")
    parser.add_argument("--steps", type=int, default=100, help="trained first, without --model")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_flush_denormal(True)
    quiet_lightning()
    result = {
        "environment": environment(),
        "desk step": measure(chosen.method, chosen.model, chosen.steps, chosen.repeats),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
