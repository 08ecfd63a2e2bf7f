"""Activations trained for few steps: what they compute, their gradient, and the conversion."""

import copy

import pytest
import torch

from repro.methods.calibration import convert, folded_layers
from repro.methods.qcfs import Qcfs, thresholds_of, train_qcfs_, with_qcfs
from repro.networks.vgg import UNITS, vgg16
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.layer import IntegrateAndFireLayer

LAYERS = len(UNITS) + 5  # convolutions and averages
STEPS = 4


def test_values_by_hand() -> None:
    """V 2, L 4: a level every 0.5, steps half-way between them, nothing below 0 or above V."""
    current = torch.tensor([-1.0, 0.24, 0.26, 0.74, 0.76, 1.9, 5.0])
    expected = torch.tensor([0.0, 0.0, 0.5, 0.5, 1.0, 2.0, 2.0])
    assert torch.equal(Qcfs(2.0, 4)(current), expected)


def test_gradient_by_hand() -> None:
    """1 inside the clip, 0 outside; V gets the level's error inside, 1 above."""
    activation = Qcfs(2.0, 4)
    current = torch.tensor([-1.0, 0.3, 1.9, 5.0], requires_grad=True)
    activation(current).sum().backward()
    assert torch.equal(current.grad, torch.tensor([0.0, 1.0, 1.0, 0.0]))  # type: ignore[arg-type]
    by_current = [0.0, 0.25 - 0.15, 1.0 - 0.95, 1.0]
    assert float(activation.threshold.grad) == pytest.approx(sum(by_current))  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_it_is_what_a_neuron_fires(steps: int) -> None:
    current = torch.empty(1000, dtype=torch.float64).uniform_(-1, 2)
    neurons = IntegrateAndFireLayer(IntegrateAndFire())
    fired = neurons(current.reshape(1, 1, -1, 1, 1).clone(), steps)
    threshold = 1.0
    activation = Qcfs(threshold, steps).double()(current)
    assert torch.equal(fired.mean(0).flatten().to(activation), activation)


def test_the_conversion_takes_the_trained_thresholds() -> None:
    """The first layer sees a constant current: its rates are the activation, level for level."""
    torch.manual_seed(0)
    ann = vgg16(10, width=1 / 16, batch_norm=True)
    ann.train()(torch.rand(20, 3, 32, 32))  # statistics of the normalisation
    thresholds = [0.5 + 0.1 * i for i in range(LAYERS)]
    trained = with_qcfs(ann, thresholds, STEPS).eval()
    assert thresholds_of(trained) == pytest.approx(thresholds)
    assert not any(isinstance(module, torch.nn.ReLU) for module in trained.features)
    images = torch.rand(2, 3, 32, 32)
    conversion = convert(trained, [images], time_steps=STEPS, pipeline="qcfs")
    assert conversion.thresholds == pytest.approx(thresholds)
    first = trained.features[2](trained.features[1](trained.features[0](images)))
    fired = conversion.network.fire(0, conversion.network.features[0](images)[None])
    torch.testing.assert_close(fired.mean(0) * thresholds[0], first, rtol=1e-5, atol=1e-6)
    assert len(folded_layers(trained.features)) == LAYERS


@torch.no_grad()
def test_neurons_are_charged_at_the_start_which_changes_when_they_fire_not_how_often() -> None:
    """Layer by layer at a constant current: as many spikes as with the shift, and earlier ones."""
    torch.manual_seed(0)
    ann = vgg16(10, width=1 / 16, batch_norm=True, dropout=0.0).eval()
    images = torch.rand(2, 3, 32, 32)
    trained = with_qcfs(ann, [0.5] * LAYERS, STEPS).eval()
    charged, plain = (
        convert(trained, [images], time_steps=STEPS, pipeline=pipeline).network
        for pipeline in ("qcfs", "none")
    )
    maps = images
    steps = torch.arange(STEPS)[:, None, None, None, None]
    earlier = []
    for layer in range(LAYERS):
        fired, late = (
            network.fire(layer, network.features[layer](maps)[None]) for network in (charged, plain)
        )
        assert (fired.sum(0) != late.sum(0)).float().mean() < 1e-3, "rounding alone"
        earlier.append(float((steps * (late - fired)).sum()))
        maps = fired.mean(0)
    assert min(earlier) >= 0
    assert sum(earlier) > 0


def test_training_learns_thresholds_and_repeats() -> None:
    torch.manual_seed(0)
    ann = with_qcfs(vgg16(10, width=1 / 16, batch_norm=True, dropout=0.0), [1.0] * LAYERS, STEPS)
    images, labels = torch.rand(20, 3, 32, 32), torch.arange(20) % 10
    said: list[list[str]] = [[], []]
    ended = []
    for lines in said:
        copied = copy.deepcopy(ann)
        train_qcfs_(copied, lambda _: [(images, labels)] * 5, 4, 0.05, lines.append)
        ended.append(copied)
    assert said[0] == said[1]
    losses = [float(line.rpartition(" ")[2]) for line in said[0]]
    assert losses[-1] < losses[0]
    assert all(value != 1.0 for value in thresholds_of(ended[0]))
    for name, tensor in ended[0].state_dict().items():
        assert torch.equal(tensor, ended[1].state_dict()[name]), name
