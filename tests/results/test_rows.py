"""Rows survive their files, and whatever is no row is refused with one clear line."""

import dataclasses
import json
import os
import typing
from pathlib import Path

import numpy as np
import pytest
from made_rows import STBP, make_row, rewrite, right

from repro.cells import CELLS, Cell
from repro.errors import UserError
from repro.files import checksum
from repro.provenance import versions
from repro.recipes.fields import Pipeline
from repro.results.row import PARENT, STEPS_TAKEN, Row, pack_correct, unpack_correct
from repro.results.rows import read_rows, write_row
from repro.results.statistics import exact_p


def damage(folder: Path, **changes: object) -> Path:
    return rewrite(write_row(make_row(right(15)), folder), **changes)


def test_a_row_survives_its_file_and_differs_from_its_neighbour(tmp_path: Path) -> None:
    parent, child = make_row(right(15)), make_row(right(14), right(15))
    paths = [write_row(row, tmp_path) for row in (parent, child)]
    assert [path.name for path in paths] == [
        "stbp-cifar10-fp32-desk-s0.json",
        "stbp-cifar10-binary-desk-s0.json",
    ]
    assert read_rows(tmp_path) == [child, parent]
    assert parent != child


def test_the_file_has_sorted_keys_one_space_and_a_last_newline(tmp_path: Path) -> None:
    text = write_row(make_row(right(3)), tmp_path).read_text()
    names = [line.split('"')[1] for line in text.splitlines() if line.startswith(' "')]
    assert names == sorted(["checksum", *(field.name for field in dataclasses.fields(Row))])
    assert text.endswith("}\n")


def test_a_write_that_fails_leaves_the_old_row_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_row(make_row(right(3)), tmp_path)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(UserError, match=r"cannot write .*: disk full"):
        write_row(make_row(right(4)), tmp_path)
    assert [row.accuracy_file for row in read_rows(tmp_path)] == [3 / 20]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_is_no_empty_one(tmp_path: Path) -> None:
    assert read_rows(tmp_path) == []
    with pytest.raises(UserError, match="none: no such folder"):
        read_rows(tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colour": "red"}, "unknown fields: colour"),
        ({"seed": "0"}, "seed is '0', expected a valid integer"),
        ({"seed": True}, "seed is True, expected a valid integer"),
        ({"git_dirty": 0}, "git_dirty is 0, expected a valid boolean"),
        ({"cfs_last": "low"}, "cfs_last is 'low', expected a valid number"),
        ({"accuracy_last": 75.0}, "accuracy_last is 75.0, expected less than or equal to 1"),
        ({"accuracy_last": float("nan")}, "Out of range float values are not JSON"),
        ({"file_bytes": -1}, "file_bytes is -1"),
        ({"test_images": 0}, "test_images is 0"),
        ({"tier": "big"}, "tier is 'big', expected 'paper', 'paper_short', 'desk' or 'smoke'"),
        ({"method": "ann"}, "method is 'ann', expected 'tssl_bp', 'stbp', "),
        ({"seed": 7}, "it holds the run stbp-cifar10-fp32-desk-s7"),
        ({"correct": "ff"}, "correct is not hex of 20 bits"),
        ({"correct": "zzzzzz"}, "correct is not hex of 20 bits"),
        ({"accuracy_file": 0.5}, "correct has 15 right images"),
        ({"parent": "x"}, "only parent of the parent's fields are set"),
        ({"dataset": "cifar100", "network": "vgg16"}, "unknown cell stbp/cifar100/vgg16"),
        ({"firing_rates": {"conv1": "a"}}, "firing_rates.conv1 is 'a', expected a valid number"),
        ({"firing_rates": {"conv1": 1.5}}, "firing_rates.conv1 is 1.5, expected less than or eq"),
        ({"firing_rates": {"conv1": -0.1}}, "firing_rates.conv1 is -0.1, expected greater than"),
        ({"epoch_lr_drop": -1}, "epoch_lr_drop is -1, expected greater than or equal to 0"),
    ],
)
def test_a_foreign_row_is_one_line_with_file_and_remedy(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    path = damage(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        read_rows(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert said in text
    assert text.endswith("restore it from git, or delete it and run that cell again")
    assert "\n" not in text


@pytest.mark.parametrize("text", ["", "{", "[]", "<<<<<<< HEAD\n{}", "{}"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    damage(tmp_path).write_text(text)
    with pytest.raises(
        UserError, match="restore it from git, or delete it and run that cell again"
    ):
        read_rows(tmp_path)


CHANGES: dict[str, object] = {
    "recipe_hash": "0" * 16,
    "git_sha": "1" * 40,
    "wall_seconds": 3.5,
    "accuracy_val_selected": 0.75,
    "epoch_selected": 0,
    "git_dirty": True,
    "cfs_selected": 0.5,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_row_that_was_changed_is_refused(name: str, tmp_path: Path) -> None:
    """Values that fit all others, too."""
    path = write_row(make_row(right(15)), tmp_path)
    fields = json.loads(path.read_text())
    assert fields[name] != CHANGES[name]
    path.write_text(json.dumps(fields | {name: CHANGES[name]}))
    with pytest.raises(UserError, match=r"its checksum is \w+\.\., it says .*: it was changed"):
        read_rows(tmp_path)


def test_every_flipped_bit_of_a_row_is_found(tmp_path: Path) -> None:
    """But for what says the same in JSON: an exponent's case, say."""
    row = make_row(right(14), right(15))
    path = write_row(row, tmp_path)
    content, found = path.read_bytes(), 0
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 7]) + content[at + 1 :])
        try:
            assert read_rows(tmp_path) == [row]
        except UserError:
            found += 1
    assert found > 0.9 * len(content) / 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": {}}, "that of the recipe"),
        ({"recipe": {"data": "digits"}, "recipe_hash": checksum({"data": "digits"})[:16]}, "data"),
        ({"epoch_selected": 99}, "epoch_selected is 99, the last epoch is 3"),
        ({"epoch_best_test": 4}, "epoch_best_test is 4, the last epoch is 3"),
        ({"epoch_lr_drop": 4}, "epoch_lr_drop is 4, the last epoch is 3"),
        ({"epochs_done": 3}, "epochs_done is 3, expected 4"),
        ({"accuracy_best_test": 0.7}, "above accuracy_best_test, 0.7"),
        ({"accuracy_best_test": 0.76}, "which is not a number of 20 images"),
        ({"epoch_best_test": 3, "accuracy_best_test": 0.8}, "another accuracy of epoch 3"),
        ({"fp32_bytes": 0.0}, "fp32_bytes is 0.0, expected greater than 0"),
        ({"fp32_bytes": 4004.0}, "fp32_bytes is 4004.0, 1000 weights have 4000"),
        ({"quantised_weights": 5}, "quantised_weights is 5 of a run in fp32"),
        ({"weights": 2**70}, "weights is "),
        ({"everything_bytes": 1.0}, "each contains the one before"),
        ({"child_only_right": 10**12}, "only child_only_right of the parent's fields"),
        ({"recipe": {"a": float("inf")}}, "Out of range"),
    ],
)
def test_a_row_without_checksum_that_contradicts_itself_is_refused(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    damage(tmp_path)
    assert read_rows(tmp_path) == [make_row(right(15))]
    damage(tmp_path, **changes)
    with pytest.raises(UserError, match=said):
        read_rows(tmp_path)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a":' * 10**5, "9" * 10**5, '"\\ud800"', "\x00"])
def test_json_that_no_one_writes_is_one_line(text: str, tmp_path: Path) -> None:
    damage(tmp_path).write_text(text)
    with pytest.raises(UserError, match="restore it from git"):
        read_rows(tmp_path)


def test_whole_numbers_are_floats_where_the_row_has_floats(tmp_path: Path) -> None:
    damage(tmp_path, wall_seconds=2)
    (row,) = read_rows(tmp_path)
    assert type(row.wall_seconds) is float


def test_pairs_that_contradict_the_difference_are_refused() -> None:
    with pytest.raises(ValueError, match=r"difference_from_parent is 0.1, the pairs say -1"):
        make_row(right(14), right(15), difference_from_parent=0.1)


VGG = CELLS[-1]
TWO_STEPS = {"ann": 0.7, "uncalibrated": 0.1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accuracy_parent": 0.8}, "of the parent say -0.1"),
        ({"mcnemar_p": 0.9}, "mcnemar_p is 0.9, the pairs say 1"),
        ({"parent_only_right": 2, "child_only_right": 1, "mcnemar_p": 0.5}, "the pairs say 1"),
        ({"parent_only_right": 10**9 + 1, "child_only_right": 10**9}, "of 20 test images"),
    ],
)
def test_a_comparison_that_contradicts_itself_is_refused(
    changes: dict[str, object], said: str
) -> None:
    row = make_row(right(14), right(15))
    assert row.mcnemar_p == 1
    assert dataclasses.replace(row, accuracy_parent=0.75, mcnemar_p=1 - 1e-9) != row
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(row, **changes)


@pytest.mark.parametrize("counts", [(0, 0), (131, 174), (389, 81), (1700, 1650), (9, 900)])
def test_the_p_that_a_row_is_checked_by_equals_the_one_it_has(counts: tuple[int, int]) -> None:
    """The row compares whole numbers, `exact_p` asks scipy."""
    one, other = counts
    images = sum(counts) + 10
    parent = np.arange(images) < one
    child = (one <= np.arange(images)) & (np.arange(images) < one + other)
    row = make_row(child, parent)
    p = exact_p(one, other)
    assert row.mcnemar_p == p
    assert dataclasses.replace(row, mcnemar_p=p * (1 - 1e-7)) != row
    with pytest.raises(ValueError, match="mcnemar_p is"):
        dataclasses.replace(row, mcnemar_p=p * (1 - 1e-5))


def conversion_row(pipeline: str | None, **steps: float) -> Row:
    """A conversion that ends with 14 of 20 right."""
    recipe = {"conversion": {"pipeline": pipeline}} if pipeline else {}
    changes = {"precision": "fp32", "recipe": recipe, "conversion": TWO_STEPS | steps}
    return make_row(right(14), right(15), VGG, **changes)


def test_the_steps_of_a_conversion_are_those_of_its_pipeline(tmp_path: Path) -> None:
    assert set(STEPS_TAKEN) == set(typing.get_args(Pipeline))
    for pipeline, (*_, last) in STEPS_TAKEN.items():
        steps = {name: 0.2 for name in STEPS_TAKEN[pipeline]} | {last: 14 / 20}
        write_row(conversion_row(pipeline, **steps), tmp_path)
        assert read_rows(tmp_path)[0].conversion == TWO_STEPS | steps
    with pytest.raises(ValueError, match="pipeline light takes ann, uncalibrated, light"):
        conversion_row("light")
    with pytest.raises(ValueError, match="pipeline weights takes ann, uncalibrated, light, wei"):
        conversion_row("weights", light=0.2, potential=0.2, weights=0.7)
    with pytest.raises(ValueError, match=r"conversion ends at light 0.6, accuracy_selected says"):
        conversion_row("light", light=0.6)
    with pytest.raises(ValueError, match=r"conversion ends at weights 0.6, accuracy_selected says"):
        conversion_row("weights", light=0.7, weights=0.6)
    for unknown in ("heavy", None):
        with pytest.raises(ValueError, match=r"pipeline is .*, expected one of none, light"):
            conversion_row(unknown, light=0.7)


def test_a_row_may_tell_when_the_learning_rate_fell(tmp_path: Path) -> None:
    row = make_row(right(14), right(15), epoch_lr_drop=2)
    path = write_row(row, tmp_path)
    assert read_rows(tmp_path) == [row]
    fields = json.loads(path.read_text())
    del fields["epoch_lr_drop"], fields["checksum"]  # a row from before they were noted
    path.write_text(json.dumps(fields))
    assert read_rows(tmp_path) == [dataclasses.replace(row, epoch_lr_drop=None)]


@pytest.mark.parametrize("precision", ["ann", "fp32", "fp32_control", "binary", "ternary"])
def test_every_precision_of_a_converted_cell_survives_its_file(
    tmp_path: Path, precision: str
) -> None:
    row = make_row(right(14), right(15), VGG, precision=precision)
    write_row(row, tmp_path)
    assert read_rows(tmp_path) == [row]
    above = row.key.parent()
    assert row.parent == (str(above) if above else None)
    assert (row.conversion is not None) == (row.epochs_done == 0) == (precision == "fp32")


@pytest.mark.parametrize(
    ("cell", "precision", "changes", "said"),
    [
        (STBP, "fp32", {"conversion": TWO_STEPS}, "expected None, it converts nothing"),
        (VGG, "binary", {"conversion": TWO_STEPS}, "expected None, it converts nothing"),
        (VGG, "fp32", {"conversion": None}, "conversion is None, expected its accuracies"),
        (VGG, "fp32", {"conversion": {"ann": 0.7}}, "pipeline light takes ann, uncalibrated"),
        (VGG, "fp32", {"conversion": TWO_STEPS | {"light": 70.0}}, "less than or equal to 1"),
        (VGG, "fp32", {"conversion": TWO_STEPS | {"light": 1}}, "conversion ends at light 1.0"),
        (VGG, "fp32", {"epochs_done": 1}, "epochs_done is 1, expected 0"),
        (VGG, "ann", {"epochs_done": 0}, "epochs_done is 0, expected 4"),
        (STBP, "fp32", {"epochs_done": 0}, "epochs_done is 0, expected 4"),
        (VGG, "fp32", {"parent": "x"}, "parent is x, expected snn_calibration-cifar100-ann-desk"),
        (STBP, "fp32_control", {"parent": "x"}, "parent is x, expected stbp-cifar10-fp32-desk-s0"),
        (STBP, "ternary", dict.fromkeys(PARENT), "parent is None, expected stbp-cifar10-fp32"),
        (STBP, "ann", {}, "has no precision ann"),
    ],
)
def test_a_row_that_does_not_fit_its_name_is_refused(
    cell: Cell, precision: str, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(make_row(right(14), cell=cell, precision=precision), **changes)


@pytest.mark.parametrize("images", [1, 7, 8, 9, 288])
def test_packed_bits_come_back_and_one_image_changes_them(images: int) -> None:
    correct = np.random.default_rng(images).random(images) < 0.5
    text = pack_correct(correct)
    assert np.array_equal(unpack_correct(text, images), correct)
    other = correct.copy()
    other[-1] ^= True
    assert pack_correct(other) != text
    with pytest.raises(ValueError, match="cannot hold"):
        unpack_correct(text + "00", images)


def test_versions_name_every_package() -> None:
    found = versions()
    assert {"python", "torch", "pytorch_lightning", "cbp_qsnn", "numpy"} <= found.keys()
    assert found["numpy"] == np.__version__


def test_firing_rates_may_be_absent(tmp_path: Path) -> None:
    rates = {"conv2": 0.25, "conv1": 1.0}
    row = make_row(right(15), firing_rates=rates)
    write_row(row, tmp_path)
    assert read_rows(tmp_path)[0].firing_rates == rates
    path = tmp_path / f"{row.key}.json"
    fields = json.loads(path.read_text())
    del fields["firing_rates"], fields["checksum"]  # a row from before they were recorded
    path.write_text(json.dumps(fields))
    assert read_rows(tmp_path)[0].firing_rates is None
