"""Unconstrained-window schedule of CBP (Kim & Jeong, NeurIPS 2021, Algorithm 1)."""


def next_g(g: int) -> int:
    """Return the window variable after one multiplier update: 1, 2, ..., 10, 20, 30, ...

    >>> [next_g(g) for g in (1, 9, 10, 20)]
    [2, 10, 20, 30]
    """
    if g < 1:
        raise ValueError(f"g counts from 1, got {g}")
    return g + 1 if g < 10 else g + 10


def constrained_fraction(g: int) -> float:
    """Return the part of each half-interval that is constrained, ``1 - 1/g`` in ``[0, 1)``.

    >>> constrained_fraction(1), constrained_fraction(10)
    (0.0, 0.9)
    """
    if g < 1:
        raise ValueError(f"g counts from 1, got {g}")
    return 1 - 1 / g


NO_WINDOW = 1.0
"""The constrained fraction without a window: every weight is constrained."""
