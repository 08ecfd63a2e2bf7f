"""The digits of scikit-learn as a datamodule, and the linear baseline on them."""

import json
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from benchmarks import linear_model
from datamodules.digits import CLASSES, DigitsDataModule, read_digits


@pytest.fixture(scope="module")
def digits() -> DigitsDataModule:
    module = DigitsDataModule(batch_size=50, seed=0, augment=True)
    module.setup()
    return module


def test_parts_are_disjoint_balanced_and_complete(digits: DigitsDataModule) -> None:
    parts = (digits.train, digits.val, digits.test)
    assert [tuple(p.images.shape) for p in parts] == [(n, 3, 32, 32) for n in (1_297, 200, 300)]
    assert digits.val.labels.bincount().tolist() == [200 // CLASSES] * CLASSES
    assert digits.test.labels.bincount().tolist() == [300 // CLASSES] * CLASSES
    shown = [image.numpy().tobytes() for p in parts for image in p.images]
    assert sorted(shown) == sorted(image.numpy().tobytes() for image in read_digits().images)
    assert digits.classes == CLASSES == len(set(digits.train.labels.tolist()))


def test_pixels_are_those_of_the_data_set() -> None:
    pixels, labels = load_digits(return_X_y=True)
    part = read_digits()
    assert part.labels.tolist() == labels.tolist()
    for number, y, x in ((0, 0, 5), (17, 13, 20), (1_796, 31, 12)):
        expected = round(float(pixels[number].reshape(8, 8)[y // 4, x // 4]) * 255 / 16)
        assert part.images[number, :, y, x].tolist() == [expected] * 3


def test_normalisation_constants_are_those_of_the_images(digits: DigitsDataModule) -> None:
    pixels = read_digits().images / 255
    expected = [float(pixels.mean()), float(pixels.std())]
    assert [round(value, 4) for value in expected] == [s[0] for s in digits.statistics]


def test_digits_are_never_mirrored(digits: DigitsDataModule) -> None:
    crops = torch.cat([batch[2] for batch in digits.train_dataloader()])
    assert int(crops[:, 2].sum()) == 0
    assert len(set(map(tuple, crops.tolist()))) == 9 * 9


def test_checksum_is_the_same_in_every_run(digits: DigitsDataModule) -> None:
    again = DigitsDataModule(batch_size=1, seed=7, augment=False)
    again.setup()
    assert again.checksum == digits.checksum
    fewer = DigitsDataModule(batch_size=1, seed=7, augment=False, train_images=100)
    fewer.setup()
    assert fewer.checksum != digits.checksum


def test_linear_model_writes_its_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_model, "C_GRID", (1e-7, 1e-3))
    out = tmp_path / "linear.json"
    command = ["--data", "digits", "--train-images", "150", "--test-images", "60"]
    assert linear_model.main([*command, "--out", str(out)]) == 0
    row = json.loads(out.read_text())
    module = DigitsDataModule(batch_size=1, seed=0, augment=False, train_images=150, test_images=60)
    module.setup()
    expected = ("digits", 150, 200, 60, 1e-3, module.checksum)
    names = ("dataset", "train_images", "val_images", "test_images", "C", "data_checksum")
    assert tuple(row[name] for name in names) == expected
    assert row["accuracy_test"] > 5 / CLASSES  # five times chance
    assert f"{row['accuracy_test']:.2%} test (60 images)" in capsys.readouterr().out
    assert linear_model.main([*command[:2], "--train-images", "9999"]) == 2
    assert capsys.readouterr().err.startswith("error: train_images is 9999, but there are 1297")
