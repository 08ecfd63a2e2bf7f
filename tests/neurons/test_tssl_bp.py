"""The TSSL-BP neuron: scan against the plain form, the plain form against a scalar oracle."""

from math import exp

import pytest
import torch
from torch import Tensor

from repro.neurons.scan import tssl_bp as scan
from repro.neurons.tssl_bp import (
    TsslBpNeuron,
    scan_plain,
    spike_kernel_loss,
    synaptic_filter,
    target_train,
)

NEURON = TsslBpNeuron()


def oracle(
    current: list[float], grad_psp: list[float], neuron: TsslBpNeuron, gain: float
) -> tuple[list[float], list[float]]:
    """Spikes, and the gradient at the current, from that at the *filtered* spikes: double sums."""
    steps, leak, decay = len(current), 1 / neuron.tau_m, 1 - 1 / neuron.tau_s
    kappa = [decay**k / neuron.tau_s for k in range(steps)]
    x = [gain * sum(kappa[t - k] * current[k] for k in range(t + 1)) for t in range(steps)]
    d, u, s, y, v = [], [], [], [], 0.0
    for t in range(steps):
        d.append(x[t] - leak * v)
        u.append(v + d[t])
        s.append(float(u[t] > neuron.threshold))
        v = u[t] * (1 - s[t])
        y.append(sum(kappa[t - k] * s[k] for k in range(t + 1)))
    at_x, carry = [0.0] * steps, 0.0
    for t in reversed(range(steps)):
        ga = sum(kappa[k] * grad_psp[t + k] for k in range(steps - t))
        e = max(-8.0, min(0.0, -1 / d[t])) * s[t]
        at_x[t] = -e * ga + carry * (1 - leak) * (1 - s[t]) - carry * u[t] * leak * e
        carry = at_x[t] * s[t] + carry * (1 - s[t]) * (1 - leak)
        if y[t] < 1 / (4 * neuron.tau_s) - 1e-12:
            q = exp(max(-8.0, min(8.0, (neuron.threshold - u[t]) / 0.2)))
            at_x[t] = ga * q / (0.2 * (1 + q) ** 2)
    grad = [gain * sum(kappa[t - k] * at_x[t] for t in range(k, steps)) for k in range(steps)]
    return s, grad


def currents(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(shape, dtype=dtype, generator=generator) + 1


@pytest.mark.parametrize("neuron", [NEURON, TsslBpNeuron(4.0, 2.0, 0.8)])
@pytest.mark.parametrize("gain", [1.0, 1.1])
def test_plain_scan_matches_the_scalar_oracle(neuron: TsslBpNeuron, gain: float) -> None:
    current = currents((9, 60)).requires_grad_()
    grad_psp = torch.randn(9, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    spikes = scan_plain(current, 9, neuron, gain)
    psp = synaptic_filter(spikes, neuron.tau_s)
    (grad,) = torch.autograd.grad((psp * grad_psp).sum(), current)
    for i in range(60):
        train, expected = oracle(current[:, i].tolist(), grad_psp[:, i].tolist(), neuron, gain)
        assert spikes[:, i].tolist() == train
        torch.testing.assert_close(grad[:, i], torch.tensor(expected, dtype=torch.float64))
    assert 0.1 < spikes.mean() < 0.9
    assert not torch.equal(spikes, scan_plain(current, 9, neuron, 2 * gain))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_scan_equals_plain_scan(
    dtype: torch.dtype, constant: bool, layout: torch.memory_format
) -> None:
    images = currents((2 if constant else 6 * 2, 5, 31, 33), dtype).contiguous(memory_format=layout)
    current = images.unflatten(0, (1 if constant else 6, 2)).requires_grad_()
    weight = currents((6, 2, 5, 31, 33), dtype, seed=1)
    results = []
    for function in (scan, scan_plain):
        spikes = function(current, 6, NEURON, 1.1)
        (grad,) = torch.autograd.grad((spikes * weight).sum(), current)
        results.append((spikes, grad))
    assert torch.equal(results[0][0], results[1][0])
    assert 0.1 < results[0][0].mean() < 0.9
    tolerance = 1e-12 if dtype == torch.float64 else 3e-6
    torch.testing.assert_close(results[0][1], results[1][1], rtol=tolerance, atol=tolerance)
    assert results[0][1].abs().sum() > 0
    assert results[0][0].stride() == (2 * 5 * 31 * 33, *current.stride()[1:])


def test_gradient_of_a_silent_neuron_is_that_of_the_surrogate_at_a_known_point() -> None:
    """No spike, potential at the threshold: slope 1 / (4 width) = 1.25 through the filter."""
    one_step = TsslBpNeuron(tau_m=5.0, tau_s=2.0)
    current = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)  # u = 2 / tau_s
    (grad,) = torch.autograd.grad(scan(current, 1, one_step).sum(), current)
    assert grad.item() == pytest.approx(1.25 / 2, rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bfloat16_spikes_equal_the_others_and_carry_gradients(dtype: torch.dtype) -> None:
    current = currents((5, 1000), dtype).requires_grad_()
    weight = currents((5, 1000), dtype, seed=1).bfloat16()
    narrow, full = (scan(current, 5, NEURON, 1.0, d) for d in (torch.bfloat16, dtype))
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow.to(dtype), full)
    (a,) = torch.autograd.grad(narrow, current, weight)
    (b,) = torch.autograd.grad(full, current, weight.to(dtype))
    assert torch.equal(a, b)
    assert not torch.equal(a, torch.zeros_like(a))


def test_wrong_number_of_steps_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither 1 nor T = 4"):
        scan(torch.zeros(3, 2), 4, NEURON)


def test_target_is_the_filtered_train_of_the_labels_neuron() -> None:
    target = target_train(torch.tensor([2, 0]), 3, 5, tau_s=3.0, dtype=torch.float64)
    assert target.shape == (5, 2, 3)
    train = [0.0, *(1 - (1 - 1 / 3) ** k for k in range(1, 5))]
    for b, label in enumerate([2, 0]):
        assert target[:, b, label].tolist() == pytest.approx(train)
    assert target.sum().item() == pytest.approx(2 * sum(train))
    later = target_train(torch.tensor([2, 0]), 3, 5, 3.0, 2, torch.float64)
    assert later[:, 0, 2].tolist() == pytest.approx([0.0, *train[:-1]])


def test_loss_is_half_the_squared_distance_to_the_target_filtered_again() -> None:
    target = torch.zeros(3, 1, 2, dtype=torch.float64)
    target[0, 0, 1] = 2.0
    output = torch.full((3, 1, 2), 0.5, dtype=torch.float64)
    again = [1.0, 0.5, 0.25]  # 2/tau_s, then halved at every step
    expected = (3 * 0.5**2 + sum((0.5 - x) ** 2 for x in again)) / 2
    assert spike_kernel_loss(output, target, tau_s=2.0).item() == pytest.approx(expected)
