"""Conversion of a trained ANN into a spiking network by SNN-Calibration.

Batch norm is folded into the convolutions, a threshold is found for the neurons behind every layer,
all thresholds are scaled to 1 by the weights, and the spiking network is calibrated layer by layer
until its mean activation is the ANN's. Everything runs in pieces, so that memory holds the spikes
of one layer at a time.

References: Li et al., *A free lunch from ANN: towards efficient, accurate spiking neural networks
calibration*, ICML 2021.
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from repro.errors import UserError
from repro.methods.qcfs import Qcfs, thresholds_of
from repro.networks.vgg import AveragePool, SpikingVgg, Vgg
from repro.recipes.fields import Pipeline

AnnLayer = nn.Conv2d | AveragePool
Correction = Callable[[int, list[Tensor], Tensor], None]
"""Changes a layer of the spiking network: its number, input ``[T, b, ...]`` by piece (the images
``[1, b, ...]`` for the first layer), and the ANN's activation ``[B, ...]`` in thresholds."""

CANDIDATES: Final = 95  # thresholds tried, from the greatest activation down
CANDIDATE_STEP: Final = 0.01  # of the greatest activation
MOMENTUM: Final = 0.9  # of the running average of thresholds over batches
PIECE: Final = 8  # images of which all time steps are in memory at once
BUCKETS: Final = 1 << 14  # of the table that finds a value's place among the candidates' levels
CALIBRATION_BATCH: Final = 32  # images per step of the weight calibration


@dataclass(frozen=True)
class Conversion:
    """A converted network.

    Attributes:
        network: Its thresholds are 1.
        thresholds: What was folded into the weights: the threshold of the neurons behind each
            convolution and average in units of the ANN's activation, in order.
    """

    network: SpikingVgg
    thresholds: list[float]


@torch.no_grad()
def fold_batch_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return a convolution that computes both in evaluation mode; the arguments stay as they are.

    ``w' = w gamma / sqrt(var + eps)``, ``b' = (b - mean) gamma / sqrt(var + eps) + beta``.
    """
    assert norm.running_var is not None
    assert norm.running_mean is not None
    folded = copy.deepcopy(convolution)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = torch.zeros_like(scale) if convolution.bias is None else convolution.bias
    folded.weight.mul_(scale[:, None, None, None])
    folded.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias)
    return folded


@torch.no_grad()
def folded_layers(features: Iterable[nn.Module]) -> list[AnnLayer]:
    """Return copies of an ANN's convolutions and averages, each with a bias, batch norm folded.

    What follows each of them is a ReLU, which is left out, and so is dropout.

    Raises:
        UserError: A module of another kind, or batch norm behind no convolution.
    """
    layers: list[AnnLayer] = []
    channels = 0
    for module in features:
        if isinstance(module, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fold_batch_norm(layers[-1], module)
        elif isinstance(module, nn.Conv2d):
            layer, channels = copy.deepcopy(module), module.out_channels
            if layer.bias is None:
                layer.bias = nn.Parameter(layer.weight.new_zeros(channels))
            layers.append(layer)
        elif isinstance(module, AveragePool):
            layers.append(AveragePool(channels).to(module.factor))
            layers[-1].load_state_dict(module.state_dict(), strict=False)
        elif not isinstance(module, nn.ReLU | nn.Dropout | Qcfs):
            raise UserError(f"{type(module).__name__} cannot be converted: {module}")
    return layers


def candidates(greatest: float) -> list[float]:
    """Return the thresholds to try for an activation, greatest first."""
    return [greatest * (1.0 - CANDIDATE_STEP * i) for i in range(CANDIDATES)]


def quantisation_error(activation: Tensor, threshold: float, time_steps: int) -> float:
    """Return the mean square of ``o - floor(clamp(o T / V, 0, T)) V / T``, the definition.

    Args:
        activation: o, any shape.
        threshold: V.
        time_steps: T.
    """
    levels = (activation * (time_steps / threshold)).clamp(0, time_steps).floor()
    return float((activation - levels * (threshold / time_steps)).square().mean())


def find_threshold_plain(activation: Tensor, time_steps: int) -> float:
    """Return the candidate with the least error, trying one after another; the definition."""
    tried = candidates(float(activation.max()))
    errors = [quantisation_error(activation, threshold, time_steps) for threshold in tried]
    return tried[errors.index(min(errors))]


def find_threshold(activation: Tensor, time_steps: int) -> float:
    """Return what ``find_threshold_plain`` returns, in one pass over memory on the CPU.

    The error needs no value but its place among the levels ``k V / T`` of all candidates: with
    ``n_k`` the number and ``S_k`` the sum of the values at or above level k, N times the error is
    ``sum o^2 - 2 (V / T) sum_k S_k + (V / T)^2 sum_k (2 k - 1) n_k``.

    Args:
        activation: ANN activation behind the ReLU, any shape, some of it above 0.
        time_steps: T.
    """
    if activation.device.type != "cpu":
        return find_threshold_plain(activation, time_steps)
    from repro.neurons.cpu.integrate_and_fire import tails

    tried = torch.tensor(candidates(float(activation.max())), dtype=torch.float64)
    k = torch.arange(1, time_steps + 1, dtype=torch.float64)
    levels = tried[:, None] * k / time_steps
    edges = torch.from_numpy(np.unique(levels.numpy()))
    borders = torch.arange(-1, BUCKETS, dtype=torch.float64) * (
        edges[-1] / BUCKETS
    )  # one cell early
    first = torch.searchsorted(edges, borders)
    values = activation.detach().contiguous().flatten()
    found = tails(values.numpy(), edges.numpy(), first.numpy())
    count, total = (torch.from_numpy(part).sum(0).flip(0).cumsum(0).flip(0) for part in found)
    place = torch.searchsorted(edges, levels) + 1
    unit = tried / time_steps
    errors = unit.square() * ((2 * k - 1) * count[place]).sum(1) - 2 * unit * total[place].sum(1)
    return float(tried[errors.argmin()])


@torch.no_grad()
def find_thresholds(
    layers: Sequence[AnnLayer], batches: Sequence[Tensor], time_steps: int
) -> list[float]:
    """Return a threshold for the neurons behind every layer: running average over the batches.

    Layers are those of ``folded_layers``, batches normalised images ``[B, C, H, W]``.

    Raises:
        UserError: No batch, or a layer whose activation is 0 everywhere.
    """
    if not batches:
        raise UserError("no images to find thresholds on: give at least one batch")
    thresholds = [math.nan] * len(layers)
    for number, activation in enumerate(batches):
        for i, layer in enumerate(layers):
            activation = layer(activation).relu_()
            if not float(activation.max()) > 0:
                raise UserError(f"layer {i} of the ANN is silent on a whole batch: train it first")
            found = find_threshold(activation, time_steps)
            previous = thresholds[i] if number else found
            thresholds[i] = MOMENTUM * previous + (1 - MOMENTUM) * found if number else found
    return thresholds


@torch.no_grad()
def rescaled(
    layers: Sequence[AnnLayer], classifier: nn.Linear, thresholds: Sequence[float], time_steps: int
) -> SpikingVgg:
    """Return the spiking network with every threshold scaled to 1; the arguments stay as they are.

    ``w' = w V_before / V``, ``b' = b / V``, and the classifier's weight times the last threshold.
    The reference leaves the classifier as it is (departure Q5), which changes the logits.
    Layers are those of ``folded_layers``, with a threshold each.
    """
    features, before = copy.deepcopy(list(layers)), 1.0
    for layer, threshold in zip(features, thresholds, strict=True):
        assert layer.bias is not None
        scaled = layer.factor if isinstance(layer, AveragePool) else layer.weight
        scaled.mul_(before / threshold)
        layer.bias.div_(threshold)
        before = threshold
    last = copy.deepcopy(classifier)
    last.weight.mul_(before)
    return SpikingVgg(features, last, time_steps)


def _spikes(network: SpikingVgg, layer: int, piece: Tensor) -> Tensor:
    """Return ``[T, b, ...]`` of a layer's neurons for its input ``[T or 1, b, ...]``."""
    module, like = network.features[layer], network.classifier.weight
    current = module(piece.flatten(0, 1).to(like.dtype)).unflatten(0, (len(piece), -1))
    return network.fire(layer, current)


def rates(network: SpikingVgg, layer: int, inputs: list[Tensor]) -> Tensor:
    """Return the spikes per step ``[B, ...]``, 0 to 1, of a layer's neurons."""
    return torch.cat([_spikes(network, layer, piece).mean(0) for piece in inputs])


@torch.no_grad()
def calibrate_(
    network: SpikingVgg,
    layers: Sequence[AnnLayer],
    thresholds: Sequence[float],
    images: Tensor,
    correct: Correction,
) -> None:
    """Correct one layer of the spiking network after the other, in place.

    Every layer sees the spikes of the layers corrected before it; the ANN's side are the layers of
    ``folded_layers``, uncorrected.
    """
    activation = images
    inputs = [images[None, i : i + PIECE] for i in range(0, len(images), PIECE)]
    for i, (layer, threshold) in enumerate(zip(layers, thresholds, strict=True)):
        activation = layer(activation).relu_()
        correct(i, inputs, activation / threshold)
        for number, piece in enumerate(inputs):
            inputs[number] = _spikes(network, i, piece).to(torch.uint8)


def light(network: SpikingVgg) -> Correction:
    """Return the light pipeline: the bias takes up the mean difference to the ANN by channel."""

    def correct(layer: int, inputs: list[Tensor], target: Tensor) -> None:
        bias = network.features[layer].bias
        assert isinstance(bias, Tensor)
        bias += (target - rates(network, layer, inputs)).mean((0, 2, 3))

    return correct


def potential(network: SpikingVgg) -> Correction:
    """Return the potential calibration: initial potential = T times the mean difference."""

    def correct(layer: int, inputs: list[Tensor], target: Tensor) -> None:
        difference = (target - rates(network, layer, inputs)).mean(0, keepdim=True)
        network.register_buffer(f"potential{layer}", network.time_steps * difference)

    return correct


def charged(network: SpikingVgg) -> Correction:
    """Return what QCFS asks for: half a threshold before the first step, not spread over all steps.

    The bias gives back the neuron's shift. Both charge a neuron with half a threshold, but one that
    has to wait for it fires late, and the layers behind it see other inputs in few steps.
    """

    def correct(layer: int, inputs: list[Tensor], target: Tensor) -> None:
        bias = network.features[layer].bias
        assert isinstance(bias, Tensor)
        bias -= network.neuron.shift(network.time_steps)
        half = target.new_full((1, 1, 1, 1), network.neuron.threshold / 2)
        network.register_buffer(f"potential{layer}", half)

    return correct


def weights(network: SpikingVgg, thresholds: Sequence[float], steps: int, lr: float) -> Correction:
    """Return the weight calibration: Adam on a layer's squared difference to the ANN.

    The spiking activation is ``floor(clamp(T z + 1/2, 0, T)) / T`` of the current z that the mean
    input gives, which is what the neuron with its half-threshold shift fires at a constant current;
    the floor is straight through. The reference leaves out the half. The learning rate falls to 0
    as a cosine.

    Args:
        network: Spiking network.
        thresholds: One per layer; they turn the learning rate into this network's units.
        steps: Of Adam, per convolution.
        lr: In units of the ANN's weights.

    References:
        Li et al., ICML 2021, Section 4.3.
    """
    before = [1.0, *thresholds]

    def correct(layer: int, inputs: list[Tensor], target: Tensor) -> None:
        module = network.features[layer]
        if not isinstance(module, nn.Conv2d) or module.groups > 1:
            return  # an average has no weights to calibrate
        mean_input = torch.cat([piece.to(target.dtype).mean(0) for piece in inputs])
        scaled_lr = lr * before[layer] / before[layer + 1]
        _fit_(module, mean_input, target, network.time_steps, steps, scaled_lr)

    return correct


@torch.enable_grad()
def _fit_(
    layer: nn.Conv2d, inputs: Tensor, target: Tensor, time_steps: int, steps: int, lr: float
) -> None:
    """Fit the layer's weight so that its rates at ``inputs`` are ``target``; both ``[B, ...]``."""
    optimiser = torch.optim.Adam([layer.weight], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randperm(len(inputs), generator=generator)[:CALIBRATION_BATCH]
        charge = (time_steps * layer(inputs[chosen]) + 0.5).clamp(0, time_steps)
        fired = charge + (charge.floor() - charge).detach()
        loss = (fired / time_steps - target[chosen]).square().sum(1).mean()
        (layer.weight.grad,) = torch.autograd.grad(loss, [layer.weight])
        optimiser.step()
        schedule.step()
    layer.weight.grad = None


def convert(
    ann: Vgg,
    batches: Sequence[Tensor],
    *,
    time_steps: int,
    pipeline: Pipeline = "light",
    weight_steps: int = 5000,
    weight_lr: float = 1e-5,
) -> Conversion:
    """Return the spiking network of a trained ANN, which stays as it is.

    Args:
        ann: Trained; evaluation mode is not needed. One with QCFS has thresholds of its own.
        batches: Training images ``[B, C, H, W]``, normalised; all of them serve the thresholds, the
            first one the calibration.
        time_steps: T.
        pipeline: ``none`` has thresholds only; ``light`` corrects biases; ``potential`` does so and
            then sets initial potentials; ``weights`` fits weights and then sets initial potentials
            (the advanced pipeline); ``qcfs``, of an ANN with QCFS, charges the neurons.
        weight_steps: Of Adam per layer; only for ``weights``.
        weight_lr: Of Adam, in units of the ANN's weights; only for ``weights``.

    Raises:
        UserError: No batch, a silent layer, or a module that cannot be converted.
    """
    layers = folded_layers(ann.features)
    thresholds = thresholds_of(ann) or find_thresholds(layers, batches, time_steps)
    network = rescaled(layers, ann.classifier, thresholds, time_steps)
    steps: dict[Pipeline, list[Correction]] = {
        "none": [],
        "qcfs": [charged(network)],
        "light": [light(network)],
        "potential": [light(network), potential(network)],
        "weights": [weights(network, thresholds, weight_steps, weight_lr), potential(network)],
    }
    for correct in steps[pipeline]:
        calibrate_(network, layers, thresholds, batches[0], correct)
    return Conversion(network, thresholds)
