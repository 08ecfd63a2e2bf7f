"""CIFAR: damaged, absent and offline folders on tiny fakes; splits and balance on the real data."""

import hashlib
import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, cifar

from datamodules.base import ImageArguments, find_folder
from datamodules.cifar import (
    CLASSES,
    SPLITS,
    STATISTICS,
    CifarDataModule,
    Name,
    md5_by_file,
)
from datamodules.errors import DataError
from datamodules.splits import SEED, make_split, read_split, write_split

TRAIN, TEST = 12, 4
HELD_OUT = [1, 5, 6]
BASE: ImageArguments = {"batch_size": 4, "seed": 0, "augment": False}


def write_pickle(path: Path, content: dict[str, Any]) -> str:
    """Write the pickle and return its md5."""
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CIFAR-10 folder of 12 + 4 images whose md5 is taken for the official one."""
    folder = tmp_path / "data" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0)

    def part(name: str, count: int) -> list[list[str]]:
        data = pixels.integers(0, 256, (count, 3 * 32 * 32), dtype=np.uint8)
        labels = [number % 10 for number in range(count)]
        return [[name, write_pickle(folder / name, {"data": data, "labels": labels})]]

    monkeypatch.setattr(CIFAR10, "train_list", part("data_batch_1", TRAIN))
    monkeypatch.setattr(CIFAR10, "test_list", part("test_batch", TEST))
    names = {"label_names": [str(n) for n in range(10)]}
    md5 = write_pickle(folder / "batches.meta", names)
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    split = tmp_path / "split.txt"
    write_split(split, torch.tensor(HELD_OUT), seed=0)
    monkeypatch.setitem(SPLITS, "cifar10", split)
    return tmp_path / "data"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(cifar, "download_and_extract_archive", refuse)


def test_parts_hold_the_images_of_the_files(fake: Path) -> None:
    module = CifarDataModule("cifar10", fake, **BASE)
    module.setup()
    raw = pickle.loads((fake / CIFAR10.base_folder / "data_batch_1").read_bytes())
    pixels = torch.from_numpy(raw["data"]).view(TRAIN, 3, 32, 32)
    rest = [number for number in range(TRAIN) if number not in HELD_OUT]
    assert torch.equal(module.val.images, pixels[HELD_OUT])
    assert torch.equal(module.train.images, pixels[rest])
    assert module.train.labels.tolist() == [number % 10 for number in rest]
    assert module.test.images.shape == (TEST, 3, 32, 32)
    assert module.train.labels.dtype == torch.int64


def test_other_constants_normalise_and_change_the_checksum(fake: Path) -> None:
    own = CifarDataModule("cifar10", fake, **BASE)
    other = CifarDataModule("cifar10", fake, "cifar100", **BASE)
    for module in (own, other):
        module.setup()
    assert own.checksum != other.checksum
    batch = next(iter(own.test_dataloader()))
    pairs = (own, STATISTICS["cifar10"]), (other, STATISTICS["cifar100"])
    for module, constants in pairs:
        mean, std = torch.tensor(constants).view(2, 3, 1, 1)
        torch.testing.assert_close(
            module.on_after_batch_transfer(batch, 0)[0], (batch[0] / 255 - mean) / std
        )


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_damaged_file_is_named_and_never_opened(
    fake: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake / CIFAR10.base_folder / name
    expected = hashlib.md5(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = hashlib.md5(path.read_bytes()).hexdigest()
    opened: list[object] = []
    monkeypatch.setattr(pickle, "load", opened.append)
    module = CifarDataModule("cifar10", fake, **BASE)
    with pytest.raises(DataError) as error:
        module.setup()
    message = str(error.value)
    assert message.startswith(f"{path} is damaged: its md5 is {found}, the official one {expected}")
    assert "\n" not in message
    assert opened == []
    assert not hasattr(module, "train")


@pytest.mark.usefixtures("offline")
def test_absent_and_offline_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        CifarDataModule("cifar100", tmp_path / "none", **BASE).setup()
    message = str(error.value)
    assert "\n" not in message
    for part in (
        f"cifar100 is not in {tmp_path / 'none'}",
        "no route to host",
        "cifar-100-python.tar.gz (md5 eb9058c3a382ffc7106e4002c42a8d85",
        "--data-dir or CBP_DATA",
    ):
        assert part in message


@pytest.mark.usefixtures("offline")
def test_one_absent_file_is_absent_data(fake: Path) -> None:
    (fake / CIFAR10.base_folder / "test_batch").unlink()
    with pytest.raises(DataError, match="could not be downloaded"):
        CifarDataModule("cifar10", fake, **BASE).setup()


def test_absent_data_are_downloaded(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake / CIFAR10.base_folder / "test_batch"
    content = path.read_bytes()
    path.unlink()
    fetched: list[tuple[object, ...]] = []

    def fetch(*arguments: object, **keywords: object) -> None:
        fetched.append((*arguments, keywords["md5"]))
        path.write_bytes(content)

    monkeypatch.setattr(cifar, "download_and_extract_archive", fetch)
    module = CifarDataModule("cifar10", fake, **BASE)
    module.setup()
    assert fetched == [(CIFAR10.url, fake, CIFAR10.tgz_md5)]
    assert len(module.test.labels) == TEST


def test_folder_comes_from_argument_then_variable_then_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CBP_DATA", "elsewhere")
    assert [find_folder(given) for given in ("here", None)] == [Path("here"), Path("elsewhere")]
    monkeypatch.delenv("CBP_DATA")
    assert find_folder(None) == Path("data")


def test_unknown_data_set_is_refused() -> None:
    with pytest.raises(DataError, match="no data set 'mnist': give cifar10 or cifar100"):
        CifarDataModule("mnist", **BASE)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(CLASSES))
def test_committed_split_is_whole(name: Name) -> None:
    indices = read_split(SPLITS[name])
    assert len(set(indices.tolist())) == len(indices) == 5_000
    assert int(indices.min()) >= 0
    assert int(indices.max()) < 50_000
    assert len(md5_by_file(name)) == {"cifar10": 5 + 1 + 1, "cifar100": 1 + 1 + 1}[name]


@pytest.mark.data
@pytest.mark.parametrize("name", list(CLASSES))
def test_split_can_be_made_again_and_every_part_is_mixed(name: Name) -> None:
    module = CifarDataModule(name, batch_size=50, seed=0, augment=True)
    module.setup()
    shapes = [tuple(p.images.shape) for p in (module.train, module.val, module.test)]
    assert shapes == [(n, 3, 32, 32) for n in (45_000, 5_000, 10_000)]
    assert module.val.labels.bincount().tolist() == [5_000 // CLASSES[name]] * CLASSES[name]
    held_out = torch.zeros(50_000, dtype=torch.bool)
    held_out[read_split(SPLITS[name])] = True
    labels = torch.empty(50_000, dtype=torch.int64)
    labels[held_out], labels[~held_out] = module.val.labels, module.train.labels
    made = make_split(labels, 5_000 // CLASSES[name], SEED)
    assert torch.equal(made, read_split(SPLITS[name]))
    for part in (module.train, module.val, module.test):  # the first N are a sample of all classes
        counts = part.labels[:1_000].bincount(minlength=CLASSES[name]).double()
        mean = 1_000 / CLASSES[name]
        assert float((counts - mean).abs().max()) < 5 * mean**0.5


@pytest.mark.data
def test_normalised_training_images_have_mean_zero() -> None:
    module = CifarDataModule("cifar100", batch_size=50, seed=0, augment=False)
    module.setup()
    images, _ = module.on_after_batch_transfer(module.train, 0)
    means = images.mean((0, 2, 3))
    torch.testing.assert_close(means, torch.zeros(3), atol=0.01, rtol=0)
