"""One run in a few lines, for the terminal."""

from repro.report.wording import CHANCE, STEP_NAMES, signed_points, steps_in_order
from repro.results.row import Row


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
        part = "" if row.cfs_relative is None else f" ({100 * row.cfs_relative:.2g} % of 2a)"
        size = f"constraint failure score {row.cfs_first:.2g} -> {row.cfs_last:.2g}{part}; {size}"
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
        f"{STEP_NAMES[name]} {100 * row.conversion[name]:.2f} %"
        for name in steps_in_order(row.conversion)
    )
    return [
        f"{row.key}: {100 * row.accuracy_selected:.2f} % of {row.test_images:,} test images right, "
        f"converted from {row.parent} without training",
        f"  {', '.join(steps)}, T {row.recipe.get('time_steps', row.key.cell.time_steps)}",
    ]


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
