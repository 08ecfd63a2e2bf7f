"""The exact test and the interval, against counted coins and the slow formula."""

import math
from math import comb, sqrt

import numpy as np
import pytest

from repro.statistics import (
    Paired,
    Spread,
    difference_interval,
    exact_p,
    mcnemar_p,
    pair,
    spread,
    wilson,
)


def test_spread_divides_by_n_minus_one() -> None:
    found = spread([1.0, 2.0, 6.0])
    assert found.mean == 3.0
    assert found.std == pytest.approx(sqrt((2**2 + 1**2 + 3**2) / 2))
    assert found.std != pytest.approx(sqrt((2**2 + 1**2 + 3**2) / 3))
    assert str(found) == "3.00 ± 2.65 (n 3)"


def test_one_value_has_no_spread_and_none_is_refused() -> None:
    assert spread([0.5]) == Spread(0.5, None, 1)
    assert str(spread([0.5])) == "0.50 (n 1)"
    with pytest.raises(ValueError, match="no values"):
        spread([])


def exact_p_by_hand(b: int, c: int) -> float:
    """The sum of every outcome of b + c fair coins that is no likelier than b heads."""
    outcomes = [comb(b + c, k) for k in range(b + c + 1)]
    return sum(ways for ways in outcomes if ways <= outcomes[b]) / 2 ** (b + c)


@pytest.mark.parametrize("b", range(6))
@pytest.mark.parametrize("c", [0, 1, 2, 9, 30])
def test_mcnemar_equals_counting_coins(b: int, c: int) -> None:
    assert exact_p(b, c) == pytest.approx(exact_p_by_hand(b, c))
    assert exact_p(b, c) == pytest.approx(exact_p(c, b))


def test_mcnemar_reads_arrays_and_ignores_concordant_images() -> None:
    parent = np.array([True] * 10 + [False] * 2 + [True] * 50)
    child = np.array([False] * 10 + [True] * 2 + [True] * 50)
    assert mcnemar_p(parent, child) == pytest.approx(exact_p_by_hand(10, 2))
    assert mcnemar_p(parent[:12], child[:12]) == mcnemar_p(parent, child)
    assert mcnemar_p(parent, parent) == 1.0
    assert mcnemar_p(parent, child) < 0.05  # the twin of the line above


def test_pair_counts_the_four_kinds() -> None:
    parent = np.array([True, True, True, False, False, True])
    child = np.array([True, False, False, True, False, True])
    counts = pair(parent, child)
    assert counts == Paired(2, 2, 1, 1)
    assert counts.difference == pytest.approx(child.mean() - parent.mean())


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        (np.ones(3, bool), np.ones(4, bool)),
        (np.ones(0, bool), np.ones(0, bool)),
        (np.ones((2, 2), bool), np.ones((2, 2), bool)),
        (np.ones(3), np.ones(3, bool)),
    ],
)
def test_pair_refuses_what_is_not_two_bool_vectors(parent: np.ndarray, child: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"same test images|two bool arrays"):
        pair(parent, child)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="negative count"):
        exact_p(-1, 3)


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 7), (7, 7), (282, 288)])
def test_wilson_limits_are_the_roots_of_the_score_equation(right: int, n: int) -> None:
    for limit in wilson(right, n):
        if 0 < limit < 1:
            score = (right / n - limit) / sqrt(limit * (1 - limit) / n)
            assert abs(score) == pytest.approx(1.96, abs=1e-3)
    assert wilson(right, n)[0] <= right / n <= wilson(right, n)[1]


def interval_by_hand(a: int, b: int, c: int, d: int) -> tuple[float, float]:
    """Newcombe's method 10 for the child's (a + c) minus the parent's (a + b) proportion."""
    n, z = a + b + c + d, 1.959964
    limits = []
    for x in (a + c, a + b):
        root = z * sqrt(z * z + 4 * x * (1 - x / n))
        limits += [(2 * x + z * z - root) / (2 * n + 2 * z * z)]
        limits += [(2 * x + z * z + root) / (2 * n + 2 * z * z)]
    low1, high1, low2, high2 = limits
    p1, p2 = (a + c) / n, (a + b) / n
    top = a * d - b * c
    top = max(top - n / 2, 0) if top > 0 else top
    bottom = sqrt((a + b) * (c + d) * (a + c) * (b + d))
    phi = top / bottom if bottom else 0.0
    down = (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2
    up = (high1 - p1) ** 2 - 2 * phi * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2
    return p1 - p2 - sqrt(down), p1 - p2 + sqrt(up)


@pytest.mark.parametrize(
    "counts", [(14, 5, 0, 22), (36, 12, 2, 0), (700, 30, 20, 250), (1, 9, 8, 2), (20, 0, 0, 0)]
)
def test_the_interval_equals_the_slow_formula(counts: tuple[int, int, int, int]) -> None:
    found = difference_interval(Paired(*counts))
    assert found == pytest.approx(interval_by_hand(*counts), abs=1e-6)
    a, b, c, d = counts
    low, high = difference_interval(Paired(a, c, b, d))  # parent and child exchanged
    assert (-high, -low) == pytest.approx(found, abs=1e-6)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    chances = [0.70, 0.08, 0.05, 0.17]
    draws = np.random.default_rng(0).multinomial(300, chances, size=2000)
    truth = chances[2] - chances[1]
    limits = [difference_interval(Paired(*map(int, draw))) for draw in draws]
    covered = np.mean([low <= truth <= high for low, high in limits])
    assert covered == pytest.approx(0.95, abs=3 * sqrt(0.95 * 0.05 / 2000))
    assert np.mean([low <= truth + 0.1 <= high for low, high in limits]) < 0.1


def test_no_discordant_image_still_has_a_width() -> None:
    low, high = difference_interval(Paired(90, 0, 0, 10))
    assert low < 0 < high
    assert math.isclose(-low, high)
