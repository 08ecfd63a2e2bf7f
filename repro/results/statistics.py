"""Statistics of accuracies: spread over seeds, and a run against its parent on the same images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["held", "not held", "undecided"]
CONFIDENCE: Final = 0.95
ENOUGH: Final = 3  # seeds: one seed's interval covers 78 % instead of 95 % where seeds differ much


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over runs that differ in the seed only.

    Attributes:
        mean: Arithmetic mean.
        std: Standard deviation with divisor n - 1, or None for a single value.
        n: Number of values, 1 and up.
    """

    mean: float
    std: float | None
    n: int

    def __str__(self) -> str:
        """Return ``mean ± std (n)`` with two decimals; a single value has no spread."""
        deviation = "" if self.std is None else f" ± {self.std:.2f}"
        return f"{self.mean:.2f}{deviation} (n {self.n})"


@dataclass(frozen=True)
class Paired:
    """How two classifiers agree on the same N images.

    Attributes:
        both_right: Images that both get right (a).
        parent_only_right: Images that only the parent gets right (b).
        child_only_right: Images that only the child gets right (c).
        both_wrong: Images that both get wrong (d).
    """

    both_right: int
    parent_only_right: int
    child_only_right: int
    both_wrong: int

    @property
    def n(self) -> int:
        """Return N = a + b + c + d."""
        return self.both_right + self.parent_only_right + self.child_only_right + self.both_wrong

    @property
    def difference(self) -> float:
        """Return the child's accuracy minus the parent's, (c - b) / N, -1 to 1."""
        return (self.child_only_right - self.parent_only_right) / self.n

    @property
    def mcnemar_p(self) -> float:
        """Return `exact_p` of these counts."""
        return exact_p(self.parent_only_right, self.child_only_right)


@dataclass(frozen=True)
class Difference:
    """Accuracy of one network minus another's on the same test images, mean over seeds.

    Attributes:
        mean: Mean difference, a fraction, -1 to 1.
        low: Lower limit of its 95 % interval.
        high: Upper limit.
        seeds: Seeds, 1 and up.
        images: Test images of each seed.
    """

    mean: float
    low: float
    high: float
    seeds: int
    images: int

    def verdict(self, bound: float) -> Verdict:
        """Return whether the difference is above ``bound``, a fraction, by its whole interval.

        Below `ENOUGH` seeds it is undecided.

        >>> Difference(-0.002, -0.009, 0.005, 3, 2000).verdict(-0.01)
        'held'
        """
        if self.seeds < ENOUGH:
            return "undecided"
        if self.low > bound:
            return "held"
        return "not held" if self.high < bound else "undecided"


def spread(values: Sequence[float]) -> Spread:
    """Return mean, sample standard deviation and n.

    Raises:
        ValueError: No values.

    >>> spread([1.0, 3.0]).mean
    2.0
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values to average: pass the accuracy of at least one run")
    return Spread(fmean(values), stdev(values) if n > 1 else None, n)


def pair(parent: NDArray[np.bool_], child: NDArray[np.bool_]) -> Paired:
    """Return the four counts of two classifiers on the same images.

    Args:
        parent: ``[N]`` bool, which images the parent gets right.
        child: ``[N]`` bool, the same images in the same order.

    Raises:
        ValueError: Not two bool vectors of one length, 1 and up.
    """
    if parent.dtype != np.bool_ or child.dtype != np.bool_:
        raise ValueError(f"expected two bool arrays, found {parent.dtype} and {child.dtype}")
    if parent.ndim != 1 or parent.shape != child.shape or parent.size == 0:
        raise ValueError(
            f"shapes {parent.shape} and {child.shape}: evaluate both on the same test images"
        )
    right = int(np.count_nonzero(parent & child))
    parent_only = int(np.count_nonzero(parent)) - right
    child_only = int(np.count_nonzero(child)) - right
    return Paired(right, parent_only, child_only, parent.size - right - parent_only - child_only)


def exact_p(parent_only_right: int, child_only_right: int) -> float:
    """Return the two-sided p of McNemar's exact test, 0 to 1, from the discordant counts b and c.

    Under the null hypothesis a discordant image is as likely right in the parent as in the child,
    so b follows Binomial(b + c, 1/2); without such images p is 1.

    Raises:
        ValueError: A negative count.

    References:
        McNemar, Psychometrika 12, 153-157, 1947; the exact form is a sign test.

    >>> exact_p(0, 3) == 2 * 0.5**3
    True
    """
    if min(parent_only_right, child_only_right) < 0:
        raise ValueError(f"negative count: {parent_only_right}, {child_only_right}; count images")
    from scipy.special import bdtr  # not scipy.stats, which takes a second to import

    rarer = min(parent_only_right, child_only_right)
    return min(1.0, 2 * float(bdtr(rarer, parent_only_right + child_only_right, 0.5)))


def difference_interval(counts: Paired, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the confidence interval of child minus parent accuracy on the same images.

    Newcombe's square-and-add interval of paired proportions: Wilson's limits of each accuracy,
    joined by their correlation phi. Unlike Wald's it has a width where no image is discordant.

    Args:
        counts: N >= 1.
        confidence: 0 to 1.

    Returns:
        Lower and upper limit, fractions from -1 to 1.

    References:
        Newcombe, Statistics in Medicine 17, 2635-2650, 1998, method 10;
        Wilson, J. Am. Stat. Assoc. 22, 209-212, 1927.
    """
    both, parent_only = counts.both_right, counts.parent_only_right
    child_only, neither, n = counts.child_only_right, counts.both_wrong, counts.n
    child, parent = (both + child_only) / n, (both + parent_only) / n
    (child_low, child_high), (parent_low, parent_high) = (
        _wilson(right, n, confidence) for right in (both + child_only, both + parent_only)
    )
    phi = _correlation(both, parent_only, child_only, neither)

    def joined(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    down = joined(child - child_low, parent_high - parent)
    up = joined(child_high - child, parent - parent_low)
    return counts.difference - down, counts.difference + up


@cache
def _wilson(right: int, n: int, confidence: float) -> tuple[float, float]:
    """Return Wilson's interval of a proportion; kept, as tables ask for few again and again."""
    from scipy.stats import binomtest  # takes a second to import

    found = binomtest(right, n).proportion_ci(confidence, method="wilson")
    return found.low, found.high


def _correlation(a: int, b: int, c: int, d: int) -> float:
    """Return phi of the 2 x 2 table; a positive one with the continuity correction of method 10."""
    product = (a + b) * (c + d) * (a + c) * (b + d)
    if product == 0:
        return 0.0
    excess = a * d - b * c
    return (max(excess - (a + b + c + d) / 2, 0) if excess > 0 else excess) / math.sqrt(product)


def paired_difference(
    before: NDArray[np.bool_], after: NDArray[np.bool_], confidence: float = CONFIDENCE
) -> Difference:
    """Return the mean of ``after - before`` with its interval.

    One seed: `difference_interval`. Several seeds on the same images: `crossed_interval`. Where
    neither seeds nor images differ, so that nothing varies, the widest interval of the seeds.

    Args:
        before: ``[S, N]`` bool, which of N images the network of each of S seeds gets right.
        after: ``[S, N]`` bool, the networks they are compared with: same seeds, same images.
        confidence: Of the interval, 0 to 1.

    Raises:
        ValueError: Not two bool matrices of one shape, at least 1 x 1.
    """
    if before.ndim != 2 or before.shape != after.shape:
        raise ValueError(f"shapes {before.shape} and {after.shape}: give two [seeds, images]")
    counts = [pair(old, new) for old, new in zip(before, after, strict=True)]
    if not counts:
        raise ValueError("no seeds to compare: pass the images of at least one")
    seeds, images = before.shape
    differences = after.astype(np.int8) - before.astype(np.int8)
    mean = float(differences.mean())
    if seeds > 1 and images > 1 and np.ptp(differences) > 0:
        low, high = crossed_interval(differences, confidence)
    else:
        limits = [difference_interval(each, confidence) for each in counts]
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
    return Difference(mean, max(low, -1.0), min(high, 1.0), seeds, images)


def crossed_interval(
    differences: NDArray[np.integer | np.floating], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the confidence interval of a mean over seeds and images, both drawn at random.

    Every seed is tested on the same images, so neither seeds nor pairs of seed and image are
    independent draws: seeds and images are crossed random factors with one value a cell,
    ``d[s, i] = mean + seed[s] + image[i] + error[s, i]``, and::

        Var(mean) = (MS_seed + MS_image - MS_error) / (S N), at least MS_error / (S N)

    Its degrees of freedom are Satterthwaite's, at least 1; the quantile is Student's. Without a
    difference between seeds it is nearly the interval over images, and with few seeds that differ
    much nearly the interval over seeds. Of few seeds the variance between them is uncertain: alone
    it holds the truth in 85 to 89 of 100 cases for two that differ much, in 92 to 95 for three. So
    the wider of this and Student's interval over the seeds' means is returned.

    Args:
        differences: ``[S, N]``, -1, 0 or 1 each, S >= 2 and N >= 2, not all the same.
        confidence: 0 to 1.

    Raises:
        ValueError: A single seed or image, or nothing varies.

    References:
        Brennan, Generalizability Theory, 2001, chapter 2 (the crossed design p x i);
        Satterthwaite, Biometrics Bulletin 2, 110-114, 1946;
        Clark, J. Verbal Learning and Verbal Behavior 12, 335-359, 1973, on why both are random.
    """
    if min(differences.shape) < 2 or np.ptp(differences) == 0:
        raise ValueError(f"{differences.shape}: at least two of each, and not all equal")
    half = _half_width(differences.shape, _mean_squares(differences), confidence)
    mean = float(differences.mean())
    return mean - half, mean + half


def seeds_needed(
    before: NDArray[np.bool_], after: NDArray[np.bool_], bound: float, most: int = 100
) -> int | None:
    """Return how many seeds would decide, if further ones spread alike; None where ``most`` do not.

    The variances of seeds, images and errors are estimated as in `crossed_interval`. Images stay
    as they are, so that even many seeds may not decide.

    Args:
        before: As in `paired_difference`.
        after: As there.
        bound: What the whole interval is to lie above or below, a fraction.
        most: Seeds that are worth naming.
    """
    seeds, images = before.shape
    differences = after.astype(np.int8) - before.astype(np.int8)
    if seeds < ENOUGH:
        return ENOUGH
    if np.ptp(differences) == 0:
        return None
    of_seeds, of_images, error = _mean_squares(differences)
    image = max(0.0, (of_images - error) / seeds)
    for more in range(seeds, most + 1):
        squares = np.array([of_seeds, error + more * image, error])
        distance = abs(float(differences.mean()) - bound)
        if _half_width((more, images), squares, CONFIDENCE) < distance:
            return more
    return None


def _mean_squares(differences: NDArray[np.integer | np.floating]) -> NDArray[np.float64]:
    """Return the mean squares of seeds, images and errors of ``[S, N]``."""
    values = differences.astype(np.float64)
    mean = values.mean()
    of_seeds, of_images = values.mean(1, keepdims=True), values.mean(0, keepdims=True)
    sums = (
        values.shape[1] * np.sum((of_seeds - mean) ** 2),
        values.shape[0] * np.sum((of_images - mean) ** 2),
        np.sum((values - of_seeds - of_images + mean) ** 2),
    )
    return np.array(sums) / _freedom(values.shape)


def _freedom(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the degrees of freedom of seeds, images and errors."""
    seeds, images = shape
    return np.array([seeds - 1, images - 1, (seeds - 1) * (images - 1)], np.float64)


def _half_width(shape: tuple[int, ...], squares: NDArray[np.float64], confidence: float) -> float:
    """Return half the width of `crossed_interval` from the mean squares."""
    from scipy.stats import t  # takes a second to import

    freedom, tail = _freedom(shape), (1 + confidence) / 2
    ms_seed, ms_image, ms_error = squares
    joint, effective = ms_seed + ms_image - ms_error, freedom[2]
    if joint > ms_error:
        effective = max(joint**2 / np.sum(squares**2 / freedom), 1.0)
    else:
        joint = ms_error
    values = shape[0] * shape[1]
    over_seeds = t.ppf(tail, freedom[0]) * math.sqrt(ms_seed / values)
    return float(max(t.ppf(tail, effective) * math.sqrt(joint / values), over_seeds))
