"""Cutout against an oracle; AutoAugment and cutout batches repeat, and differ where they must."""

import pytest
import torch

from datamodules.augmentation import SIDE, cut_out_, draw_centres
from datamodules.digits import DigitsDataModule
from datamodules.errors import DataError
from datamodules.loaders import random_stream
from repro.cli import main


def cutout_oracle(image: torch.Tensor, row: int, column: int, side: int) -> torch.Tensor:
    """One pixel at a time: rows y - side // 2 to y + side // 2 - 1, cut off at the border."""
    result = image.clone()
    for y in range(row - side // 2, row - side // 2 + side):
        for x in range(column - side // 2, column - side // 2 + side):
            if 0 <= y < SIDE and 0 <= x < SIDE:
                result[:, y, x] = 0
    return result


@pytest.mark.parametrize("side", [1, 5, 16])
def test_cutout_matches_the_oracle(side: int) -> None:
    images = torch.rand(40, 3, SIDE, SIDE) + 1
    centres = draw_centres(40, random_stream(0, 0, 1))
    expected = torch.stack(
        [cutout_oracle(i, *c, side) for i, c in zip(images, centres.tolist(), strict=True)]
    )
    found = cut_out_(images.clone(), centres, side)
    assert torch.equal(found, expected)
    assert not torch.equal(found, images)
    lost = (found == 0).float().mean(dim=(1, 2, 3)) * SIDE**2
    assert lost.max() == side**2
    assert side == 1 or lost.min() < side**2, "some square sticks out"


def epoch_of(number: int, **changes: object) -> list[tuple[torch.Tensor, torch.Tensor]]:
    fields = {"batch_size": 16, "seed": 0, "augment": True, "train_images": 50} | changes
    data = DigitsDataModule(**fields)  # type: ignore[arg-type]
    data.setup()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def test_batches_with_everything_repeat() -> None:
    plain, cut = epoch_of(1), epoch_of(1, cutout=16)
    everything = epoch_of(1, cutout=16, autoaugment=True)
    again = epoch_of(1, cutout=16, autoaugment=True)
    other_epoch = epoch_of(2, cutout=16, autoaugment=True)
    for batches in zip(plain, cut, everything, again, other_epoch, strict=True):
        a, b, c, d, e = (images for images, _ in batches)
        assert torch.equal(c, d)
        assert not torch.equal(c, e)
        assert not torch.equal(b, c)
        cut_out = b != a
        assert (b[cut_out] == a.min()).all(), "a black square, cut before normalisation"
        assert 0.01 < cut_out.float().mean() < 0.3


def test_augmentation_without_crops_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="give augment=True"):
        DigitsDataModule(batch_size=1, seed=0, augment=False, cutout=4)
    words = ["run", "--method=stbp", "--dataset=cifar10", "--no-augment", "--autoaugment"]
    assert main(words) == 2
    assert "add --augment" in capsys.readouterr().err
