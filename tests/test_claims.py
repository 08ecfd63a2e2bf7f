"""Claims are decided by intervals, and a gain is split into the control's part and that of CBP."""

from dataclasses import replace

import numpy as np
import pytest
from test_rows import make_row, right

from repro.cells import CELLS, Cell
from repro.claims import (
    LOSS_PAIRS,
    RISE_CELL,
    all_parts,
    claims_in_words,
    claims_table,
    comparable,
    control_in_words,
    control_table,
)
from repro.groups import grouped
from repro.rows import Row
from repro.statistics import paired_difference
from repro.text_table import Table
from repro.words import with_interval

IMAGES = 1000
STBP, STBP_NAME = CELLS[1], "stbp/cifar10"


def some(count: int, seed: int) -> np.ndarray:
    """So many images right, which ones depends a little on the seed."""
    return np.roll(right(count, of=IMAGES), 3 * seed)


def run(cell: Cell = STBP, seeds: int = 3, **counts: int) -> list[Row]:
    """Rows of a cell by precision -> images right, and of the ANN of a converted one."""
    rows = []
    for seed in range(seeds):
        parent = some(counts["fp32"], seed)
        for precision, count in counts.items():
            above = None if precision == "fp32" else parent
            if precision == "fp32" and cell.converted:
                above = some(900, seed)
                rows.append(make_row(above, cell=cell, precision="ann", seed=seed))
            correct = some(count, seed)
            rows.append(make_row(correct, above, cell, precision=precision, seed=seed))
    return rows


def line(table: Table, *start: str) -> dict[str, str]:
    (found,) = [cells for cells in table.lines if cells[: len(start)] == start]
    return dict(zip(table.header, found, strict=True))


def expected(before: int, after: int, seeds: int = 3) -> str:
    """The difference as a table prints it, from the images themselves."""
    old, new = (np.stack([some(count, seed) for seed in range(seeds)]) for count in (before, after))
    return with_interval(paired_difference(old, new))


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_gain_is_the_controls_part_plus_that_of_cbp(seeds: int) -> None:
    rows = run(seeds=seeds, fp32=600, fp32_control=630, binary=621, ternary=590)
    ours = line(control_table(rows, "desk"), "stbp/cifar10", "binary")
    assert list(ours.values())[2:] == [
        str(seeds),
        expected(600, 621, seeds),
        expected(600, 630, seeds),
        expected(630, 621, seeds),
    ]
    said = {parts.precision: parts.in_words() for parts in all_parts(grouped(rows, "desk"))}
    assert said["binary"].startswith("stbp/cifar10: binary is 2.10 points above its parent [+")
    assert "the control, trained as long with FP32 weights, gains 3.00" in said["binary"]
    assert "; CBP itself costs 0.90 points [-" in said["binary"]
    assert said["binary"].endswith(f"(n {seeds}).")
    assert "ternary is 1.00 points below its parent" in said["ternary"]
    assert "CBP itself costs 4.00 points" in said["ternary"]


def test_without_a_control_nothing_is_guessed() -> None:
    rows = run(fp32=600, binary=621)
    ours = line(control_table(rows, "desk"), "stbp/cifar10", "binary")
    assert ours["quantised minus parent"] == expected(600, 621)
    assert [text for text in ours.values() if text == "control not run"] == ["control not run"] * 2
    (parts,) = all_parts(grouped(rows, "desk"))
    assert "no FP32 control of the same seeds has run" in parts.in_words()
    assert "unknown" in control_in_words(grouped(rows, "desk"))[0]
    assert control_table([], "desk").lines[0][0] == "not run"
    assert control_in_words({}) == []


def test_a_control_of_some_seeds_is_compared_on_those_only() -> None:
    rows = run(fp32=600, fp32_control=630, binary=621)
    fewer = [row for row in rows if (row.precision, row.seed) != ("fp32_control", 2)]
    ours = line(control_table(fewer, "desk"), "stbp/cifar10", "binary")
    assert ours["n"] == "2 of 3"
    assert ours["quantised minus parent"] == expected(600, 621, seeds=2)
    claim = line(claims_table(fewer, "desk"), "stbp/cifar10", "binary")
    assert (claim["n"], claim["minus parent, points [95 %]"]) == ("3", expected(600, 621))


def test_rows_of_other_test_images_are_not_compared() -> None:
    rows = run(fp32=600, binary=621)
    other = [
        replace(row, data_checksum="4d") if (row.precision, row.seed) == ("fp32", 1) else row
        for row in rows
    ]
    assert len(comparable(grouped(rows, "desk"), STBP, "fp32", "binary")) == 3
    found = comparable(grouped(other, "desk"), STBP, "fp32", "binary")
    assert [(one.seed, two.seed) for one, two in found] == [(0, 0), (2, 2)]
    assert comparable(grouped(rows, "desk"), STBP, "fp32", "ternary") == []
    both = [replace(row, data_checksum="4d") if row.seed == 1 else row for row in rows]
    found = comparable(grouped(both, "desk"), STBP, "fp32", "binary")
    assert [one.seed for one, _ in found] == [0, 2]  # seeds share their images, or do not count


@pytest.mark.parametrize(
    ("binary", "verdict"), [(600, "held"), (592, "undecided"), (550, "not held")]
)
def test_the_claim_of_a_small_loss_is_decided_by_the_interval(binary: int, verdict: str) -> None:
    rows = run(fp32=600, binary=binary)
    table = claims_table(rows, "desk")
    ours = line(table, "stbp/cifar10", "binary")
    assert ours["verdict"] == f"{verdict} (desk scale only)"
    assert line(table, "stbp/cifar10", "ternary")["verdict"] == "not run"
    assert len(table.lines) == len(LOSS_PAIRS) + 1
    worst = "not held" if verdict == "not held" else "undecided"  # nine others have not run
    assert f"is {worst} (desk scale only); its 10 pairs" in table.notes[0]
    paper = [
        replace(row, tier="paper", parent=row.parent and row.parent.replace("desk", "paper"))
        for row in rows
    ]
    assert line(claims_table(paper, "paper"), "stbp/cifar10", "binary")["verdict"] == verdict


def test_the_worst_case_holds_only_if_every_cell_holds() -> None:
    rows: list[Row] = []
    for cell in dict.fromkeys(cell for cell, _ in LOSS_PAIRS):
        rows += run(cell, fp32=600, binary=605, ternary=601)
    (said,) = claims_in_words(grouped(rows, "desk"), "desk")
    assert "is held (desk scale only); its 10 pairs of cell and precision: 10 held, 0 not" in said
    others = [row for row in rows if row.key.cell != STBP] + run(fp32=600, binary=605, ternary=500)
    (said,) = claims_in_words(grouped(others, "desk"), "desk")
    assert "is not held (desk scale only)" in said
    assert "9 held, 1 not held, 0 undecided, 0 not run" in said
    assert claims_in_words(grouped(run(fp32=600), "desk"), "desk") == []


@pytest.mark.parametrize(
    ("binary", "verdict"),
    [
        (637, "held, +3.72 lies inside the interval"),
        (610, "held, +3.72 lies above the interval"),
        (700, "held, +3.72 lies below the interval"),
        (601, "undecided, +3.72 lies above the interval"),
        (560, "not held, +3.72 lies above the interval"),
    ],
)
def test_the_claim_of_a_rise_is_tested_against_0_and_against_its_size(
    binary: int, verdict: str
) -> None:
    rows = run(RISE_CELL, fp32=600, binary=binary)
    table = claims_table(rows, "desk")
    ours = line(table, "snn_calibration/cifar100", "binary")
    assert ours["verdict"] == f"{verdict} (desk scale only)"
    share = f"{100 * (40 * 32 + 960) / 8 / 4000:.2f} %"
    assert f"at 3.5 % of the weight memory on {RISE_CELL}: ours (desk scale only)" in table.notes[1]
    assert table.notes[1].endswith(f"at {share}; its FP32 control has not run.")
    with_control = run(RISE_CELL, fp32=600, fp32_control=640, binary=binary)
    (said,) = claims_table(with_control, "desk").notes[1:2]
    assert "; its FP32 control rises by 4.00 points [+" in said
    assert not any("rise of" in note for note in claims_table([], "desk").notes)


def test_a_missing_parent_leaves_the_claim_open() -> None:
    rows = [row for row in run(fp32=600, binary=605) if row.precision == "binary"]
    ours = line(claims_table(rows, "desk"), "stbp/cifar10", "binary ¶")
    assert ours["verdict"] == "parent's row missing"
    assert all_parts(grouped(rows, "desk")) == []


def test_marks_of_the_control_weaken_the_parts() -> None:
    rows = run(fp32=600, fp32_control=630, binary=621)
    dirty = [replace(row, git_dirty=row.precision == "fp32_control") for row in rows]
    table = control_table(dirty, "desk")
    assert table.lines[0][1] == "binary ‡"
    assert any(note.startswith("‡") for note in table.notes)
    assert control_table(rows, "desk").lines[0][1] == "binary"
    assert line(claims_table(dirty, "desk"), STBP_NAME, "binary")["n"] == "3"  # needs no control


def test_marks_of_the_parent_weaken_claims_and_parts() -> None:
    rows = run(fp32=600, fp32_control=630, binary=621)
    dirty = [replace(row, git_dirty=row.precision == "fp32") for row in rows]
    assert control_table(dirty, "desk").lines[0][1] == "binary ‡"
    assert line(claims_table(dirty, "desk"), STBP_NAME, "binary ‡")["n"] == "3"
    assert line(claims_table(rows, "desk"), STBP_NAME, "binary")["n"] == "3"


def test_the_summary_of_the_controls_names_the_extremes() -> None:
    rows = run(fp32=600, fp32_control=630, binary=621)
    (said,) = control_in_words(grouped(rows, "desk"))
    assert said.endswith("CBP itself moves the accuracy by -0.90 points (binary stbp/cifar10).")
    rows = run(fp32=600, fp32_control=630, binary=621, ternary=640)
    (said,) = control_in_words(grouped(rows, "desk"))
    extremes = "by -0.90 points (binary stbp/cifar10) to +1.00 points (ternary stbp/cifar10)."
    assert said.endswith(extremes)
    more = [*rows, *run(CELLS[2], fp32=600, binary=600)]
    assert "; without a control: 1 of 3." in control_in_words(grouped(more, "desk"))[0]
