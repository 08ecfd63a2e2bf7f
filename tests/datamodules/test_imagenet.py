"""ImageNet on a tiny fake folder: crops as torchvision's, splits by name, batches that repeat."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from datamodules.errors import DataError
from datamodules.imagenet import (
    RESIZED,
    SIDE,
    STATISTICS,
    ImageNetDataModule,
    draw_crop,
    evaluation_image,
)
from datamodules.loaders import random_stream
from datamodules.process_share import Share

CLASSES = ("n01440764", "n01443537", "n01484850")
TRAIN, HELD_OUT, TEST = 5, 2, 2  # a class
BASE: dict[str, Any] = {"batch_size": 4, "seed": 0, "augment": True, "workers": 2}


class Tiny(ImageNetDataModule):
    """Three classes of a few images."""

    classes = len(CLASSES)
    val_per_class = HELD_OUT
    official = {"train": len(CLASSES) * TRAIN, "val": len(CLASSES) * TEST}  # noqa: RUF012


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "imagenet"
    root.mkdir()
    torch.save(({wnid: (wnid,) for wnid in CLASSES}, []), root / "meta.bin")
    pixels = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", TEST)):
        for wnid in CLASSES:
            (root / split / wnid).mkdir(parents=True)
            for number in range(count):
                shape = (300 + 10 * number, 280, 3)
                image = Image.fromarray(pixels.integers(0, 256, shape, dtype=np.uint8))
                image.save(root / split / wnid / f"{wnid}_{number}.JPEG")
    return root.parent


def make(data: Path, **changes: Any) -> Tiny:
    module = Tiny(**(BASE | {"data_dir": data} | changes))
    module.setup()
    return module


def epoch_of(module: Tiny, epoch: int) -> list[tuple[Tensor, Tensor]]:
    loader = module.training_batches()
    loader.sampler.set_epoch(epoch)
    return [module.on_after_batch_transfer(batch, 0) for batch in loader]


def equal(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("size", [(280, 300), (500, 375), (2000, 20), (20, 2000), (1, 1)])
def test_crops_are_drawn_as_torchvision_draws_them(size: tuple[int, int]) -> None:
    crop = transforms.RandomResizedCrop(SIDE)
    for number in range(20):
        stream = random_stream(0, 0, number)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream.initial_seed())
            expected = crop.get_params(Image.new("RGB", size), crop.scale, crop.ratio)
        assert draw_crop(*size, stream) == tuple(expected)


def test_evaluation_is_resize_and_centre_crop(data: Path) -> None:
    module = make(data)
    steps = [
        transforms.Resize(RESIZED),
        transforms.CenterCrop(SIDE),
        transforms.ToTensor(),
        transforms.Normalize(*STATISTICS),
    ]
    batches = [module.on_after_batch_transfer(batch, 1) for batch in module.batches("test")]
    images, labels = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    assert labels.tolist() == list(range(len(CLASSES))) * TEST
    for image, (path, _) in zip(images, module.images["test"], strict=True):
        with Image.open(path) as source:
            expected = transforms.Compose(steps)(source.convert("RGB"))
        torch.testing.assert_close(image, expected)


def test_the_last_training_images_of_a_class_validate(data: Path) -> None:
    module = make(data)
    numbers = {
        part: [int(path.stem[-1]) for path, _ in module.images[part]]  # type: ignore[index]
        for part in ("train", "val")
    }
    assert numbers["train"] == [number for number in range(TRAIN - HELD_OUT) for _ in CLASSES]
    assert numbers["val"] == [n for n in range(TRAIN - HELD_OUT, TRAIN) for _ in CLASSES]
    assert all("/train/" in path.as_posix() for path, _ in module.images["val"])
    few = make(data, train_images=4, test_images=3)
    assert [label for _, label in few.images["train"]] == [0, 1, 2, 0]
    assert (few.size("train"), few.size("val"), few.size("test")) == (4, 6, 3)
    assert few.checksum != module.checksum == make(data, seed=4).checksum


def test_batches_depend_on_seed_and_epoch_alone(data: Path) -> None:
    one = epoch_of(make(data), 3)
    assert [images.shape for images, _ in one] == [(n, 3, SIDE, SIDE) for n in (4, 4, 1)]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert equal(one, epoch_of(make(data, workers=1), 3))
    assert torch.equal(state, torch.get_rng_state())
    assert not equal(one, epoch_of(make(data), 2))
    assert not equal(one, epoch_of(make(data, seed=1), 3))


def test_shares_of_two_processes_are_the_batches_of_one(data: Path) -> None:
    module = make(data, train_images=7)  # batches of 4 and 3
    whole = epoch_of(module, 1)
    shares = []
    for rank in range(2):
        loader = module.training_batches(Share(rank, 2))
        loader.sampler.set_epoch(1)
        shares.append([module.on_after_batch_transfer(batch, 0) for batch in loader])
        assert [len(labels) for _, labels in shares[rank]] == [[2, 1], [2, 2]][rank]
    joined = [
        (torch.cat([a, c]), torch.cat([b, d])) for (a, b), (c, d) in zip(*shares, strict=True)
    ]
    assert equal(joined, whole)
    assert not equal(shares[0][:1], shares[1][:1])


def test_without_augmentation_training_images_are_as_in_evaluation(data: Path) -> None:
    module = make(data, augment=False, batch_size=100)
    ((images, labels),) = list(module.training_batches())
    order = module.training_batches().sampler.order()
    expected = torch.stack([evaluation_image(module.images["train"][i].path) for i in order])
    assert torch.equal(images, expected)
    assert labels.tolist() == [module.images["train"][i].label for i in order]


def test_a_loop_that_is_left_early_ends(data: Path) -> None:
    iterator = iter(make(data, batch_size=1).training_batches())
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(iterator)


def test_a_damaged_image_is_named(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.JPEG"
    whole = next((data / "imagenet" / "val").rglob("*.JPEG")).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cut\.JPEG is damaged: it cannot be read \("):
            evaluation_image(path)


def test_absent_says_what_to_get(tmp_path: Path) -> None:
    module = ImageNetDataModule(**BASE, data_dir=tmp_path)
    for stage, words in (
        ("test", "ILSVRC2012_img_val.tar (6.3 GB, md5 29b22e2961454d5413ddabcf34fc5622)"),
        ("fit", "ILSVRC2012_devkit_t12.tar.gz (2.5 MB, md5 fa75699e90414af021442c21a62c3abf)"),
    ):
        with pytest.raises(DataError) as caught:
            module.setup(stage)
        assert words in str(caught.value)
        assert f"is not in {tmp_path / 'imagenet'} (" in str(caught.value)
        assert "register at https://image-net.org/" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_incomplete_folder_is_refused(data: Path) -> None:
    module = ImageNetDataModule(**BASE, data_dir=data)
    with pytest.raises(DataError, match=r"val has 6 images, not 50000: delete it, and run again"):
        module.setup("test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": 0}, "workers is 0: give 1 or more"),
        ({"train_images": -1}, "train_images is -1: give 0 for all"),
        ({"test_images": 7}, "test_images is 7, but there are 6: give 0 for all"),
    ],
)
def test_numbers_out_of_range(data: Path, change: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(data, **change)
