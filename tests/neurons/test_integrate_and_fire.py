"""The integrate-and-fire neuron: scan against the plain definition, that against an oracle."""

import math

import pytest
import torch
from torch import Tensor

from repro.neurons.integrate_and_fire import IntegrateAndFire, scan_plain
from repro.neurons.scan import integrate_and_fire as scan
from repro.neurons.surrogate import arctan_slope, arctan_spike

NEURON = IntegrateAndFire()
STEPS = 6


def oracle(currents: list[float], threshold: float, initial: float) -> list[float]:
    potential, train = initial, []
    for current in currents:
        potential += current + threshold / (2 * len(currents))
        spike = float(potential >= threshold)
        potential -= threshold * spike
        train.append(spike)
    return train


def oracle_gradient(currents: list[float], weights: list[float], threshold: float) -> list[float]:
    """dL/dcurrent of ``L = sum weights * spikes``, from the chain rule written out."""
    potential, slopes = 0.0, []
    for current in currents:
        potential += current + threshold / (2 * len(currents))
        slopes.append(1 / (1 + (math.pi * (potential - threshold)) ** 2))
        potential -= threshold * (potential >= threshold)
    gradients, later = [0.0] * len(currents), 0.0
    for t in reversed(range(len(currents))):
        later = (weights[t] - threshold * later) * slopes[t] + later
        gradients[t] = later
    return gradients


@pytest.mark.parametrize("threshold", [1.0, 0.7])
def test_plain_scan_matches_the_scalar_oracle(threshold: float) -> None:
    generator = torch.Generator().manual_seed(0)
    current = torch.rand(7, 50, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(7, 50, dtype=torch.float64, generator=generator)
    neuron = IntegrateAndFire(threshold)
    spikes = scan_plain(current, 7, neuron)
    (grad,) = torch.autograd.grad((spikes * weight).sum(), current)
    for i in range(50):
        column = current[:, i].tolist()
        assert spikes[:, i].tolist() == oracle(column, threshold, 0.0)
        expected = oracle_gradient(column, weight[:, i].tolist(), threshold)
        torch.testing.assert_close(grad[:, i].tolist(), expected)
    assert 0 < spikes.mean() < 1
    started = scan_plain(current, 7, neuron, torch.full((50,), 0.3, dtype=torch.float64))
    assert started[:, 0].tolist() == oracle(current[:, 0].tolist(), threshold, 0.3)
    assert not torch.equal(started, spikes)


def test_rate_is_the_rounded_current() -> None:
    """The half-threshold shift turns the floor into rounding: why it is there."""
    current = torch.rand(1, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    rate = scan_plain(current, 32, NEURON).mean(0)
    torch.testing.assert_close(rate, (current[0] * 32 + 0.5).floor() / 32)


def test_spike_is_at_the_threshold_and_its_slope_is_an_arctans() -> None:
    potential = torch.tensor([0.9, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    spikes = arctan_spike(potential, 1.0)
    assert spikes.tolist() == [0, 1, 1]
    (grad,) = torch.autograd.grad(spikes.sum(), potential)
    x = (potential.detach() - 1).requires_grad_()
    (expected,) = torch.autograd.grad((torch.atan(math.pi * x) / math.pi).sum(), x)
    torch.testing.assert_close(grad, expected)
    torch.testing.assert_close(arctan_slope(torch.zeros(1), alpha=4.0), torch.tensor([2.0]))


def maps(dtype: torch.dtype, constant: bool, layout: torch.memory_format) -> Tensor:
    images = torch.randn(2 if constant else STEPS * 2, 5, 31, 33, dtype=dtype) / 2
    images = images.contiguous(memory_format=layout)
    return images.unflatten(0, (1 if constant else STEPS, 2)).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("start", [False, True])
def test_scan_equals_plain_scan(
    dtype: torch.dtype, constant: bool, layout: torch.memory_format, start: bool
) -> None:
    torch.manual_seed(1)
    current = maps(dtype, constant, layout)
    initial = torch.randn(1, 5, 31, 33, dtype=dtype, requires_grad=True)
    weight = torch.randn(STEPS, 2, 5, 31, 33, dtype=dtype)
    neuron, results = IntegrateAndFire(0.75, alpha=3.0), []
    for function in (scan, scan_plain):
        spikes = function(current, STEPS, neuron, initial if start else None)
        inputs = [current, initial] if start else [current]
        results.append((spikes, *torch.autograd.grad((spikes * weight).sum(), inputs)))
    (spikes, *grads), (expected, *expected_grads) = results
    assert torch.equal(spikes, expected)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(grads, expected_grads, rtol=tolerance, atol=tolerance)
    assert all(grad.abs().sum() > 0 for grad in grads)


def test_initial_potential_matters() -> None:
    current = torch.rand(4, 1000, generator=torch.Generator().manual_seed(2))
    without = scan(current, 4, NEURON)
    assert torch.equal(scan(current, 4, NEURON, torch.zeros(1000)), without)
    assert not torch.equal(scan(current, 4, NEURON, torch.full((1000,), 0.5)), without)


def test_bfloat16_spikes_equal_float32_spikes_and_take_bfloat16_gradients() -> None:
    current = torch.rand(4, 1000, generator=torch.Generator().manual_seed(2), requires_grad=True)
    weight = torch.randn(4, 1000, generator=torch.Generator().manual_seed(3)).bfloat16()
    narrow = scan(current, 4, NEURON, spike_dtype=torch.bfloat16)
    assert narrow.dtype == torch.bfloat16
    spikes = scan(current, 4, NEURON)
    assert torch.equal(narrow.float(), spikes)
    (grad,) = torch.autograd.grad((narrow * weight).sum(), current)
    (expected,) = torch.autograd.grad((spikes * weight.float()).sum(), current)
    torch.testing.assert_close(grad, expected)


def test_without_gradient_nothing_is_kept() -> None:
    current = torch.rand(4, 10)
    with torch.no_grad():
        assert scan(current, 4, NEURON).grad_fn is None
    assert torch.equal(scan(current, 4, NEURON), scan(current.requires_grad_(), 4, NEURON).detach())


def test_overwriting_the_current_changes_no_result() -> None:
    torch.manual_seed(1)
    leaf = maps(torch.float32, False, torch.channels_last)
    weight = torch.randn(STEPS, 2, 5, 31, 33)
    results = []
    for overwrite in (False, True):
        current = leaf + 0
        before = current.detach().clone()
        spikes = scan(current, STEPS, NEURON, overwrite=overwrite)
        assert torch.equal(current, before) != overwrite
        results.append((spikes, *torch.autograd.grad((spikes * weight).sum(), leaf)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_reading_what_was_overwritten_is_an_error() -> None:
    leaf = torch.rand(STEPS, 10, requires_grad=True)
    current = leaf.exp()  # keeps its result for its backward pass
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        scan(current, STEPS, NEURON, overwrite=True).sum().backward()
    scan(leaf.exp(), STEPS, NEURON).sum().backward()
    spikes = scan(leaf + 0, STEPS, NEURON).sum()
    torch.autograd.grad(spikes, leaf, retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(spikes, leaf)


def test_wrong_number_of_steps_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither 1 nor T = 4"):
        scan(torch.zeros(3, 2), 4, NEURON)
