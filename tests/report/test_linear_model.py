"""The linear model stands below the tables, comparable only with runs on the same images."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_rows import family
from reading import desk

from repro.errors import UserError
from repro.report.linear_model import LinearModel, linear_models, read_linear_model
from repro.report.publish import tier_tables

LINEAR = LinearModel("cifar10", 100, 20, 1e-3, 0.4, 0.35, "2b")


def test_the_linear_model_is_comparable_only_on_the_same_images(tmp_path: Path) -> None:
    path, rows = tmp_path / "linear_cifar10_desk.json", family(fp32=15, binary=14)
    fields = vars(LINEAR) | {"val_images": 10, "accuracy_train": 0.5}
    path.write_text(json.dumps(fields))
    assert read_linear_model(path) == LINEAR
    same = LINEAR.note(rows)
    assert same.startswith("On the same images as stbp/cifar10 a linear model")
    assert f"{100 * 0.35:.2f} % of 20 test images, {100 * 0.4:.2f} % on validation" in same
    other = replace(LINEAR, data_checksum="4d").note(rows)
    assert other.startswith("≠ On other images than the runs' (their data checksums differ;")
    assert LINEAR.note([*rows, replace(rows[0], data_checksum="4d")])[0] == "≠"
    assert "no run of this tier read that data set" in LINEAR.note([])
    assert linear_models(tmp_path, "desk") == [LINEAR]
    assert linear_models(tmp_path, "paper") == []
    assert tier_tables(desk(rows), {}, [LINEAR])["accuracy"].notes[-1] == same


def test_it_stands_below_the_tables_of_the_cells_that_read_its_data() -> None:
    prefixes = {"cifar10": "", "digits": "", "cifar10_dvs_sim": "simulated_"}
    prefixes |= {"nmnist_subset": "beyond_", "nmnist": "beyond_"}
    for dataset, prefix in prefixes.items():
        model = replace(LINEAR, dataset=dataset)
        assert model.prefix == prefix
        of_events = dataset not in ("cifar10", "digits")
        assert ("events by pixel and polarity" in model.note([])) == of_events
        by_frame = replace(model, by_frame=True).note([])
        assert ("events by frame, pixel and polarity" in by_frame) == of_events


@pytest.mark.parametrize(
    "change", [{"C": "a"}, {"data_checksum": 1}, {"dataset": "digits"}, {"accuracy_val": None}]
)
def test_a_damaged_linear_model_is_one_clear_line(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "linear_cifar10_desk.json"
    path.write_text(json.dumps(vars(LINEAR) | change))
    with pytest.raises(UserError, match=r"\.json: .*: restore it from git, or delete"):
        read_linear_model(path)
    path.write_text("[" if "C" in change else "{}")
    with pytest.raises(UserError, match="restore it from git, or delete"):
        read_linear_model(path)
