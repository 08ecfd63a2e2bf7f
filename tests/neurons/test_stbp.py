"""The STBP neuron: scan against the plain definition, the definition against a scalar oracle."""

import pytest
import torch

from repro.neurons.scan import stbp as scan
from repro.neurons.stbp import StbpNeuron, scan_plain

NEURON = StbpNeuron(decay=0.25)


def oracle(currents: list[float], neuron: StbpNeuron) -> list[float]:
    potential, spike, train = 0.0, 0.0, []
    for current in currents:
        potential = neuron.decay * potential * (1 - spike) + current
        spike = float(potential > neuron.threshold)
        train.append(spike)
    return train


def test_plain_scan_matches_the_scalar_oracle() -> None:
    current = torch.randn(7, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = [oracle(current[:, i].tolist(), NEURON) for i in range(50)]
    spikes = scan_plain(current, 7, NEURON)
    assert spikes.T.tolist() == expected
    assert 0 < spikes.mean() < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_scan_equals_plain_scan(
    dtype: torch.dtype, constant: bool, layout: torch.memory_format
) -> None:
    torch.manual_seed(1)
    images = torch.randn(2 if constant else 6 * 2, 5, 31, 33, dtype=dtype)
    images = images.contiguous(memory_format=layout)
    current = images.unflatten(0, (1 if constant else 6, 2)).requires_grad_()
    weight = torch.randn(6, 2, 5, 31, 33, dtype=dtype)
    results = []
    for function in (scan, scan_plain):
        spikes = function(current, 6, NEURON)
        (grad,) = torch.autograd.grad((spikes * weight).sum(), current)
        results.append((spikes, grad))
    assert torch.equal(results[0][0], results[1][0])
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(results[0][1], results[1][1], rtol=tolerance, atol=tolerance)
    assert results[0][1].abs().sum() > 0


def test_gradient_of_the_potential_matches_finite_differences_without_spikes() -> None:
    """Below threshold the neuron is linear but for the surrogate: check the surrogate chain."""
    current = torch.full((3, 1), 0.1, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(scan(current, 3, NEURON).sum(), current)
    # no spike and inside the window: ds/du = 1, du[t]/dx[k] = decay^(t-k), reset term -decay u
    u = [0.1, 0.25 * 0.1 + 0.1, 0.25 * (0.25 * 0.1 + 0.1) + 0.1]
    last = 1.0
    middle = (1.0 - 0.25 * u[1] * last) + 0.25 * last
    first = (1.0 - 0.25 * u[0] * middle) + 0.25 * middle
    torch.testing.assert_close(grad[:, 0], torch.tensor([first, middle, last], dtype=torch.float64))


def test_bfloat16_spikes_equal_float32_spikes() -> None:
    current = torch.randn(4, 1000, generator=torch.Generator().manual_seed(2))
    narrow = scan(current, 4, NEURON, torch.bfloat16)
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow.float(), scan(current, 4, NEURON))


def test_wrong_number_of_steps_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither 1 nor T = 4"):
        scan(torch.zeros(3, 2), 4, NEURON)
