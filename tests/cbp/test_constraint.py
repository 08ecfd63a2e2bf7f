"""cs(w) against golden values, a scalar oracle written from the paper, and finite differences."""

import itertools

import numpy as np
import paths
import pytest
import torch

from repro.cbp.constraint import add_slope_, constraint, constraint_failure_score
from repro.cbp.cpu import nearest_on_cpu
from repro.cbp.levels import LEVELS, nearest_level
from repro.cbp.window import constrained_fraction


def cs_oracle(w: float, levels: list[float], g: int) -> float:
    """Tent function of the paper: one interval at a time, no vectorisation."""
    if w <= levels[0]:
        return 2 * (levels[0] - w)
    if w >= levels[-1]:
        return 2 * (w - levels[-1])
    low, high = next((a, b) for a, b in itertools.pairwise(levels) if a <= w < b)
    tent = 2 * min(w - low, high - w)
    return 0.0 if tent > (high - low) * (1 - 1 / g) else tent


@pytest.mark.parametrize("precision", sorted(LEVELS))
@pytest.mark.parametrize("g", [1, 2, 10, 100])
def test_value_matches_oracle(precision: str, g: int) -> None:
    levels = torch.tensor(LEVELS[precision], dtype=torch.float64) * 0.37
    weight = torch.linspace(-1, 1, 4001, dtype=torch.float64) + 1e-7  # off the kinks
    expected = [cs_oracle(w, levels.tolist(), g) for w in weight.tolist()]
    actual, _ = constraint(weight, levels, constrained_fraction(g))
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("g", [2, 10])
def test_derivative_matches_finite_difference(g: int) -> None:
    levels = torch.tensor(LEVELS["ternary"], dtype=torch.float64) * 0.37
    weight = torch.linspace(-1, 1, 997, dtype=torch.float64) + 1e-4
    eps = 1e-7
    above, _ = constraint(weight + eps, levels, constrained_fraction(g))
    below, _ = constraint(weight - eps, levels, constrained_fraction(g))
    _, slope = constraint(weight, levels, constrained_fraction(g))
    torch.testing.assert_close(slope, (above - below) / (2 * eps), atol=1e-5, rtol=0)


def test_g_one_frees_every_interior_weight() -> None:
    weight = torch.tensor([-0.9, -0.2, 0.2, 0.9])
    value, slope = constraint(weight, torch.tensor([-1.0, 0.0, 1.0]), constrained_fraction(1))
    assert value.count_nonzero() == 0
    assert slope.count_nonzero() == 0


GOLDEN = np.load(paths.GOLDEN / "constraint.npz", allow_pickle=False)
SETS = [f"{name}.s{i}" for name in LEVELS for i in (0, 1)]
EXACT = {"rtol": 1e-9, "atol": 1e-10}


def golden(key: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[key])


@pytest.mark.parametrize("case", SETS)
def test_golden_levels_quantiser_and_failure_score(case: str) -> None:
    weight, levels = golden(f"{case}.weight"), golden(f"{case}.levels")
    assert levels.tolist() == list(LEVELS[case.split(".")[0]])
    scaled = levels * golden(f"{case}.scale")
    for quantised in (nearest_level(weight, scaled), nearest_on_cpu(weight, scaled)):
        torch.testing.assert_close(quantised, golden(f"{case}.quantized"), **EXACT)
    expected = golden(f"{case}.full_window")
    torch.testing.assert_close(constraint(weight, scaled, 1.0)[0], expected, **EXACT)
    assert constraint_failure_score([(weight, scaled)]) == pytest.approx(
        expected.mean().item(), rel=1e-9
    )


@pytest.mark.parametrize("case", SETS)
@pytest.mark.parametrize("g", [1, 2, 3, 5, 10, 20, 100])
def test_golden_constraint_and_gradient(case: str, g: int) -> None:
    weight = golden(f"{case}.weight")
    levels = golden(f"{case}.levels") * golden(f"{case}.scale")
    multiplier, fraction = golden(f"{case}.g{g}.multiplier"), constrained_fraction(g)
    value, slope = constraint(weight, levels, fraction)
    torch.testing.assert_close(value, golden(f"{case}.g{g}.constraint"), **EXACT)
    torch.testing.assert_close(multiplier * slope, golden(f"{case}.g{g}.grad"), **EXACT)
    grad = torch.ones_like(weight)
    penalty = add_slope_(grad, weight, multiplier, levels, fraction, float("inf"))
    torch.testing.assert_close(grad - 1, golden(f"{case}.g{g}.grad"), **EXACT)
    expected = (multiplier * golden(f"{case}.g{g}.constraint")).sum().item()
    assert float(penalty) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", sorted(LEVELS))
@pytest.mark.parametrize("clip", [0.3, float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_equal_the_closed_form(name: str, clip: float, dtype: torch.dtype) -> None:
    """Ragged size, midpoints and levels themselves included, memory in another order of axes."""
    levels = torch.tensor(LEVELS[name], dtype=dtype) * 0.3
    weight = torch.randn(70, 61, 3, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 0.3
    weight[0, : len(levels), 0] = levels
    weight[1, : len(levels) - 1, 0] = (levels[:-1] + levels[1:]) / 2
    weight = weight.permute(2, 0, 1)
    multiplier, grad = torch.rand_like(weight), torch.randn_like(weight)
    value, slope = constraint(weight, levels, 0.5)
    expected = (grad + multiplier * slope).clamp(-clip, clip)
    penalty = add_slope_(grad, weight, multiplier, levels, 0.5, clip)
    assert torch.equal(grad, expected)
    total = torch.sum(multiplier.double() * value.double()).item()
    assert float(penalty) == pytest.approx(total, rel=1e-12)
    assert torch.equal(nearest_on_cpu(weight, levels), nearest_level(weight, levels))


def test_kernel_refuses_tensors_that_lie_differently_in_memory() -> None:
    weight, levels = torch.randn(4, 5), torch.tensor([-1.0, 1.0])
    with pytest.raises(ValueError, match="lie differently in memory"):
        add_slope_(torch.zeros(5, 4).T, weight, torch.zeros(4, 5), levels, 0.5, 1.0)


def test_a_tie_takes_the_upper_level() -> None:
    levels = torch.tensor([-1.0, 0.0, 1.0])
    ties = torch.tensor([-0.5, 0.5])
    assert nearest_level(ties, levels).tolist() == [0.0, 1.0]
    assert nearest_on_cpu(ties, levels).tolist() == [0.0, 1.0]
