"""Tables: tiers apart, every weakness marked, and the published numbers as the paper has them."""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest
from test_rows import make_row, right

from repro.cells import CELLS, QUANTISED
from repro.errors import UserError
from repro.report.accuracy import accuracy_table
from repro.report.comparison import comparison_table
from repro.report.conversion import conversion_table
from repro.report.saved_files import file_table
from repro.report.summary import summary_in_words
from repro.report.weight_memory import memory_table
from repro.report.wording import with_interval
from repro.results.published import Published, read_published
from repro.results.row import Row
from repro.results.statistics import difference_interval, pair, paired_difference
from repro.table import Table

PAPER = Path(__file__).parent.parent / "results" / "paper.csv"
FP32_FOUND, BINARY_FOUND, TERNARY_FOUND = 6, 4, 0
UNKNOWN_ACCURACIES = 3 * len(CELLS) - FP32_FOUND - BINARY_FOUND - TERNARY_FOUND


@dataclass(frozen=True)
class Numbers:
    """Memory as plain numbers."""

    weights: int
    quantised_weights: int
    bits: int

    @property
    def fp32_bytes(self) -> float:
        return self.weights * 32 / 8

    @property
    def weights_only_bytes(self) -> float:
        return (
            (self.weights - self.quantised_weights) * 32 + self.quantised_weights * self.bits
        ) / 8


@pytest.fixture(scope="module")
def published() -> list[Published]:
    return read_published(PAPER)


@pytest.fixture
def family() -> list[Row]:
    """A parent and a binary child of two seeds: 15 and 17 right of 20 become 14 and 17."""
    rows = []
    for seed, (parent, child) in enumerate([(15, 14), (17, 17)]):
        rows += [
            make_row(right(parent), seed=seed),
            make_row(right(child), right(parent), seed=seed),
        ]
    return rows


def column(table: Table, name: str) -> list[str]:
    return [line[table.header.index(name)] for line in table.lines]


def line(table: Table, *start: str) -> dict[str, str]:
    (found,) = [cells for cells in table.lines if cells[: len(start)] == start]
    return dict(zip(table.header, found, strict=True))


def test_the_published_accuracies_cover_every_cell(published: list[Published]) -> None:
    accuracies = [item for item in published if item.quantity == "accuracy"]
    assert {(item.cell, item.precision) for item in accuracies} == {
        (cell, precision) for cell in CELLS for precision in ("fp32", *QUANTISED)
    }
    unknown = [item for item in accuracies if item.value == "n/a"]
    assert len(unknown) == UNKNOWN_ACCURACIES
    assert {item.grade for item in unknown} == {"n/a"}
    assert {item.grade for item in published if item.value != "n/a"} == {"P", "S", "D"}


def test_the_published_numbers_agree_with_each_other(published: list[Published]) -> None:
    known = {(i.cell, i.precision, i.quantity): i.value for i in published}
    for cell in CELLS:
        counts = [int(known[cell, "any", name]) for name in ("weights", "quantised_weights")]
        assert float(known[cell, "fp32", "memory"]) == pytest.approx(counts[0] * 4 / 1e6, abs=6e-4)
        for precision, bits in (("binary", 1), ("ternary", 2)):
            ours = Numbers(*counts, bits)
            megabytes, ratio = (known[cell, precision, n] for n in ("memory", "memory_ratio"))
            assert float(megabytes) == pytest.approx(ours.weights_only_bytes / 1e6, abs=6e-4)
            percent = 100 * ours.weights_only_bytes / ours.fp32_bytes
            assert float(ratio) == pytest.approx(percent, abs=6e-3)
    for cell in (CELLS[3], CELLS[4]):
        share = int(known[cell, "fp32", "correct_images"]) / int(known[cell, "fp32", "test_images"])
        assert float(known[cell, "fp32", "accuracy"]) == pytest.approx(100 * share, abs=5e-3)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_a_foreign_file_of_published_numbers_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "paper.csv"
    with pytest.raises(UserError, match="is missing: run in the project's folder, or restore"):
        read_published(path)
    path.write_text(text)
    with pytest.raises(UserError, match="columns"):
        read_published(path)
    path.write_text(PAPER.read_text().replace("vgg16", "vgg17"))
    with pytest.raises(UserError, match=r"line \d+: no cell .*vgg17"):
        read_published(path)
    path.write_text(PAPER.read_text().replace("97.92", "97,92", 1))  # two columns of one number
    with pytest.raises(UserError, match=r"line \d+: 11 columns, expected 10; restore"):
        read_published(path)
    path.write_text(PAPER.read_text().replace("97.92", "97.9x", 1))
    with pytest.raises(UserError, match=r"line \d+: value .*expected a number or n/a; restore"):
        read_published(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is no text"):
        read_published(path)


def test_accuracy_is_mean_and_spread_over_seeds(
    published: list[Published], family: list[Row]
) -> None:
    rows = [replace(row, accuracy_last=0.5, accuracy_best_test=0.9) for row in family]
    table = accuracy_table(rows, published, "desk", {str(r.key): r.recipe_hash for r in rows})
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


def test_tiers_never_share_a_column(published: list[Published], family: list[Row]) -> None:
    desk = accuracy_table(family, published, "desk")
    paper = accuracy_table(family, published, "paper")
    assert column(paper, "FP32 parent, ours %") == ["not run"] * len(CELLS)
    assert column(desk, "FP32 parent, ours % §") != column(paper, "FP32 parent, ours %")
    both = [*family, make_row(right(1), tier="paper")]
    assert accuracy_table(both, published, "desk") == desk
    assert line(accuracy_table(both, published, "paper"), "stbp/cifar10")[
        "FP32 parent, ours %"
    ] == (f"{100 * 1 / 20:.2f} (n 1)")
    assert not any("§" in text for text in (*paper.header, *paper.notes))


def test_marks_stand_at_the_number_and_in_the_notes(
    published: list[Published], family: list[Row]
) -> None:
    hashes = {str(row.key): row.recipe_hash for row in family}
    dirty = [replace(row, git_dirty=row.precision == "binary") for row in family]
    table = accuracy_table(dirty, published, "desk", hashes | {str(family[0].key): "new"})
    ours = line(table, "stbp/cifar10")
    assert ours["FP32 parent, ours % §"].endswith("(n 2) †")
    assert ours["binary, ours % §"].endswith("(n 2) ‡")
    assert [note[0] for note in table.notes[-2:]] == ["†", "‡"]
    unchecked = accuracy_table(family, published, "desk", None)
    assert unchecked.notes[-1] == "Whether recipes have changed since was not checked."


def test_the_comparison_names_three_epochs_pairs_and_constraint(family: list[Row]) -> None:
    rows = [replace(row, accuracy_last=0.5, accuracy_best_test=0.9) for row in family]
    table = comparison_table(rows, "desk")
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
    without = line(comparison_table(rows[1:], "desk"), "stbp/cifar10", "binary ¶")
    assert without["minus parent, points [95 %]"] == expected  # no interval without all parents


def test_a_single_seed_gets_the_paired_interval(family: list[Row]) -> None:
    low, high = difference_interval(pair(right(15), right(14)))
    text = line(comparison_table(family[:2], "desk"), "stbp/cifar10", "binary")
    assert text["minus parent, points [95 %]"] == f"-5.00 [{100 * low:+.2f}, {100 * high:+.2f}]"


def test_memory_computed_stands_above_published(published: list[Published]) -> None:
    known = {(i.cell, i.quantity): int(i.value) for i in published if i.precision == "any"}
    memory = {
        str(cell): {
            name: Numbers(known[cell, "weights"], known[cell, "quantised_weights"], bits)
            for name, bits in (("binary", 1), ("ternary", 2))
        }
        for cell in CELLS
    }
    table = memory_table(published, memory)
    assert table.notes[0].endswith("in 9 of the 9 cells that are computed, of 9.")
    vgg = line(table, "snn_calibration/cifar100", "vgg16", "computed")
    assert vgg["binary MB (of FP32)"] == "2.050 (3.47 %)"
    wrong = memory | {"stbp/cifar10": memory["stbp/cifar100"]}
    assert "8 of the 9" in memory_table(published, wrong).notes[0]
    one = {"stbp/cifar10": memory["stbp/cifar10"]}
    assert "1 of the 1 cells that are computed, of 9" in memory_table(published, one).notes[0]
    assert "0 of the 0" in memory_table(published, {}).notes[0]


def test_the_measured_file_stands_beside_the_computed_bytes(family: list[Row]) -> None:
    rows = [replace(row, accuracy_selected=row.accuracy_file - 0.05) for row in family[:2]]
    ours = line(file_table(rows, "desk"), "stbp/cifar10", "binary")
    assert (ours["computed bytes"], ours["file bytes"]) == ("420", "441")
    assert ours["deviation %"] == f"{100 * (441 / 420 - 1):+.2f}"
    assert ours["file minus run, points"] == "+5.00"
    assert line(file_table(family[:2], "desk"), "stbp/cifar10", "FP32")[
        "file minus run, points"
    ] == ("0.00")
    assert file_table([], "desk").lines[0][0] == "not run"


def test_the_control_has_its_column_and_its_words_below(
    published: list[Published], family: list[Row]
) -> None:
    without = accuracy_table(family, published, "desk")
    assert any("no FP32 control of the same seeds has run" in note for note in without.notes)
    rows = [*family]
    for seed, parent in enumerate((15, 17)):
        rows.append(make_row(right(18), right(parent), seed=seed, precision="fp32_control"))
    table = accuracy_table(rows, published, "desk")
    ours = line(table, "stbp/cifar10")
    assert ours["FP32 control, ours % §"] == "90.00 ± 0.00 (n 2)"
    (said,) = [note for note in table.notes if note.startswith("stbp/cifar10: binary")]
    assert "is 2.50 points below its parent" in said
    assert "with FP32 weights, gains 10.00 points" in said
    assert "CBP itself costs 12.50 points" in said
    assert not any(note.startswith("△") for note in table.notes)
    other = [replace(r, epoch_lr_drop=1) if r.precision == "binary" else r for r in rows]
    notes = accuracy_table(other, published, "desk").notes
    assert any(note.endswith(", perhaps by chance △ (n 2).") for note in notes)
    assert any(note.startswith("△ the learning rate fell") for note in notes)
    start = table.header.index("FP32 parent, ours % §")
    assert [name.split(",")[0] for name in table.header[start : start + 4]] == [
        *("FP32 parent", "FP32 control", "binary", "ternary")
    ]


def converted(seed: int) -> list[Row]:
    """An ANN, 18 right of 20, and the network converted from it, 15 and for other seeds less."""
    steps = {"ann": 18 / 20, "uncalibrated": 2 / 20, "light": (15 - seed) / 20}
    ann = make_row(right(18), cell=CELLS[-1], precision="ann", seed=seed)
    named = {"precision": "fp32", "seed": seed, "conversion": steps}
    return [ann, make_row(right(15 - seed), right(18), CELLS[-1], **named)]


def test_a_conversion_has_its_own_table() -> None:
    rows = [*converted(0), *converted(1)]
    table = conversion_table(rows, "desk")
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
    alone = line(conversion_table(rows[1:2], "desk"), "snn_calibration/cifar100")
    assert (alone["n"], alone[loss]) == ("1 ¶", "ANN's row missing")


def test_further_steps_of_the_calibration_have_columns_where_they_were_taken() -> None:
    names = conversion_table([], "desk").header
    assert names[3:6] == ("ANN %", "without calibration %", "light %")
    assert len(names) == len(("cell", "T", "n", "ANN", "uncalibrated", "light", "loss"))
    steps = {"ann": 0.9, "uncalibrated": 0.1, "light": 0.7, "weights": 0.75}
    changes = {"conversion": steps, "recipe": {"conversion": {"pipeline": "weights"}}}
    row = make_row(right(15), right(18), CELLS[-2], precision="fp32", **changes)
    table = conversion_table([*converted(0), row], "desk")
    assert table.header[6:7] == ("weights %",)
    assert line(table, "snn_calibration/cifar10")["weights %"] == "75.00"
    assert line(table, "snn_calibration/cifar100")["weights %"] == ""


def test_an_ann_is_no_column_of_accuracy_and_converting_it_no_loss_by_quantisation(
    published: list[Published],
) -> None:
    rows = converted(0)
    ours = line(accuracy_table(rows, published, "desk"), "snn_calibration/cifar100")
    assert ours["FP32 parent, ours % §"] == "75.00 (n 1)"
    assert not any("90.00" in text for text in ours.values())
    table = comparison_table(rows, "desk")
    assert line(table, "snn_calibration/cifar100", "ANN")["picked on validation %"] == "90.00"
    spiking = line(table, "snn_calibration/cifar100", "FP32")
    assert spiking["minus parent, points [95 %]"].startswith("-15.00 [")
    assert spiking["last epoch %"] == spiking["best test epoch %"] == ""
    assert "quantised" not in summary_in_words(rows, "desk")
    assert "points" not in summary_in_words(rows, "desk")
    child = make_row(right(14), right(15), CELLS[-1])
    assert "quantised" in summary_in_words([*rows, child], "desk")


def test_the_summary_says_what_holds(family: list[Row]) -> None:
    text = summary_in_words(family, "desk")
    assert text.startswith("4 runs of the desk tier (")
    assert (
        "The one quantised mean against its FP32 parent is binary stbp/cifar10 with -2.50" in text
    )
    assert "No FP32 control has run with them" in text
    assert "precision: 0 held, 0 not held, 1 undecided, 9 not run." in text
    assert "ends at 0.25 or less" in text
    assert "Every saved file" in text
    ternary = make_row(right(5), right(15), precision="ternary")
    both = summary_in_words([*family, ternary], "desk")
    assert "Of 2 quantised means (cell and precision) the lowest" in both
    assert "is ternary stbp/cifar10 with -50.00 points (n 1)." in both
    better = [make_row(right(15)), make_row(right(16), right(15), accuracy_selected=0.5)]
    other = summary_in_words(better, "desk")
    assert "The accuracy of 1 of 2 saved files is not that of the run" in other
    assert f"by up to {80 - 50:.2f} points" in other
    one = summary_in_words([make_row(right(15))], "desk")
    assert one.startswith("1 run of the desk tier (")
    assert summary_in_words(family, "paper").startswith("No run of the paper tier exists yet.")
