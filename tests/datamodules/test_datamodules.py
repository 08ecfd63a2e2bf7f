"""Image datamodules: augmentation against an oracle, batches that repeat, a real Lightning fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from datamodules.augmentation import PADDING, SIDE, crop_and_flip, draw_crops
from datamodules.base import DataError, ImageDataModule, Statistics
from datamodules.loaders import BatchLoader, EpochSampler, Part, moved, random_stream
from datamodules.splits import make_split, read_split, write_split

TRAIN, VAL, TEST, BATCH = 23, 7, 9, 5
Batches = list[tuple[Tensor, Tensor]]


class RandomImages(ImageDataModule):
    """Random pixels; the label is the number of the image."""

    classes = TRAIN
    statistics = Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    loads = 0

    def load(self) -> tuple[Part, Part, Part]:
        self.loads += 1
        pixels = torch.Generator().manual_seed(0)
        train, val, test = (
            Part(
                torch.randint(256, (n, 3, SIDE, SIDE), dtype=torch.uint8, generator=pixels),
                torch.arange(n),
            )
            for n in (TRAIN, VAL, TEST)
        )
        return train, val, test


def make(**changes: Any) -> RandomImages:
    arguments = {"batch_size": BATCH, "seed": 0, "augment": True} | changes
    module = RandomImages(**arguments)
    module.setup()
    return module


def epoch_of(module: RandomImages, epoch: int) -> Batches:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [module.on_after_batch_transfer(batch, 0) for batch in loader]


def equal(one: Batches, other: Batches) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


def crop_oracle(image: Tensor, row: int, column: int, flip: int) -> Tensor:
    """One pixel at a time, from the words: pad by 4 zeros, cut 32x32 at (row, column), mirror."""
    result = torch.zeros_like(image)
    for y in range(SIDE):
        for x in range(SIDE):
            source_y = y + row - PADDING
            source_x = (SIDE - 1 - x if flip else x) + column - PADDING
            if 0 <= source_y < SIDE and 0 <= source_x < SIDE:
                result[:, y, x] = image[:, source_y, source_x]
    return result


def test_crop_and_flip_matches_oracle() -> None:
    corners = [(0, 0, 0), (8, 8, 1), (4, 4, 0), (4, 4, 1), (0, 8, 1), (3, 6, 0)]
    images = make().train.images[: len(corners)]
    expected = [crop_oracle(i, *corner) for i, corner in zip(images, corners, strict=True)]
    assert torch.equal(crop_and_flip(images, torch.tensor(corners)), torch.stack(expected))
    assert torch.equal(expected[2], images[2])  # the middle crop is the image itself
    assert not torch.equal(expected[3], images[3])


def test_crops_are_uniform() -> None:
    count = 20_000
    crops = draw_crops(count, random_stream(0, 0, 1))
    for column, values in enumerate((2 * PADDING + 1, 2 * PADDING + 1, 2)):
        share = crops[:, column].bincount() / count
        bound = 5 * (1 / values * (1 - 1 / values) / count) ** 0.5  # five standard errors
        torch.testing.assert_close(share, torch.full((values,), 1 / values), atol=bound, rtol=0)


def test_augmentation_comes_before_normalisation() -> None:
    module = make()
    images = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    batch = (images, torch.zeros(1, dtype=torch.int64), torch.tensor([[0, 0, 0]]))
    out, _ = module.on_after_batch_transfer(batch, 0)
    # The padding is black, like the image: no border can be seen.
    black = [(0 - m) / s for m, s in zip(*RandomImages.statistics, strict=True)]
    torch.testing.assert_close(out, torch.tensor(black).view(1, 3, 1, 1).expand_as(out))


def test_batches_are_normalised_float32_with_every_image_once() -> None:
    module = make(augment=False)
    batches = epoch_of(module, 0)
    assert [len(labels) for _, labels in batches] == [BATCH] * (TRAIN // BATCH) + [TRAIN % BATCH]
    assert len(module.train_dataloader()) == len(batches)
    images, labels = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert labels.sort().values.tolist() == list(range(TRAIN))
    mean, std = torch.tensor(RandomImages.statistics).view(2, 3, 1, 1)
    torch.testing.assert_close(images, (module.train.images[labels] / 255 - mean) / std)


def test_evaluation_batches_are_validation_and_test_in_order() -> None:
    module = make()
    val, test = module.val_dataloader()
    assert torch.cat([b[1] for b in val]).tolist() == list(range(VAL))
    assert torch.cat([b[1] for b in test]).tolist() == list(range(TEST))
    assert torch.equal(torch.cat([b[0] for b in test]), module.test.images)
    assert (len(val), len(test)) == (-(-VAL // BATCH), -(-TEST // BATCH))
    assert module.test_dataloader() == test


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    one = epoch_of(make(), 3)
    torch.manual_seed(1)
    torch.rand(7)
    state = torch.get_rng_state()
    assert equal(one, epoch_of(make(), 3))
    assert torch.equal(state, torch.get_rng_state())  # and leave the global generator alone
    assert not equal(one, epoch_of(make(), 2))
    assert not equal(one, epoch_of(make(seed=1), 3))


def test_augmentation_differs_from_epoch_to_epoch_and_batch_to_batch() -> None:
    def crops(epoch: int) -> list[Tensor]:
        sampler = EpochSampler(2 * BATCH, seed=0, augment=True, flip=True)
        sampler.set_epoch(epoch)
        return [c for _, c in sampler.batches(BATCH) if c is not None]

    first, second = crops(0)
    assert not torch.equal(first, second)
    assert not torch.equal(first, crops(1)[0])
    unflipped = EpochSampler(2 * BATCH, seed=0, augment=True, flip=False).batches(BATCH)
    assert [int(c[:, 2].sum()) for _, c in unflipped if c is not None] == [0, 0]
    assert int(torch.cat([first, second])[:, 2].sum()) > 0


class Recorder(LightningModule):
    """Keeps the training batches of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, Batches] = {}
        self.evaluated: set[tuple[int, int]] = set()

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.seen.setdefault(self.current_epoch, []).append(batch)
        return self.weight * batch[0].mean()

    def validation_step(
        self, batch: tuple[Tensor, Tensor], index: int, dataloader_idx: int
    ) -> None:
        assert batch[0].dtype == torch.float32
        self.evaluated.add((dataloader_idx, len(batch[1])))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, epochs: int, saved_before_validation: bool, last: Path | None) -> Recorder:
    recorder = Recorder()
    saving = ModelCheckpoint(  # without save_top_k=0 it warns that the folder is not empty
        folder, save_top_k=0, save_last=True, save_on_train_epoch_end=saved_before_validation
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[saving],
    )
    trainer.fit(recorder, datamodule=make(), ckpt_path=last, weights_only=True)
    return recorder


@pytest.mark.parametrize("saved_before_validation", [True, False])
def test_resumed_fit_sees_the_same_batches(tmp_path: Path, saved_before_validation: bool) -> None:
    whole = fit(tmp_path / "whole", 4, saved_before_validation, last=None)
    stopped = fit(tmp_path / "parts", 2, saved_before_validation, last=None)
    last = tmp_path / "parts" / "last.ckpt"
    resumed = fit(tmp_path / "parts", 4, saved_before_validation, last)
    assert (sorted(stopped.seen), sorted(resumed.seen)) == ([0, 1], [2, 3])
    for epoch, batches in (stopped.seen | resumed.seen).items():
        assert equal(batches, whole.seen[epoch])
        assert equal(batches, epoch_of(make(), epoch))
    assert not equal(resumed.seen[3], resumed.seen[2])
    sizes = {(0, BATCH), (0, VAL % BATCH), (1, BATCH), (1, TEST % BATCH)}
    assert whole.evaluated == sizes  # validation is loader 0, test is loader 1


def test_first_images_are_used_and_setup_loads_once() -> None:
    module = make(train_images=6, val_images=2, test_images=3)
    module.setup()
    assert module.loads == 1
    assert [p.labels.tolist() for p in (module.train, module.val, module.test)] == [
        list(range(n)) for n in (6, 2, 3)
    ]
    assert module.train.images.untyped_storage().nbytes() == 6 * 3 * SIDE * SIDE


def test_checksum_follows_what_is_used() -> None:
    sums = [make(**c).checksum for c in ({}, {"seed": 5}, {"train_images": 6}, {"test_images": 6})]
    assert sums[0] == sums[1]
    assert len(set(sums)) == len(sums) - 1

    class Other(RandomImages):
        statistics = Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.7))

    class Relabelled(RandomImages):
        def load(self) -> tuple[Part, Part, Part]:
            train, val, test = super().load()
            return train, val, Part(test.images, test.labels.flip(0))

    for kind in (Other, Relabelled):
        module = kind(batch_size=BATCH, seed=0, augment=True)
        module.setup()
        assert module.checksum not in sums


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0: give 1 or more"),
        ({"seed": -1}, "seed is -1: give 0 or more"),
        ({"val_images": -1}, "val_images is -1: give 0"),
        ({"train_images": TRAIN + 1}, f"train_images is {TRAIN + 1}, but there are {TRAIN}"),
    ],
)
def test_numbers_out_of_range(change: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(**change)


def of_process(rank: int, world: int, **changes: Any) -> RandomImages:
    """A datamodule as one of several processes has it."""
    module = make(**changes)
    there = type("Strategy", (), {"root_device": torch.device("cpu")})
    fields = {"global_rank": rank, "world_size": world, "strategy": there}
    module.trainer = type("Several", (), fields)()
    return module


@pytest.mark.parametrize("changes", [{}, {"augment": False}, {"autoaugment": True, "cutout": 8}])
@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_all_processes_are_the_batches_of_one(
    world: int, changes: dict[str, Any]
) -> None:
    whole = epoch_of(make(**changes), 1)
    shares = [epoch_of(of_process(rank, world, **changes), 1) for rank in range(world)]
    joined = [
        tuple(map(torch.cat, zip(*batch, strict=True))) for batch in zip(*shares, strict=True)
    ]
    assert equal(joined, whole)  # type: ignore[arg-type]
    assert [len(share[-1][1]) for share in shares] == [[1, 2], [1, 1, 1]][world - 2]  # 3 images
    assert not equal(shares[-1][:-1], shares[-2][:-1])
    assert all(
        len(loader) == len(share)
        for loader, share in zip(
            (of_process(rank, world).train_dataloader() for rank in range(world)),
            shares,
            strict=True,
        )
    )


def test_an_evaluation_batch_too_small_for_all_is_left_out_where_it_is_empty() -> None:
    parts = [of_process(rank, 2, val_images=6).val_dataloader()[0] for rank in range(2)]
    labels = [[batch[1].tolist() for batch in part] for part in parts]
    assert labels == [[[0, 1]], [[2, 3, 4], [5]]]
    assert [len(part) for part in parts] == [1, 2]


def test_shares_leave_no_process_without_an_image() -> None:
    with pytest.raises(DataError, match="23 training images in batches of 5 leave a batch of 3 to"):
        of_process(0, 4).train_dataloader()
    with pytest.raises(DataError, match="val_images is 2, fewer than 3 devices"):
        of_process(0, 3, val_images=2).train_dataloader()
    assert len(of_process(0, 4, train_images=20).train_dataloader()) == 4


@pytest.mark.gpu
def test_gpu_gives_the_images_of_the_cpu() -> None:
    module = make()
    for batch in module.train_dataloader():
        expected, _ = module.on_after_batch_transfer(batch, 0)
        actual, _ = module.on_after_batch_transfer(tuple(t.cuda() for t in batch), 0)
        torch.testing.assert_close(actual.cpu(), expected)


def test_evaluation_copies_nothing() -> None:
    part = make().test
    first, *_ = BatchLoader(part, BATCH)
    assert first[0].data_ptr() == part.images.data_ptr()


def test_split_takes_the_same_number_of_every_class() -> None:
    labels = torch.tensor([0, 1, 2] * 10)
    first = make_split(labels, per_class=3, seed=0)
    second = make_split(labels, per_class=3, seed=0, skip=3)
    assert labels[first].bincount().tolist() == [3, 3, 3]
    assert labels[second].bincount().tolist() == [3, 3, 3]
    assert not set(first.tolist()) & set(second.tolist())
    assert first.tolist() != make_split(labels, per_class=3, seed=1).tolist()
    with pytest.raises(ValueError, match="class 0 has 10 images, not 11"):
        make_split(labels, per_class=11, seed=0)


def test_split_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "split.txt"
    write_split(path, torch.tensor([2, 5, 7]), seed=0)
    assert read_split(path).tolist() == [2, 5, 7]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    path.write_text(path.read_text().replace("5", "6"))
    with pytest.raises(ValueError, match=r"split\.txt was changed: .* restore the committed file"):
        read_split(path)


def test_batches_are_taken_from_one_copy_where_the_trainer_trains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, moves = of_process(0, 1, augment=True, cutout=8), []
    module.trainer.strategy.root_device = torch.device("meta")  # type: ignore[union-attr]

    def move(tensor: Tensor, device: torch.device) -> Tensor:
        moves.append(device.type)
        return torch.empty_like(tensor, device=device)

    monkeypatch.setattr(Tensor, "to", move)
    loader = module.train_dataloader()
    batches = list(loader)
    assert moves == ["meta"] * 4, "images, labels, order and what is drawn"
    again = list(module.train_dataloader())
    assert len(moves) == 6, "the part is there already"
    assert [len(b[1]) for b in batches] == [len(b[1]) for b in again]
    assert all(tensor.device.type == "meta" for batch in batches for tensor in batch)
    assert module.train.images.device.type == "cpu"


def test_what_is_drawn_is_the_same_where_it_is_moved() -> None:
    sampler = EpochSampler(23, seed=0, augment=True, flip=True, cutout=True, autoaugment=True)
    cpu = torch.device("cpu")
    for one, other in zip(sampler.batches(BATCH), moved(sampler.batches(BATCH), cpu), strict=True):
        assert torch.equal(one[0], other[0])
        assert one[1] is not None
        assert other[1] is not None
        assert torch.equal(one[1], other[1])
        assert one[1].shape[1] == 7
    plain = EpochSampler(23, seed=0, augment=False, flip=True)
    assert [drawn for _, drawn in moved(plain.batches(BATCH), cpu)] == [None] * 5
    assert not torch.equal(one[0], next(iter(plain.batches(BATCH)))[0])


@pytest.mark.gpu
def test_a_gpus_own_batches_are_those_of_the_cpu() -> None:
    changes: dict[str, Any] = {"augment": True, "autoaugment": True, "cutout": 8}
    there, here = of_process(0, 1, **changes), of_process(0, 1, **changes)
    there.trainer.strategy.root_device = torch.device("cuda", 0)  # type: ignore[union-attr]
    for part in ("train_dataloader", "test_dataloader"):
        for batch, expected in zip(getattr(there, part)(), getattr(here, part)(), strict=True):
            assert {tensor.device.type for tensor in batch} == {"cuda"}
            images, labels = there.on_after_batch_transfer(batch, 0)
            wanted, wanted_labels = here.on_after_batch_transfer(expected, 0)
            torch.testing.assert_close(images.cpu(), wanted)
            assert torch.equal(labels.cpu(), wanted_labels)
