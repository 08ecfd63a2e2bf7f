"""One run in words: which accuracy is which, and against whom it is compared."""

import pytest
from made_rows import make_row, right

from repro.cells import CELLS
from repro.report.run_summary import run_in_words
from repro.report.wording import moved
from repro.results.statistics import Difference, exact_p

VGG = CELLS[-1]


def test_the_end_of_a_run_says_which_accuracy_is_which() -> None:
    epochs = {"accuracy_last": 0.5, "accuracy_best_test": 0.9, "accuracy_selected": 0.3}
    row = make_row(right(8), right(20), **epochs, epoch_best_test=1, epoch_selected=2)
    text = run_in_words(row)
    assert len(text.splitlines()) == 4
    assert "stbp-cifar10-binary-desk-s0: 30.00 % of 20 test images" in text
    assert "picked on validation (3 of 4)" in text
    assert "last epoch 50.00 %, best test epoch 90.00 % (epoch 2; optimistic" in text
    assert f"{100 * (8 - 20) / 20:+.2f} points against the FP32 parent: more than chance" in text
    assert f"McNemar p {exact_p(12, 0):.2g}; images right in one of the two only: parent 12" in text
    assert "constraint failure score 0.5 -> 0.25" in text
    assert f"file 441 bytes, {100 * 441 / 4000:.1f} % of the weights in FP32; 1.5 s" in text
    close = run_in_words(make_row(right(19), right(20)))
    assert "-5.00 points against the FP32 parent: no more than chance explains" in close
    parent = run_in_words(make_row(right(20)))
    assert len(parent.splitlines()) == 3
    assert "parent" not in parent
    assert "constraint" not in parent


def test_the_end_of_a_conversion_names_its_steps_and_the_ann() -> None:
    steps = {"light": 14 / 20, "weights": 15 / 20, "ann": 18 / 20, "uncalibrated": 1 / 20}
    recipe = {"time_steps": 32, "conversion": {"pipeline": "weights"}}
    changes = {"precision": "fp32", "conversion": steps, "recipe": recipe}
    row = make_row(right(15), right(18), VGG, **changes)
    lines = run_in_words(row).splitlines()
    assert lines[0] == (
        "snn_calibration-cifar100-fp32-desk-s0: 75.00 % of 20 test images right, converted from "
        "snn_calibration-cifar100-ann-desk-s0 without training"
    )
    assert lines[1] == (
        "  ANN 90.00 %, without calibration 5.00 %, light 70.00 %, weights 75.00 %, T 32"
    )
    assert lines[2].startswith("  -15.00 points against the ANN: no more than chance explains")
    assert lines[2].endswith("images right in one of the two only: ANN 3, this run 0)")
    assert len(lines) == 4
    text = "\n".join(lines)
    assert "FP32 parent" not in text
    assert "epoch" not in text
    ann = run_in_words(make_row(right(18), cell=VGG, precision="ann"))
    assert "ann-desk-s0: 90.00 % of 20 test images right at the epoch picked" in ann
    child = run_in_words(make_row(right(15), right(15), VGG, precision="fp32_control"))
    assert "0.00 points against the FP32 parent" in child
    assert "constraint" not in child


@pytest.mark.parametrize(
    ("mean", "low", "high", "said"),
    [
        (0.03, 0.02, 0.04, "gains 3.00 points [+2.00, +4.00]"),
        (-0.03, -0.04, -0.02, "loses 3.00 points [-4.00, -2.00]"),
        (-0.03, -0.07, 0.01, "loses 3.00 points [-7.00, +1.00], perhaps by chance"),
        (0.0, -0.01, 0.01, "stays [-1.00, +1.00]"),
        (-0.00004, -0.01, 0.01, "stays [-1.00, +1.00]"),
    ],
)
def test_a_difference_in_words(mean: float, low: float, high: float, said: str) -> None:
    found = Difference(mean, low, high, seeds=2, images=100)
    assert moved(found, "gains {}", "loses {}", "stays") == said
