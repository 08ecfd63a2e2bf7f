"""Shards: the official files come back byte for byte, and what is damaged is named."""

import hashlib
import json
import lzma
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import repro.campaign.cifar_shards as shards
from datamodules.cifar import READERS, md5_by_file
from datamodules.errors import DataError
from repro.campaign.cifar_shards import decode, encode, restore, write_shards


def some_pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def test_a_picture_is_lossless() -> None:
    pixels = some_pixels(20)
    assert decode(encode(pixels)) == pixels.tobytes()
    assert decode(encode(some_pixels(20, seed=1))) != pixels.tobytes()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of CIFAR-100's layout with few images, whose md5 count as the official ones."""
    reader, folder = READERS["cifar100"], tmp_path / "data"
    sizes = {"train": 40, "test": 10}
    lists: dict[str, list[list[str]]] = {"train": [], "test": []}
    for name, count in sizes.items():
        made = {
            "data": some_pixels(count, seed=count).reshape(count, -1),
            "fine_labels": list(range(count)),
        }
        path = folder / reader.base_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(made))
        lists[name] = [[name, hashlib.md5(path.read_bytes()).hexdigest()]]
    meta = folder / reader.base_folder / "meta"
    meta.write_bytes(pickle.dumps({"fine_label_names": [str(n) for n in range(100)]}))
    named = {**reader.meta, "md5": hashlib.md5(meta.read_bytes()).hexdigest()}
    for name, value in (("train_list", lists["train"]), ("test_list", lists["test"])):
        monkeypatch.setattr(reader, name, value)
    monkeypatch.setattr(reader, "meta", named)
    monkeypatch.setattr(shards, "PIECE", 20)
    monkeypatch.setattr(shards, "BATCH", 10)
    return folder


def test_official_files_come_back_byte_for_byte(small: Path, tmp_path: Path) -> None:
    written = write_shards("cifar100", small, tmp_path / "shards")
    assert len([path for path in written if path.suffix == ".webp"]) == 2 + 1
    restored = tmp_path / "restored"
    assert restore("cifar100", tmp_path / "shards", restored)
    for name in md5_by_file("cifar100"):
        assert (restored / name).read_bytes() == (small / name).read_bytes()
    assert not restore("cifar100", tmp_path / "shards", restored)  # nothing is absent


def test_only_official_sums_count_and_only_shards_are_read(small: Path, tmp_path: Path) -> None:
    """An index with sums of its own, over content of its own; and one that names other files."""
    name = next(iter(md5_by_file("cifar100")))
    content, folder = b"other content", tmp_path / "shards"
    folder.mkdir()
    (tmp_path / "rest.xz").write_bytes(lzma.compress(content))
    shutil.copy(tmp_path / "rest.xz", folder)
    for part, said in (("rest.xz", "official md5"), ("../rest.xz", "leads out of")):
        entry = {"file": name, "md5": hashlib.md5(content).hexdigest(), "offset": 0}
        (folder / shards.INDEX).write_text(json.dumps([entry | {"parts": [part]}]))
        with pytest.raises(DataError, match=said):
            restore("cifar100", folder, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("harm", ["missing", "damaged", "no index"])
def test_what_cannot_be_restored_is_named(small: Path, tmp_path: Path, harm: str) -> None:
    written = write_shards("cifar100", small, tmp_path / "shards")
    picture = next(path for path in written if path.suffix == ".webp")
    if harm == "missing":
        picture.unlink()
    elif harm == "damaged":
        picture.write_bytes(encode(some_pixels(20, seed=7)))
    else:
        (tmp_path / "shards" / shards.INDEX).unlink()
    with pytest.raises(DataError, match=r"cannot be restored from .*: write the shards anew"):
        restore("cifar100", tmp_path / "shards", tmp_path / "restored")
    assert not list(tmp_path.rglob("restored/**/train"))
