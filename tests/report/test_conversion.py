"""Conversions: a column per step of the calibration, and the loss against the ANN."""

from statistics import stdev

import numpy as np
from made_rows import family, make_row, right
from reading import desk, line

from repro.cells import CELLS
from repro.report.conversion import conversion_table
from repro.report.wording import with_interval
from repro.results.statistics import paired_difference

VGG = CELLS[-1]


def test_a_conversion_has_its_own_table() -> None:
    rows = [*family(VGG, ann=18, fp32=15), *family(VGG, seed=1, ann=18, fp32=14)]
    table = conversion_table(desk(rows))
    ours = line(table, "snn_calibration/cifar100")
    assert (ours["T"], ours["n"]) == ("32 (ours 4)", "2")
    assert ours["ANN %"] == "90.00 ± 0.00"
    assert ours["without calibration %"] == "10.00 ± 0.00"
    assert ours["light %"] == f"{100 * 14.5 / 20:.2f} ± {stdev([75, 70]):.2f}"
    pairs = np.stack([right(18)] * 2), np.stack([right(15), right(14)])
    loss = "spiking minus ANN, points [95 %]"
    assert ours[loss] == with_interval(paired_difference(*pairs))
    other = line(table, "snn_calibration/cifar10")
    assert (other["n"], other["ANN %"]) == ("0", "not run")
    alone = line(conversion_table(desk(rows[1:2])), "snn_calibration/cifar100")
    assert (alone["n"], alone[loss]) == ("1 ¶", "ANN's row missing")


def test_further_steps_of_the_calibration_have_columns_where_they_were_taken() -> None:
    names = conversion_table(desk([])).header
    assert names[3:6] == ("ANN %", "without calibration %", "light %")
    assert len(names) == len(("cell", "T", "n", "ANN", "uncalibrated", "light", "loss"))
    steps = {"ann": 0.9, "uncalibrated": 0.1, "light": 0.7, "weights": 0.75}
    changes = {"conversion": steps, "recipe": {"conversion": {"pipeline": "weights"}}}
    row = make_row(right(15), right(18), CELLS[-2], precision="fp32", **changes)
    table = conversion_table(desk([*family(VGG, ann=18, fp32=15), row]))
    assert table.header[6:7] == ("weights %",)
    assert line(table, "snn_calibration/cifar10")["weights %"] == "75.00"
    assert line(table, "snn_calibration/cifar100")["weights %"] == ""
