"""SNN-Calibration against the reference's numbers, from folding to the gradients of CBP."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from paths import GOLDEN
from torch import Tensor, nn

from repro.cbp.layers import prepare
from repro.methods.calibration import (
    calibrate_,
    convert,
    find_thresholds,
    folded_layers,
    light,
    potential,
    rescaled,
)
from repro.networks.vgg import AveragePool, SpikingVgg, Vgg

EXACT = {"rtol": 1e-9, "atol": 1e-10}
CASES = ["T8_bn", "T32_nobn"]
BATCH = 16
WIDTHS = (3, 8, 12, 16)


def load(case: str) -> dict[str, Tensor]:
    path = GOLDEN / f"snn_calibration_{case}.npz"
    with np.load(path, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, **EXACT)


def differs(actual: Tensor, expected: Tensor) -> bool:
    return float((actual - expected).abs().max()) > 1e-3


def average(channels: int) -> nn.Conv2d:
    """The reference's 2x2 average: a depthwise convolution."""
    return nn.Conv2d(channels, channels, 2, stride=2, groups=channels, bias=False)


def ann_of(golden: dict[str, Tensor], case: str) -> Vgg:
    features: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
        features.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        features += [nn.BatchNorm2d(outputs)] if case.endswith("_bn") else []
        features.append(nn.ReLU())
        # The average is followed by a ReLU, which does nothing to it and has no number there.
        features += [average(outputs)] if i < 2 else []
    ann = Vgg(features, nn.Linear(64, 4)).double().eval()
    prefix = "ann."
    ann.load_state_dict({k.removeprefix(prefix): v for k, v in golden.items() if prefix in k})
    return ann


def average_pools(ann: Vgg) -> Vgg:
    """The same network with ``AveragePool``."""
    features = [
        AveragePool().double() if isinstance(module, nn.Conv2d) and module.groups > 1 else module
        for module in ann.features
    ]
    return Vgg(features, ann.classifier).eval()


def summed(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network(images).sum(0)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def golden(case: str) -> dict[str, Tensor]:
    return load(case)


@pytest.fixture
def ann(golden: dict[str, Tensor], case: str) -> Vgg:
    return ann_of(golden, case)


def converted(golden: dict[str, Tensor], ann: Vgg, pipeline: str) -> SpikingVgg:
    batches = golden["X"].split(BATCH)
    steps = int(golden["T"])
    return convert(ann, batches, time_steps=steps, pipeline=pipeline).network  # type: ignore[arg-type]


def test_ann_and_folding(golden: dict[str, Tensor], ann: Vgg, case: str) -> None:
    close(summed(ann, golden["X"]), golden["ann_out"])
    folded = [module for layer in folded_layers(ann.features) for module in (layer, nn.ReLU())]
    close(summed(Vgg(folded, ann.classifier), golden["X"]), golden["folded_out"])
    if case.endswith("_bn"):
        assert not torch.equal(folded[0].weight, ann.features[0].weight)


def test_thresholds(golden: dict[str, Tensor], ann: Vgg) -> None:
    layers, steps = folded_layers(ann.features), int(golden["T"])
    found = find_thresholds(layers, golden["X"].split(BATCH), steps)
    close(torch.tensor(found, dtype=torch.float64), golden["thresholds_mse"])
    one_batch = find_thresholds(layers, golden["X"].split(BATCH)[:1], steps)
    assert differs(torch.tensor(one_batch, dtype=torch.float64), golden["thresholds_mse"])


def test_outputs_of_the_pipelines(golden: dict[str, Tensor], ann: Vgg) -> None:
    uncalibrated = summed(converted(golden, ann, "none"), golden["X"])
    calibrated = summed(converted(golden, ann, "light"), golden["X"])
    close(uncalibrated, golden["snn_out_uncalibrated"])
    close(calibrated, golden["snn_out_light"])
    assert differs(uncalibrated, calibrated)


def test_rescaled_weights_and_biases(golden: dict[str, Tensor], ann: Vgg) -> None:
    network = converted(golden, ann, "light")
    for i, layer in enumerate(network.features):
        close(layer.weight.detach(), golden[f"w_rescaled{i}"])
        close(layer.bias.detach() * golden["thresholds_mse"][i], golden[f"bias_light{i}"])


def test_the_classifier_is_rescaled_where_the_reference_leaves_it(
    golden: dict[str, Tensor], ann: Vgg
) -> None:
    network = converted(golden, ann, "light")
    assert differs(golden["snn_out_rescaled"], golden["snn_out_light"])
    close(summed(network, golden["X"]), golden["snn_out_light"])
    network.classifier.load_state_dict(ann.classifier.state_dict())
    close(summed(network, golden["X"]), golden["snn_out_rescaled"])


def test_initial_potentials(golden: dict[str, Tensor], ann: Vgg) -> None:
    network = converted(golden, ann, "potential")
    for i, threshold in enumerate(golden["thresholds_mse"]):
        found = network.potential(i)
        assert found is not None
        close(found * threshold, golden[f"mempot{i}"])
    assert differs(summed(network, golden["X"]), golden["snn_out_light"])


def test_potentials_follow_the_layers_corrected_before(golden: dict[str, Tensor], ann: Vgg) -> None:
    """The twin: potentials found one layer at a time on the network without any are others."""
    layers, steps = folded_layers(ann.features), int(golden["T"])
    thresholds = golden["thresholds_mse"].tolist()
    network = rescaled(layers, ann.classifier, thresholds, steps)
    calibrate_(network, layers, thresholds, golden["X"][:BATCH], light(network))

    def forget(layer: int, inputs: list[Tensor], target: Tensor) -> None:
        potential(network)(layer, inputs, target)
        found[layer] = network._buffers.pop(f"potential{layer}")

    found: dict[int, Any] = {}
    calibrate_(network, layers, thresholds, golden["X"][:BATCH], forget)
    close(found[0] * thresholds[0], golden["mempot0"])
    assert differs(found[2] * thresholds[2], golden["mempot2"])


def test_average_pool_is_the_depthwise_convolution(golden: dict[str, Tensor], ann: Vgg) -> None:
    plain = average_pools(ann)
    for pipeline in ("light", "potential"):
        network, expected = converted(golden, plain, pipeline), converted(golden, ann, pipeline)
        assert isinstance(network.features[1], AveragePool)
        close(summed(network, golden["X"]), summed(expected, golden["X"]))
        for i in (1, 3):
            average, convolution = network.features[i], expected.features[i]
            close(average.factor.expand(convolution.weight.shape) / 4, convolution.weight.detach())
            close(average.bias, convolution.bias.detach())


class RectifiedAverage(nn.Conv2d):
    """The average of the reference's quantised network, which keeps the ANN's ReLU inside."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps).relu() + 0  # relu keeps its result, neurons overwrite it


def quantised(
    golden: dict[str, Tensor], ann: Vgg, precision: str, average: type[nn.Conv2d]
) -> SpikingVgg:
    light = converted(golden, ann, "light")
    features: list[nn.Module] = []
    for layer in light.features:
        assert isinstance(layer, nn.Conv2d)
        if layer.groups > 1:
            twin = average(layer.in_channels, layer.in_channels, 2, 2, groups=layer.groups).double()
            twin.load_state_dict(layer.state_dict())
            features.append(twin)
        else:
            features.append(layer)
    network = SpikingVgg(features, ann.classifier, int(golden["T"]))
    assert len(prepare(network, {"bin": "binary", "ter": "ternary"}[precision])) == 4
    return network


@pytest.mark.parametrize("precision", ["bin", "ter"])
def test_quantised_network_and_its_gradients(
    golden: dict[str, Tensor], ann: Vgg, precision: str
) -> None:
    """The averages are quantised too, which changes nothing: their weights are all alike."""
    network = quantised(golden, ann, precision, RectifiedAverage)
    output = network(golden["X"][:BATCH]).sum(0)
    loss = nn.functional.cross_entropy(output, torch.arange(BATCH) % 4)
    close(output.detach(), golden[f"{precision}_out"])
    close(loss.detach(), golden[f"{precision}_loss"])
    loss.backward()
    for i, layer in enumerate(network.features):
        chain: Any = getattr(layer, "parametrizations", None)
        latent = chain["weight"].original if chain else layer.weight
        close(latent.grad, golden[f"{precision}_gw{i}"])
        assert float(latent.grad.abs().max()) > 1e-6, "no gradient proves nothing"


@pytest.mark.parametrize("precision", ["bin", "ter"])
def test_without_the_relu_the_reference_keeps_in_its_averages(precision: str) -> None:
    """Ours has none there; it matters where a negative bias meets no spike."""
    golden = load("T32_nobn")
    network = quantised(golden, ann_of(golden, "T32_nobn"), precision, nn.Conv2d)
    assert differs(summed(network, golden["X"][:BATCH]), golden[f"{precision}_out"])
