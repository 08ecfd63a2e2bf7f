"""The summary of a tier says what holds, and nothing of what has not run."""

from made_rows import make_row, right
from reading import desk

from repro.report.summary import summary
from repro.report.tier_rows import TierRows
from repro.results.row import Row


def test_the_summary_says_what_holds(seeds: list[Row]) -> None:
    text = " ".join(summary(desk(seeds)))
    assert text.startswith("4 runs of the desk tier (")
    assert (
        "The one quantised mean against its FP32 parent is binary stbp/cifar10 with -2.50" in text
    )
    assert "No FP32 control of their recipe has run" in text
    assert "1 undecided, 9 not run. 1 of those run have fewer than 3 seeds" in text
    assert "ends at 0.25 or less" in text
    assert "Every saved file" in text
    ternary = make_row(right(5), right(15), precision="ternary")
    both = " ".join(summary(desk([*seeds, ternary])))
    assert "Of 2 quantised means (cell and precision) the lowest" in both
    assert "is ternary stbp/cifar10 with -50.00 points (n 1)." in both
    better = [make_row(right(15)), make_row(right(16), right(15), accuracy_selected=0.5)]
    other = " ".join(summary(desk(better)))
    assert "The accuracy of 1 of 2 saved files is not that of the run" in other
    assert f"by up to {80 - 50:.2f} points" in other
    one = " ".join(summary(desk([make_row(right(15))])))
    assert one.startswith("1 run of the desk tier (")
    assert summary(TierRows(seeds, "paper"))[0] == "No run of the paper tier exists yet."
