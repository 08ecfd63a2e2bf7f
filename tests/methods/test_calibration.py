"""Conversion: threshold search against its definition, pipelines on a small ANN, errors."""

import copy

import pytest
import torch
from torch import Tensor, nn

from repro.errors import UserError
from repro.methods.calibration import (
    Pipeline,
    candidates,
    convert,
    find_threshold,
    find_threshold_plain,
    fold_batch_norm,
    folded_layers,
    quantisation_error,
    rates,
)
from repro.networks.vgg import Vgg, spiking_vgg, vgg16

NARROW = 1 / 16
STEPS = 16


def images(count: int = 20) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def ann(batch_norm: bool = False) -> Vgg:
    """A narrow VGG16 whose activations keep their size from layer to layer."""
    torch.manual_seed(0)
    network = vgg16(10, width=NARROW, batch_norm=batch_norm)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(std=(2 / module.weight[0].numel()) ** 0.5)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
                module.bias.uniform_(0, 0.5)
    return network.eval()


def scalar_error(activation: list[float], threshold: float, steps: int) -> float:
    total = 0.0
    for value in activation:
        level = min(int(value * steps / threshold), steps)
        total += (value - level * threshold / steps) ** 2
    return total / len(activation)


@pytest.mark.parametrize("steps", [1, 7, 8, 32, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threshold_search_finds_what_the_definition_finds(steps: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(steps)
    for shape in [(3, 5, 7), (1,), (40, 30, 20)]:
        activation = torch.randn(shape, dtype=dtype, generator=generator).abs_() ** 2
        activation *= torch.rand(shape, generator=generator) < 0.7
        activation.view(-1)[0] += 0.5
        found, expected = (
            function(activation, steps) for function in (find_threshold, find_threshold_plain)
        )
        assert found == pytest.approx(expected, rel=1e-12)


def test_error_of_a_threshold_is_the_scalar_formula() -> None:
    activation = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for threshold in (0.9, 0.31):
        expected = scalar_error(activation.tolist(), threshold, 8)
        assert quantisation_error(activation, threshold, 8) == pytest.approx(expected)
    best = find_threshold(activation, 8)
    tried = candidates(float(activation.max()))
    assert len(tried) == 95
    assert tried[-1] == pytest.approx(0.06 * float(activation.max()))
    assert min(tried, key=lambda v: scalar_error(activation.tolist(), v, 8)) == best


def test_folding_is_batch_norm_in_evaluation_mode() -> None:
    network = ann(batch_norm=True)
    convolution, norm = network.features[0], network.features[1]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    before = copy.deepcopy(network.state_dict())
    folded = fold_batch_norm(convolution, norm)
    torch.testing.assert_close(folded(images()), norm(convolution(images())))
    assert not torch.allclose(folded(images()), convolution(images()), atol=1e-2)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_layers_without_batch_norm_compute_the_ann(batch_norm: bool) -> None:
    network = ann(batch_norm)
    signal = images()
    for layer in folded_layers(network.features):
        signal = layer(signal).relu()
    expected = network(images())[0]
    torch.testing.assert_close(
        network.classifier(signal.flatten(1)), expected, rtol=1e-4, atol=1e-4
    )


def error(network: Vgg, pipeline: Pipeline, weight_steps: int = 30) -> float:
    """Mean square of (logits of the ANN - logits of the spiking network / T) over the ANN's."""
    batches = images().split(10)
    arguments = {"time_steps": STEPS, "weight_steps": weight_steps, "weight_lr": 3e-4}
    converted = convert(network, batches, pipeline=pipeline, **arguments).network  # type: ignore[arg-type]
    with torch.no_grad():
        expected = network(batches[0])[0]
        found = converted(batches[0]).mean(0)
    return float((found - expected).square().mean() / expected.square().mean())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_each_pipeline_comes_nearer_to_the_ann(batch_norm: bool) -> None:
    network = ann(batch_norm)
    errors = {step: error(network, step) for step in ("none", "light", "potential", "weights")}
    assert errors["light"] < errors["none"]
    assert errors["potential"] < errors["light"]
    assert errors["weights"] < errors["none"]
    assert errors["weights"] != error(network, "weights", weight_steps=0)


def test_conversion_is_deterministic_and_leaves_the_ann_alone() -> None:
    network = ann()
    before = copy.deepcopy(network.state_dict())
    batches = list(images().split(10))
    arguments = {"time_steps": STEPS, "pipeline": "weights", "weight_steps": 3}
    first, second = (convert(network, batches, **arguments) for _ in range(2))  # type: ignore[arg-type]
    assert first.thresholds == second.thresholds
    state = second.network.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in first.network.state_dict().items())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    network.train()  # dropout plays no part
    assert convert(network, batches, **arguments).thresholds == first.thresholds  # type: ignore[arg-type]
    assert all(parameter.grad is None for parameter in first.network.parameters())


@pytest.mark.parametrize("pipeline", ["light", "potential"])
def test_converted_weights_load_into_a_fresh_network(pipeline: Pipeline) -> None:
    found = convert(ann(), [images()], time_steps=STEPS, pipeline=pipeline).network
    fresh = spiking_vgg(
        10, time_steps=STEPS, width=NARROW, potentials="neuron" if pipeline == "potential" else None
    )
    fresh.load_state_dict(found.state_dict())
    assert torch.equal(fresh(images()), found(images()))
    assert all(parameter.requires_grad for parameter in found.parameters())


def test_light_makes_the_mean_activation_the_anns() -> None:
    """After the correction of the first layer, its rates have the ANN's mean by channel."""
    network = ann()
    plain, corrected = (
        convert(network, [images()], time_steps=STEPS, pipeline=step) for step in ("none", "light")
    )
    with torch.no_grad():
        target = network.features[0](images()).relu() / plain.thresholds[0]
        difference = [
            (target - rates(found.network, 0, [images().unsqueeze(0)])).mean((0, 2, 3)).abs().sum()
            for found in (plain, corrected)
        ]
    assert difference[1] < difference[0] / 2


def test_what_cannot_be_converted_is_said() -> None:
    with pytest.raises(UserError, match="give at least one batch"):
        convert(ann(), [], time_steps=STEPS)
    with pytest.raises(UserError, match="Tanh cannot be converted"):
        convert(Vgg([nn.Tanh()], nn.Linear(1, 1)), [images()], time_steps=STEPS)
    silent = ann()
    with torch.no_grad():
        for parameter in silent.features[3].parameters():
            parameter.zero_()
    with pytest.raises(UserError, match="layer 1 of the ANN is silent"):
        convert(silent, [images()], time_steps=STEPS)
