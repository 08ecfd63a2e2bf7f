"""Words and numbers as tables and sentences print them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from repro.cells import Precision, Tier
from repro.results.statistics import Difference, spread

NOT_RUN: Final = "not run"
CHANCE: Final = 0.05  # a McNemar p below this is more than chance explains
NAMES: Final[Mapping[Precision, str]] = {
    "ann": "ANN",
    "fp32": "FP32",
    "fp32_control": "FP32 control",
    "binary": "binary",
    "ternary": "ternary",
}
SCALE: Final[Mapping[Tier, str]] = {
    "paper": "the recipe as published, on the data it names",
    "paper_short": "the published recipe with a fifth of the epochs, STBP from Kaiming's initial "
    "weights, TF32 and bfloat16 on a GPU; by rule, not tuned",
    "desk": "same method and code, narrower network, fewer epochs, in some cells fewer images",
    "smoke": "seconds on handwritten digits, shown or simulated as events; it proves that the "
    "program works, nothing else",
}
STEP_NAMES: Final[Mapping[str, str]] = {
    "ann": "ANN",
    "uncalibrated": "without calibration",
    "light": "light",
    "potential": "potential",
    "qcfs": "QCFS",
    "weights": "weights",
}
SIMULATION: Final = (
    "Events that a simulated camera makes of real images or drawn limbs (docs/simulation.md), not "
    "the recorded data set: a proof that the path learns, comparable with nothing published."
)


def steps_in_order(steps: Collection[str]) -> list[str]:
    """Return the steps of a conversion in the order they are taken.

    >>> steps_in_order(["light", "uncalibrated", "ann"])
    ['ann', 'uncalibrated', 'light']
    """
    return [name for name in STEP_NAMES if name in steps]


def signed_points(points: float) -> str:
    """Return signed percentage points; what rounds to zero has no sign."""
    return f"{points:+.2f}" if abs(points) >= 0.005 else "0.00"


def interval(found: Difference) -> str:
    """Return the 95 % interval in percentage points.

    >>> interval(Difference(0.0, -0.01, 0.02, 1, 100))
    '[-1.00, +2.00]'
    """
    return f"[{signed_points(100 * found.low)}, {signed_points(100 * found.high)}]"


def with_interval(found: Difference) -> str:
    """Return a difference in percentage points with its 95 % interval."""
    return f"{signed_points(100 * found.mean)} {interval(found)}"


def moved(found: Difference, up: str, down: str, level: str) -> str:
    """Return a difference in words, with its interval, and whether chance may have made it.

    What rounds to zero needs no chance to explain it.

    Args:
        found: The difference.
        up: What a gain is called, ``{}`` where its size stands.
        down: What a loss is called.
        level: What it is called if it rounds to zero.

    >>> moved(Difference(-0.009, -0.016, -0.002, 3, 99), "adds {}", "costs {}", "changes nothing")
    'costs 0.90 points [-1.60, -0.20]'
    """
    points = 100 * found.mean
    size = f"{abs(points):.2f} points"
    if abs(points) < 0.005:
        return f"{level} {interval(found)}"
    said = (up if points > 0 else down).format(size)
    chance = ", perhaps by chance" if found.low <= 0 <= found.high else ""
    return f"{said} {interval(found)}{chance}"


def plural(count: int, noun: str) -> str:
    """Return the count and the noun.

    >>> plural(1, "run"), plural(9, "run")
    ('1 run', '9 runs')
    """
    return f"{count} {noun}" + "s" * (count != 1)


def seeds_compared(found: int, rows: int) -> str:
    """Return the number of seeds that were compared, and of how many where some are missing."""
    return str(found) if found == rows else f"{found} of {rows}"


def mean_percent(fractions: Sequence[float | None]) -> str:
    """Return mean and spread in percent, without n; nothing where no run has a value."""
    found = [100 * value for value in fractions if value is not None]
    return str(spread(found)).split(" (")[0] if found else ""
