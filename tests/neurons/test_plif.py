"""Hard-reset neurons: the plain scan against a scalar oracle, and what the leak learns."""

import math

import pytest
import torch
from torch import Tensor

from repro.neurons.layer import HardResetLayer
from repro.neurons.plif import scan_plain

STEPS = 7


def oracle(currents: list[float], leak: float | None) -> list[float]:
    potential, train = 0.0, []
    for current in currents:
        potential += current if leak is None else (current - potential) * leak
        train.append(float(potential >= 1))
        potential = 0.0 if potential >= 1 else potential
    return train


def oracle_gradient(
    currents: list[float], weights: list[float], leak: float | None
) -> tuple[list[float], float]:
    """dL/dcurrent and dL/dleak of ``L = sum weights * spikes``, from the chain rule written out."""
    share = 1.0 if leak is None else leak
    before, charged, potential = [], [], 0.0
    for current in currents:
        before.append(potential)
        charged.append(potential + (current if leak is None else (current - potential) * leak))
        potential = 0.0 if charged[-1] >= 1 else charged[-1]
    gradients, to_leak, later = [0.0] * len(currents), 0.0, 0.0
    for t in reversed(range(len(currents))):
        slope = 1 / (1 + (math.pi * (charged[t] - 1)) ** 2)
        to_charged = weights[t] * slope + (0.0 if charged[t] >= 1 else later)
        gradients[t] = to_charged * share
        to_leak += to_charged * (currents[t] - before[t])
        later = to_charged if leak is None else to_charged * (1 - leak)
    return gradients, to_leak


def random_current(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    current = 2 * torch.rand(STEPS, 40, dtype=torch.float64, generator=generator)
    return current.requires_grad_(), torch.randn(STEPS, 40, generator=generator).double()


@pytest.mark.parametrize("leak", [0.4, 0.8, None])
def test_plain_scan_matches_the_scalar_oracle(leak: float | None) -> None:
    current, weight = random_current()
    given = None if leak is None else torch.tensor(leak).double().requires_grad_()
    spikes = scan_plain(current, STEPS, given)
    (spikes * weight).sum().backward()
    to_leak = 0.0
    for i in range(current.shape[1]):
        column, weights = current[:, i].tolist(), weight[:, i].tolist()
        assert spikes[:, i].tolist() == oracle(column, leak)
        expected, part = oracle_gradient(column, weights, leak)
        assert current.grad is not None
        torch.testing.assert_close(current.grad[:, i].tolist(), expected)
        to_leak += part
    if given is not None:
        assert given.grad is not None
        assert given.grad.item() == pytest.approx(to_leak)
    assert 0 < spikes.mean() < 1


def test_a_constant_current_is_the_same_at_every_step() -> None:
    current = torch.rand(1, 30, dtype=torch.float64)
    once, repeated = (scan_plain(c, STEPS, None) for c in (current, current.expand(STEPS, -1)))
    torch.testing.assert_close(once, repeated)
    assert once.any()
    assert not torch.equal(once, scan_plain(current, STEPS, torch.tensor(0.5).double()))


@pytest.mark.parametrize("tau", [1.5, 2.0, 10.0])
def test_the_leak_starts_at_one_over_tau(tau: float) -> None:
    leak = HardResetLayer(tau).leak()
    assert leak is not None
    assert leak.item() == pytest.approx(1 / tau)


def test_a_neuron_without_leak_has_no_parameter() -> None:
    neuron = HardResetLayer(None)
    assert neuron.leak() is None
    assert not list(neuron.parameters())


@pytest.mark.parametrize("tau", [1.0, 0.5, math.inf, math.nan])
def test_time_constants_without_a_leak_are_refused(tau: float) -> None:
    with pytest.raises(ValueError, match="give more than 1 step"):
        HardResetLayer(tau)
