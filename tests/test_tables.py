"""Tables: tiers apart, every weakness marked, and the published numbers as the paper has them."""

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import stdev

import pytest
from test_rows import make_row, right

from repro.cells import CELLS, PRECISIONS
from repro.errors import UserError
from repro.memory_table import file_table, memory_table
from repro.published import Published, read_published
from repro.rows import Row
from repro.statistics import difference_interval, exact_p, pair
from repro.tables import Table, accuracy_table, comparison_table, run_in_words, summary_in_words

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
        (cell, precision) for cell in CELLS for precision in PRECISIONS
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
    assert ours["FP32 ours % §"] == f"{75 / 2 + 85 / 2:.2f} ± {stdev([75, 85]):.2f} (n 2)"
    assert ours["binary ours % §"] == f"{70 / 2 + 85 / 2:.2f} ± {stdev([70, 85]):.2f} (n 2)"
    assert ours["ternary ours % §"] == "not run"
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
    assert column(paper, "FP32 ours %") == ["not run"] * len(CELLS)
    assert column(desk, "FP32 ours % §") != column(paper, "FP32 ours %")
    both = [*family, make_row(right(1), tier="paper")]
    assert accuracy_table(both, published, "desk") == desk
    assert line(accuracy_table(both, published, "paper"), "stbp/cifar10")["FP32 ours %"] == (
        f"{100 * 1 / 20:.2f} (n 1)"
    )
    assert not any("§" in text for text in (*paper.header, *paper.notes))


def test_marks_stand_at_the_number_and_in_the_notes(
    published: list[Published], family: list[Row]
) -> None:
    hashes = {str(row.key): row.recipe_hash for row in family}
    dirty = [replace(row, git_dirty=row.precision == "binary") for row in family]
    table = accuracy_table(dirty, published, "desk", hashes | {str(family[0].key): "new"})
    ours = line(table, "stbp/cifar10")
    assert ours["FP32 ours % §"].endswith("(n 2) †")
    assert ours["binary ours % §"].endswith("(n 2) ‡")
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
    assert ours["minus parent, points"] == f"{-5 / 2:.2f} ± {stdev([-5, 0]):.2f}"
    assert ours["parent : child only right"] == "1 : 0"
    assert ours["McNemar p per seed"] == "1, 1"
    assert ours["CFS"] == "0.5 -> 0.25"
    assert line(table, "stbp/cifar10", "FP32")["minus parent, points"] == ""
    assert line(table, "stbp/cifar100")["precision"] == "not run"


def test_a_single_seed_gets_the_paired_interval(family: list[Row]) -> None:
    low, high = difference_interval(pair(right(15), right(14)))
    text = line(comparison_table(family[:2], "desk"), "stbp/cifar10", "binary")
    assert text["minus parent, points"] == f"-5.00 [{100 * low:+.2f}, {100 * high:+.2f}]"


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


def test_markdown_is_aligned_and_csv_reads_back() -> None:
    table = Table("Title", ("a", "long name"), (("x|y", "1,5"), ("z", "")), ("A note.",))
    lines = table.to_markdown().splitlines()
    assert lines[0] == "## Title"
    assert lines[2:6] == [
        "| a    | long name |",
        "| ---- | --------- |",
        "| x\\|y | 1,5       |",
        "| z    |           |",
    ]
    assert lines[-1] == "A note."
    assert list(csv.reader(io.StringIO(table.to_csv()))) == [
        ["a", "long name"],
        ["x|y", "1,5"],
        ["z", ""],
    ]
    with pytest.raises(ValueError, match="needs 2 cells"):
        replace(table, lines=(("x",),))


def test_a_terminal_gets_the_table_aligned_or_turned_on_its_side() -> None:
    table = Table("Title", ("name", "a", "b"), (("x", "1", "22"), ("yyy", "", "4")), ("A note.",))
    upright = ["name  a  b", "----  -  --", "x     1  22", "yyy      4"]
    wide = table.to_terminal(len(upright[1])).splitlines()
    assert wide == ["Title", "=====", *upright, "", "A note."]
    names = ("name", "a" * 9, "b" * 9)
    width = len("aaaaaaaaa  xx  yyy")
    many = replace(table, header=names, lines=(*table.lines, *table.lines))
    part = ["name       x   yyy", "---------  --  ---", "aaaaaaaaa  1", "bbbbbbbbb  22  4"]
    assert many.to_terminal(width).splitlines()[2:-2] == [*part, "", *part]
    assert many.to_terminal(1).count("name ") == len(many.lines)  # one line each sticks out


def test_the_end_of_a_run_says_which_accuracy_is_which() -> None:
    epochs = {"accuracy_last": 0.5, "accuracy_best_test": 0.9, "accuracy_selected": 0.3}
    row = make_row(right(8), right(20), **epochs, epoch_best_test=1, epoch_selected=2)
    text = run_in_words(row)
    assert len(text.splitlines()) == 4
    assert "stbp-cifar10-binary-desk-s0: 30.00 % of 20 test images" in text
    assert "picked on validation (3 of 3)" in text
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


def test_the_summary_says_what_holds(family: list[Row]) -> None:
    text = summary_in_words(family, "desk")
    assert "4 runs of the desk tier" in text
    assert "0 of 1 quantised mean " in text
    assert "lowest is binary stbp/cifar10 with -2.50 points (n 2)" in text
    assert "ends at 0.25 or less" in text
    assert "Every saved file" in text
    better = [make_row(right(15)), make_row(right(16), right(15), accuracy_selected=0.5)]
    other = summary_in_words(better, "desk")
    assert "1 of 1 quantised mean " in other
    assert f"1 of 2 saved files differ in accuracy from their run, by up to {80 - 50:.2f}" in other
    assert summary_in_words(family, "paper").startswith("No run of the paper tier exists yet.")
