"""Epochs, pairs and constraint: what each column of the comparison holds."""

from dataclasses import replace
from statistics import stdev

import numpy as np
from made_rows import right
from reading import desk, line

from repro.report.comparison import comparison_table
from repro.report.wording import with_interval
from repro.results.row import Row
from repro.results.statistics import difference_interval, pair, paired_difference


def test_the_comparison_names_three_epochs_pairs_and_constraint(seeds: list[Row]) -> None:
    rows = [replace(row, accuracy_last=0.5, accuracy_best_test=0.9) for row in seeds]
    table = comparison_table(desk(rows))
    ours = line(table, "stbp/cifar10", "binary")
    assert ours["last epoch %"] == "50.00 ± 0.00"
    assert ours["best test epoch %"] == "90.00 ± 0.00"
    assert ours["picked on validation %"] == f"77.50 ± {stdev([70, 85]):.2f}"
    both = np.stack([right(15), right(17)]), np.stack([right(14), right(17)])
    limits = with_interval(paired_difference(*both)).removeprefix("-2.50 ")
    expected = f"{-5 / 2:.2f} ± {stdev([-5, 0]):.2f}"
    assert ours["minus parent, points [95 %]"] == f"{expected} {limits}"
    assert ours["parent : child only right"] == "1 : 0"
    assert ours["McNemar p per seed"] == "1, 1"
    assert ours["CFS"] == "0.5 -> 0.25"
    assert line(table, "stbp/cifar10", "FP32")["minus parent, points [95 %]"] == ""
    assert line(table, "stbp/cifar100")["precision"] == "not run"
    without = line(comparison_table(desk(rows[1:])), "stbp/cifar10", "binary ¶")
    assert without["minus parent, points [95 %]"] == expected  # no interval without all parents


def test_a_single_seed_gets_the_paired_interval(seeds: list[Row]) -> None:
    low, high = difference_interval(pair(right(15), right(14)))
    text = line(comparison_table(desk(seeds[:2])), "stbp/cifar10", "binary")
    assert text["minus parent, points [95 %]"] == f"-5.00 [{100 * low:+.2f}, {100 * high:+.2f}]"
