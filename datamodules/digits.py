"""Real handwritten digits that ship inside scikit-learn, shown as 32x32 images."""

from typing import Final, Unpack

import torch
from sklearn.datasets import load_digits

from datamodules.base import ImageArguments, ImageDataModule, Statistics
from datamodules.loaders import Part
from datamodules.splits import SEED, make_split

CLASSES: Final = 10
SCALE: Final = 4  # 8x8 -> 32x32
BRIGHTEST: Final = 16
VAL_PER_CLASS: Final = 20
TEST_PER_CLASS: Final = 30
# Mean and standard deviation of all 1,797 images, in [0, 1].
STATISTICS: Final = Statistics((0.3053,) * 3, (0.3759,) * 3)


def read_digits() -> Part:
    """Return the 1,797 digits: 0..16 scaled to 0..255, every pixel a 4x4 block, three channels."""
    pixels, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(pixels).view(-1, 1, 8, 8).mul(255 / BRIGHTEST).round()
    images = small.to(torch.uint8).repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3)
    return Part(images.repeat(1, 3, 1, 1), torch.from_numpy(labels).long())


class DigitsDataModule(ImageDataModule):
    """Handwritten digits: 1,297 training, 200 validation and 300 test images; needs no file.

    Validation and test hold the same number of every class. Augmentation crops but never mirrors:
    a mirrored digit is none.

    Args:
        base: See `ImageDataModule`.

    References:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """

    flip = False

    def __init__(self, **base: Unpack[ImageArguments]) -> None:
        """Check and keep the arguments; nothing is read before `setup`."""
        super().__init__(**base)
        self.classes = CLASSES
        self.statistics = STATISTICS

    def load(self) -> tuple[Part, Part, Part]:
        """Return the three parts, each in the order of the data set."""
        whole = read_digits()
        val = make_split(whole.labels, VAL_PER_CLASS, SEED)
        test = make_split(whole.labels, TEST_PER_CLASS, SEED, skip=VAL_PER_CLASS)
        rest = torch.ones(len(whole.labels), dtype=torch.bool)
        rest[torch.cat([val, test])] = False
        train = torch.nonzero(rest).flatten()
        parts = [Part(*(tensor[indices] for tensor in whole)) for indices in (train, val, test)]
        return parts[0], parts[1], parts[2]
