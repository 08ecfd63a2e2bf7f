"""The exact test and the interval, against counted coins and the slow formula."""

import math
from math import comb, sqrt

import numpy as np
import pytest

from repro.results.statistics import (
    Difference,
    Paired,
    Spread,
    crossed_interval,
    difference_interval,
    exact_p,
    pair,
    paired_difference,
    spread,
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
    p = pair(parent, child).mcnemar_p
    assert p == pytest.approx(exact_p_by_hand(10, 2))
    assert pair(parent[:12], child[:12]).mcnemar_p == p
    assert pair(parent, parent).mcnemar_p == 1.0
    assert p < 0.05  # the twin of the line above


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


def crossed_by_hand(values: list[list[float]], t: float, floor: bool) -> tuple[float, float]:
    """The interval from sums over single cells, with the quantile t of a table."""
    seeds, images = len(values), len(values[0])
    mean = sum(sum(row) for row in values) / (seeds * images)
    rows = [sum(row) / images for row in values]
    columns = [sum(row[i] for row in values) / seeds for i in range(images)]
    ms_seed = images * sum((row - mean) ** 2 for row in rows) / (seeds - 1)
    ms_image = seeds * sum((column - mean) ** 2 for column in columns) / (images - 1)
    ms_error = sum(
        (values[s][i] - rows[s] - columns[i] + mean) ** 2
        for s in range(seeds)
        for i in range(images)
    ) / ((seeds - 1) * (images - 1))
    joint = ms_seed + ms_image - ms_error
    assert (joint <= ms_error) == floor
    half = t * sqrt(max(joint, ms_error) / (seeds * images))
    return mean - half, mean + half


def test_the_crossed_interval_equals_the_slow_formula() -> None:
    values = [[1.0, 0.0, 0.0, -1.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, -1.0]]
    # Mean squares 1/3, 14/9, 2/9: (5/3)^2 / ((1/3)^2 / 2 + (14/9)^2 / 3 + (2/9)^2 / 6) = 3.1915
    t = 3.0771  # 97.5 % quantile of Student's t with 3.1915 degrees of freedom
    found = crossed_interval(np.array(values))
    assert found == pytest.approx(crossed_by_hand(values, t, floor=False), abs=1e-4)
    assert found != pytest.approx(crossed_by_hand(values, 1.96, floor=False), abs=1e-2)


def test_the_crossed_interval_is_never_narrower_than_the_errors_alone() -> None:
    values = [[1.0, -1.0, 0.0, 0.0], [-1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]
    t = 2.4469  # 97.5 % quantile with (3 - 1) * (4 - 1) = 6 degrees of freedom
    found = crossed_interval(np.array(values))
    assert found == pytest.approx(crossed_by_hand(values, t, floor=True), abs=1e-4)


def test_seeds_that_differ_much_give_the_interval_over_seeds() -> None:
    images = 1000
    values = np.zeros((3, images), np.int8)
    values[1, :300], values[2, :600] = -1, -1  # nearly all variance is between seeds
    low, high = crossed_interval(values)
    means = values.mean(1)
    t = 4.3027  # 2 degrees of freedom
    half = t * means.std(ddof=1) / sqrt(3)
    assert low == pytest.approx(means.mean() - half, rel=0.05)
    assert high == pytest.approx(means.mean() + half, rel=0.05)


def test_seeds_that_agree_give_the_interval_over_images() -> None:
    one = np.zeros(1000, np.int8)
    one[:30], one[-10:] = -1, 1
    values = np.stack([one] * 3)
    half = 1.9623 * one.std(ddof=1) / sqrt(1000)  # not sqrt(3000): the images are the same
    assert crossed_interval(values) == pytest.approx((-0.02 - half, -0.02 + half), abs=1e-4)
    own = np.stack([np.roll(one, 333 * seed) for seed in range(3)])  # images of their own
    low, high = crossed_interval(own)
    assert high - low < 0.7 * 2 * half


@pytest.mark.parametrize(("seeds", "at_least"), [(2, 0.93), (3, 0.94)])
@pytest.mark.parametrize("between", [0.0, 0.01, 0.05])
def test_the_crossed_interval_holds_the_truth_where_seeds_vary(
    seeds: int, at_least: float, between: float
) -> None:
    """Images vary by 0.2, errors by 0.3, so that the mean of 200 images has 0.015 to 0.02."""
    repeats, images, truth = 1000, 200, -0.01
    draws = np.random.default_rng(seeds)
    values = (
        truth
        + between * draws.standard_normal((repeats, seeds, 1))
        + 0.2 * draws.standard_normal((repeats, 1, images))
        + 0.3 * draws.standard_normal((repeats, seeds, images))
    )
    low, high = np.array([crossed_interval(each) for each in values]).T
    covered = np.mean((low <= truth) & (truth <= high))
    assert covered >= at_least - 2 * sqrt(at_least * (1 - at_least) / repeats)
    off = truth + 6 * np.hypot(between, 0.02)
    if seeds == 3:  # of two seeds the interval may be this wide
        assert np.mean((low <= off) & (off <= high)) < at_least


def test_few_seeds_have_the_wider_of_two_intervals() -> None:
    images = 1000
    values = np.zeros((2, images), np.int8)
    values[0, :60], values[1, :20] = -1, -1
    t = 12.7062  # 97.5 % quantile of Student's t with one degree of freedom
    low, high = crossed_interval(values)
    assert (low, high) == pytest.approx((-0.04 - t * 0.02, -0.04 + t * 0.02), abs=1e-5)
    values[1, :60] = -1  # the means agree, and the images alone count
    same = crossed_interval(values)
    assert same[1] - same[0] < (high - low) / 5
    assert same[0] < -0.06 < same[1]


def test_exchanging_the_two_turns_the_interval_over() -> None:
    draws = np.random.default_rng(1)
    before, after = draws.random((3, 200)) < 0.7, draws.random((3, 200)) < 0.6
    there, back = paired_difference(before, after), paired_difference(after, before)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert there.mean == pytest.approx(after.mean() - before.mean())
    assert (there.seeds, there.images) == (3, 200)
    assert there != back


def test_one_seed_has_newcombes_interval_and_so_have_seeds_without_a_difference() -> None:
    before, after = np.arange(40) < 30, np.arange(40) < 28
    limits = difference_interval(pair(before, after))
    one = paired_difference(before[None], after[None])
    assert one == Difference(-2 / 40, *limits, seeds=1, images=40)
    still = paired_difference(np.stack([before] * 3), np.stack([before] * 3))
    assert (still.low, still.high) == difference_interval(pair(before, before))
    assert still.low < 0 < still.high  # not "exactly 0 for certain"


def test_the_parts_add_up_to_the_whole() -> None:
    draws = np.random.default_rng(2)
    parent, control, child = (draws.random((3, 50)) < share for share in (0.5, 0.6, 0.4))
    parts = paired_difference(parent, control).mean + paired_difference(control, child).mean
    assert parts == pytest.approx(paired_difference(parent, child).mean)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.009, 0.01, "held"),
        (-0.01, 0.01, "undecided"),
        (-0.02, -0.01, "undecided"),
        (-0.03, -0.011, "not held"),
    ],
)
def test_a_verdict_is_the_whole_intervals(low: float, high: float, verdict: str) -> None:
    assert Difference((low + high) / 2, low, high, 3, 100).verdict(-0.01) == verdict


def test_differences_of_other_shapes_are_refused() -> None:
    two = np.ones((2, 3), bool)
    with pytest.raises(ValueError, match=r"give two \[seeds, images\]"):
        paired_difference(two, np.ones((3, 3), bool))
    with pytest.raises(ValueError, match=r"give two \[seeds, images\]"):
        paired_difference(two[0], two[0])
    with pytest.raises(ValueError, match="no seeds"):
        paired_difference(two[:0], two[:0])
    for values in (np.array([[1, 0]]), np.array([[1], [0]]), np.ones((2, 2))):
        with pytest.raises(ValueError, match="at least two of each, and not all equal"):
            crossed_interval(values)
