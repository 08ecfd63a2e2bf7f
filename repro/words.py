"""Words and numbers as tables and sentences print them, and one run in words."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from repro.cells import CELLS, Cell, Precision, Tier
from repro.rows import Row
from repro.statistics import Difference

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
    "paper_short": "the published recipe but for its schedule: a fifth of the epochs, batches four "
    "times as large, twice the learning rates, TF32 and bfloat16 on a GPU; by rule, not tuned",
    "desk": "same method and code, narrower network, fewer images and epochs",
    "smoke": "seconds on handwritten digits, shown or simulated as events; it proves that the "
    "program works, nothing else",
}
STEPS: Final[Mapping[str, str]] = {
    "ann": "ANN",
    "uncalibrated": "without calibration",
    "light": "light",
    "potential": "potential",
    "weights": "weights",
}
NEEDS: Final[Mapping[str, str]] = {
    "dvs128_gesture": "the recordings must be downloaded, and the paper's tier takes a GPU",
    "cifar10_dvs": "the recordings must be downloaded, and the paper's tier takes a GPU",
    "imagenet": "the images are handed out on registration only, and training takes GPUs for days",
}
SIMULATION: Final = (
    "Events that a simulated camera makes of real images or drawn limbs (docs/simulation.md), not "
    "the recorded data set: a proof that the path learns, comparable with nothing published."
)


def scope(tier: Tier, cells: Sequence[Cell]) -> str:
    """Return what a table is about, for its title.

    >>> scope("desk", CELLS)
    'desk tier'
    """
    return f"{tier} tier" if tuple(cells) == CELLS else f"simulated events, {tier} tier"


def run_in_words(row: Row) -> str:
    """Return three or four lines about one run, for the terminal at its end.

    Accuracies are percent of the test images, each with the way its epoch was chosen; epochs are
    counted from 1, as in the log. A conversion has no epochs: its steps are named instead.
    """
    said = _conversion_in_words(row) if row.conversion else _epochs_in_words(row)
    if row.difference_from_parent is not None:
        assert row.mcnemar_p is not None
        verdict = "more than" if row.mcnemar_p < CHANCE else "no more than"
        above = "ANN" if row.key.is_conversion else "FP32 parent"
        said.append(
            f"  {signed_points(100 * row.difference_from_parent)} points against the {above}: "
            f"{verdict} chance explains (McNemar p {row.mcnemar_p:.2g}; images right in one of the "
            f"two only: {above.split()[-1]} {row.parent_only_right}, this run "
            f"{row.child_only_right})"
        )
    size = (
        f"file {row.file_bytes:,} bytes, {100 * row.file_bytes / row.fp32_bytes:.1f} % of the "
        f"weights in FP32; {_duration(row.wall_seconds)}"
    )
    if row.cfs_first is not None and row.cfs_last is not None:
        size = f"constraint failure score {row.cfs_first:.2g} -> {row.cfs_last:.2g}; {size}"
    return "\n".join([*said, f"  {size}"])


def _epochs_in_words(row: Row) -> list[str]:
    """Return the accuracies of a run that trained."""
    return [
        f"{row.key}: {100 * row.accuracy_selected:.2f} % of {row.test_images:,} test images right "
        f"at the epoch picked on validation ({row.epoch_selected + 1} of {row.epochs_done})",
        f"  last epoch {100 * row.accuracy_last:.2f} %, best test epoch "
        f"{100 * row.accuracy_best_test:.2f} % (epoch {row.epoch_best_test + 1}; optimistic: the "
        "test images picked it)",
    ]


def _conversion_in_words(row: Row) -> list[str]:
    """Return the accuracies of a run that converted an ANN."""
    assert row.conversion is not None
    steps = (
        f"{STEPS.get(name, name)} {100 * row.conversion[name]:.2f} %"
        for name in in_order(row.conversion)
    )
    return [
        f"{row.key}: {100 * row.accuracy_selected:.2f} % of {row.test_images:,} test images right, "
        f"converted from {row.parent} without training",
        f"  {', '.join(steps)}, T {row.recipe.get('time_steps', row.key.cell.time_steps)}",
    ]


def in_order(steps: Collection[str]) -> list[str]:
    """Return the steps of a conversion in the order they are taken; unknown ones come last.

    >>> in_order(["light", "uncalibrated", "ann"])
    ['ann', 'uncalibrated', 'light']
    """
    known = [name for name in STEPS if name in steps]
    return known + [name for name in steps if name not in STEPS]


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


def _duration(seconds: float) -> str:
    """Return a wall time in the two units that tell it apart.

    >>> _duration(1.54), _duration(75), _duration(7260)
    ('1.5 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{int(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
