"""CIFAR-10 and CIFAR-100 through torchvision, with a committed validation split."""

from pathlib import Path
from typing import Final, Literal, Unpack

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from datamodules.archives import require_md5
from datamodules.base import ImageArguments, ImageDataModule, Statistics, find_folder
from datamodules.errors import DataError
from datamodules.loaders import Part
from datamodules.splits import read_split

Name = Literal["cifar10", "cifar100"]

CLASSES: Final[dict[Name, int]] = {"cifar10": 10, "cifar100": 100}
READERS: Final[dict[Name, type[CIFAR10]]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}
SPLITS: Final[dict[Name, Path]] = {
    name: Path(__file__).parent / "splits" / f"{name}-validation.txt" for name in CLASSES
}
# Constants of the official scripts; the stbp recipe normalises CIFAR-100 by CIFAR-10's.
STATISTICS: Final[dict[Name, Statistics]] = {
    "cifar10": Statistics((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Statistics((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def md5_by_file(dataset: Name) -> dict[str, str]:
    """Return the official md5, in hex, of every file of the data set, by its path."""
    reader = READERS[dataset]
    files = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
    return {f"{reader.base_folder}/{name}": md5 for name, md5 in files}


def absent_files(dataset: Name, folder: Path) -> list[str]:
    """Return the paths of files that are not there; those that are have the official md5.

    The files are pickles, so this comes before anything opens one.
    """
    absent = []
    for name, expected in md5_by_file(dataset).items():
        if (folder / name).is_file():
            require_md5(folder / name, expected)
        else:
            absent.append(name)
    return absent


def download(dataset: Name, folder: Path) -> None:
    """Fetch and unpack the official archive into the folder; one that is there is used.

    Raises:
        DataError: It cannot be downloaded; the message says how to get it by hand.
    """
    reader = READERS[dataset]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reader(folder, download=True)
    except (OSError, RuntimeError, EOFError) as error:  # URLError is an OSError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{dataset} is not in {folder} and could not be downloaded ({reason}):"
            f" put {reader.filename} (md5 {reader.tgz_md5}, from {reader.url}) into that folder,"
            " or name the folder that has the data by --data-dir or CBP_DATA"
        ) from error


def read_part(dataset: Name, folder: Path, train: bool) -> Part:
    """Return the 50,000 training or 10,000 test images in the order of the files.

    Call `absent_files` first: it is what makes opening these pickles safe.
    """
    reader = READERS[dataset](folder, train=train)
    images = torch.from_numpy(np.ascontiguousarray(reader.data.transpose(0, 3, 1, 2)))
    return Part(images, torch.tensor(reader.targets))


def read_verified(dataset: Name, folder: Path) -> tuple[Part, Part]:
    """Return the training and test images, downloaded if absent, after every md5 was checked."""
    if absent_files(dataset, folder):
        download(dataset, folder)
        absent_files(dataset, folder)
    return read_part(dataset, folder, train=True), read_part(dataset, folder, train=False)


class CifarDataModule(ImageDataModule):
    """CIFAR-10 or CIFAR-100: 45,000 training, 5,000 validation and 10,000 test images.

    The validation images are a class-balanced part of the official training images, listed under
    ``datamodules/splits``. Every part keeps the order of the official files, which is random.

    Args:
        dataset: ``cifar10`` or ``cifar100``.
        data_dir: Folder of ``cifar-10-batches-py`` or ``cifar-100-python``; None stands for the
            variable CBP_DATA, and without that for ``data``.
        normalisation: Data set whose constants normalise; None for its own.
        base: See `ImageDataModule`.

    Raises:
        DataError: No such data set or constants.
    """

    def __init__(
        self,
        dataset: Name,
        data_dir: str | Path | None = None,
        normalisation: Name | None = None,
        **base: Unpack[ImageArguments],
    ) -> None:
        """Check and keep the arguments; nothing is read before `setup`."""
        super().__init__(**base)
        for name in (dataset, normalisation or dataset):
            if name not in CLASSES:
                raise DataError(f"no data set {name!r}: give cifar10 or cifar100")
        self.dataset = dataset
        self.folder = find_folder(data_dir)
        self.classes = CLASSES[dataset]
        self.statistics = STATISTICS[normalisation or dataset]

    def load(self) -> tuple[Part, Part, Part]:
        """Return the three parts; the data set is downloaded where it is absent."""
        whole, test = read_verified(self.dataset, self.folder)
        indices = read_split(SPLITS[self.dataset])
        held_out = torch.zeros(len(whole.labels), dtype=torch.bool)
        held_out[indices] = True
        train, val = (Part(*(tensor[mask] for tensor in whole)) for mask in (~held_out, held_out))
        return train, val, test
