"""Accuracy: tiers apart, every weakness marked, the published numbers as the paper has them."""

from dataclasses import replace
from statistics import stdev

from made_rows import family, make_row, right
from reading import column, desk, line

from repro.cells import CELLS
from repro.report.accuracy import accuracy_table
from repro.report.comparison import comparison_table
from repro.report.summary import summary
from repro.report.tier_rows import TierRows
from repro.results.published import PublishedNumbers
from repro.results.row import Row


def test_accuracy_is_mean_and_spread_over_seeds(
    published: PublishedNumbers, seeds: list[Row]
) -> None:
    rows = [replace(row, accuracy_last=0.5, accuracy_best_test=0.9) for row in seeds]
    table = accuracy_table(desk(rows, {str(r.key): r.recipe_hash for r in rows}), published)
    ours = line(table, "stbp/cifar10")
    assert ours["FP32 parent, ours % §"] == f"{75 / 2 + 85 / 2:.2f} ± {stdev([75, 85]):.2f} (n 2)"
    assert ours["binary, ours % §"] == f"{70 / 2 + 85 / 2:.2f} ± {stdev([70, 85]):.2f} (n 2)"
    assert ours["ternary, ours % §"] == "not run"
    assert ours["FP32 control, ours % §"] == "not run"
    assert ours["memory, % of FP32 (binary / ternary)"] == (
        f"{100 * (40 * 32 + 960) / 8 / 4000:.2f} / not run"
    )
    assert ours["FP32 published %"] == "n/a"
    assert ours["T"] == "8 (ours 4)"
    assert line(table, "tssl_bp/cifar10")["FP32 published %"] == "88.98 ± 0.27 (P)"
    assert line(table, "surrogate/cifar10_dvs")["binary published %"] == "74.70 (S)"
    assert len(table.lines) == len(CELLS)
    assert any(note.startswith("§ Tier desk, not the paper's") for note in table.notes)
    assert not any("†" in note for note in table.notes)


def test_tiers_never_share_a_column(published: PublishedNumbers, seeds: list[Row]) -> None:
    ours = accuracy_table(desk(seeds), published)
    paper = accuracy_table(TierRows(seeds, "paper"), published)
    assert column(paper, "FP32 parent, ours %") == ["not run"] * len(CELLS)
    assert column(ours, "FP32 parent, ours % §") != column(paper, "FP32 parent, ours %")
    both = [*seeds, make_row(right(1), tier="paper")]
    assert accuracy_table(desk(both), published) == ours
    assert line(accuracy_table(TierRows(both, "paper"), published), "stbp/cifar10")[
        "FP32 parent, ours %"
    ] == (f"{100 * 1 / 20:.2f} (n 1)")
    assert not any("§" in text for text in (*paper.header, *paper.notes))


def test_marks_stand_at_the_number_and_in_the_notes(
    published: PublishedNumbers, seeds: list[Row]
) -> None:
    hashes = {str(row.key): row.recipe_hash for row in seeds}
    dirty = [replace(row, git_dirty=row.precision == "binary") for row in seeds]
    table = accuracy_table(desk(dirty, hashes | {str(seeds[0].key): "new"}), published)
    ours = line(table, "stbp/cifar10")
    assert ours["FP32 parent, ours % §"].endswith("(n 2) †")
    assert ours["binary, ours % §"].endswith("(n 2) ‡")
    assert [note[0] for note in table.notes[-2:]] == ["†", "‡"]
    unchecked = accuracy_table(desk(seeds), published)
    assert unchecked.notes[-1] == "Whether recipes have changed since was not checked."


def test_the_control_has_its_column_and_its_words_below(
    published: PublishedNumbers, seeds: list[Row]
) -> None:
    without = accuracy_table(desk(seeds), published)
    said = "no FP32 control of the same seeds and recipe has run"
    assert any(said in note for note in without.notes)
    rows = [*seeds]
    for seed, parent in enumerate((15, 17)):
        rows.append(make_row(right(18), right(parent), seed=seed, precision="fp32_control"))
    table = accuracy_table(desk(rows), published)
    ours = line(table, "stbp/cifar10")
    assert ours["FP32 control, ours % §"] == "90.00 ± 0.00 (n 2)"
    (said,) = [note for note in table.notes if note.startswith("stbp/cifar10: binary")]
    assert "is 2.50 points below its parent" in said
    assert "with FP32 weights, gains 10.00 points" in said
    assert "CBP itself costs 12.50 points" in said
    assert not any(note.startswith("△") for note in table.notes)
    other = [replace(r, epoch_lr_drop=1) if r.precision == "binary" else r for r in rows]
    notes = accuracy_table(desk(other), published).notes
    assert any(note.endswith(", perhaps by chance △ (n 2).") for note in notes)
    assert any(note.startswith("△ the learning rate fell") for note in notes)
    start = table.header.index("FP32 parent, ours % §")
    assert [name.split(",")[0] for name in table.header[start : start + 4]] == [
        *("FP32 parent", "FP32 control", "binary", "ternary")
    ]


def test_an_ann_is_no_column_of_accuracy_and_converting_it_no_loss_by_quantisation(
    published: PublishedNumbers,
) -> None:
    rows = family(CELLS[-1], ann=18, fp32=15)
    ours = line(accuracy_table(desk(rows), published), "snn_calibration/cifar100")
    assert ours["FP32 parent, ours % §"] == "75.00 (n 1)"
    assert not any("90.00" in text for text in ours.values())
    table = comparison_table(desk(rows))
    assert line(table, "snn_calibration/cifar100", "ANN")["picked on validation %"] == "90.00"
    spiking = line(table, "snn_calibration/cifar100", "FP32")
    assert spiking["minus parent, points [95 %]"].startswith("-15.00 [")
    assert spiking["last epoch %"] == spiking["best test epoch %"] == ""
    assert "quantised" not in " ".join(summary(desk(rows)))
    assert "points" not in " ".join(summary(desk(rows)))
    child = make_row(right(14), right(15), CELLS[-1])
    assert "quantised" in " ".join(summary(desk([*rows, child])))
