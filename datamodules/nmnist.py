"""N-MNIST through tonic: the whole data set, or a subset of its recordings with its own split."""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from filelock import FileLock
from tonic.datasets import NMNIST

from datamodules.archives import Archive, extracted, fetch
from datamodules.base import PART_NAMES, PartName, Recording
from datamodules.binning import DamagedRecordingError, Events
from datamodules.errors import DataError
from datamodules.events import EventDataModule, Listed
from datamodules.splits import SEED, lowest_ranked, read_split

CLASSES: Final = 10
BYTES_PER_EVENT: Final = 5
Folder = Literal["Train", "Test"]
TRAIN_FOLDER: Final[Folder] = "Train"
TEST_FOLDER: Final[Folder] = "Test"
FOLDERS: Final[tuple[Folder, ...]] = (TRAIN_FOLDER, TEST_FOLDER)
# The sizes are estimates from 20 kB a recording.
ARCHIVES: Final[dict[Folder, Archive]] = {
    TRAIN_FOLDER: Archive(
        NMNIST.train_filename, (NMNIST.train_url,), NMNIST.train_md5, "about 1 GB"
    ),
    TEST_FOLDER: Archive(NMNIST.test_filename, (NMNIST.test_url,), NMNIST.test_md5, "about 170 MB"),
}
COUNTS: Final[dict[Folder, int]] = {TRAIN_FOLDER: 60_000, TEST_FOLDER: 10_000}
WHOLE_SET: Final = sum(COUNTS.values())
VALIDATION: Final = 6_000  # of the whole set's training recordings
SHARES: Final[dict[PartName, tuple[int, int]]] = {"test": (3, 11), "val": (1, 11)}  # of a subset
_FOLDER: Final = Path(__file__).parent / "splits"
SPLIT: Final = _FOLDER / "nmnist-validation.txt"
SUBSET_SPLITS: Final[dict[PartName, Path]] = {
    "train": _FOLDER / "nmnist_subset-train.txt",
    "val": _FOLDER / "nmnist_subset-validation.txt",
    "test": _FOLDER / "nmnist_subset-test.txt",
}
# Checksum of the committed subset's list, see `list_checksum`.
SUBSET_CHECKSUM: Final = "ed20da834d3f89476c66a723c17be8401f783a6f3eda5c4fe458d8a1279d2b03"
NAMES: Final = (
    *("nmnist", "nmnist_first_saccade"),
    *("nmnist_subset", "nmnist_subset_first_saccade"),
)


class SortedNmnist(Listed, NMNIST):  # type: ignore[misc]
    """tonic's reader over a given list of files.

    Args:
        recordings: Files and labels, in the order of their numbers.
        first_saccade_only: Only the events of the first 100 ms, of about 310.
    """

    def __init__(self, recordings: Sequence[Recording], first_saccade_only: bool = False) -> None:
        """Keep the list; nothing is read."""
        super().__init__(recordings)
        self.first_saccade_only, self.stabilize = first_saccade_only, False

    def __getitem__(self, index: int) -> tuple[Events, int]:
        """Return events, times in us, and label.

        Raises:
            DamagedRecordingError: The file does not hold a whole number of events.
        """
        size = Path(self.data[index]).stat().st_size
        if size % BYTES_PER_EVENT:
            raise DamagedRecordingError(
                f"its {size} bytes are no multiple of {BYTES_PER_EVENT}, the bytes of an event"
            )
        sample: Any = super().__getitem__(index)
        return sample[0], sample[1]


def index_of(path: Path) -> int:
    """Return the number of a recording, 60,000 higher in the test folder, as the splits list it.

    Raises:
        DataError: The file is named otherwise.

    >>> index_of(Path("NMNIST/Train/5/00001.bin")), index_of(Path("NMNIST/Test/7/00001.bin"))
    (1, 60001)
    """
    if not path.stem.isdecimal():
        raise DataError(f"{path} is not named by a number: rename or remove it")
    return int(path.stem) + (COUNTS[TRAIN_FOLDER] if path.parents[1].name == TEST_FOLDER else 0)


def label_of(path: Path) -> int:
    """Return the digit that a recording's folder is named by.

    Raises:
        DataError: It is named otherwise.
    """
    if path.parent.name not in map(str, range(CLASSES)):
        raise DataError(f"{path.parent} is not named by a digit from 0 to 9: rename or remove it")
    return int(path.parent.name)


def list_checksum(paths: Sequence[Path]) -> str:
    """Return the sha256, in hex, of the sorted lines ``Train/<digit>/<number>.bin``."""
    lines = sorted("/".join(path.parts[-3:]) + "\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def split_subset(members: Mapping[int, Sequence[int]]) -> dict[PartName, list[int]]:
    """Return the indices of a subset by part: the rule behind the committed files.

    Three elevenths test and one eleventh validates. Every class gives its share, rounded by
    largest remainders; within a class those with the lowest sha256 of ``seed:index``.

    Args:
        members: Indices by label.

    Raises:
        DataError: Too few recordings for three parts.
    """
    rest = {label: list(indices) for label, indices in members.items()}
    whole = sum(map(len, rest.values()))
    parts: dict[PartName, list[int]] = {}
    for part, (share, of) in SHARES.items():
        counts = share_out({label: len(ones) for label, ones in rest.items()}, whole * share // of)
        chosen = [lowest_ranked(rest[label], counts[label], SEED) for label in sorted(rest)]
        parts[part] = sorted(index for some in chosen for index in some)
        rest = {label: sorted(set(ones) - set(parts[part])) for label, ones in rest.items()}
    parts["train"] = sorted(index for ones in rest.values() for index in ones)
    if not all(parts.values()):
        raise DataError(f"{whole} recordings are too few to split: 11 are needed")
    return parts


def share_out(sizes: Mapping[int, int], count: int) -> dict[int, int]:
    """Return how many of ``count`` every class gives, in proportion to its size.

    >>> share_out({0: 5, 1: 3, 2: 2}, count=4)
    {0: 2, 1: 1, 2: 1}
    """
    whole = sum(sizes.values())
    shares = {label: size * count // whole for label, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda label: (-(sizes[label] * count % whole), label))
    for label in by_remainder[: count - sum(shares.values())]:
        shares[label] += 1
    return shares


class NmnistDataModule(EventDataModule):
    """N-MNIST: ten digits, 34x34 pixels, 310 ms in three saccades of the camera.

    ``<data folder>/NMNIST/Train/<digit>/<number>.bin``, and the same in ``Test``, downloaded and
    extracted where absent. ``name`` says what is read of it:

    * ``nmnist``: 54,000 training, 6,000 validation and 10,000 test recordings. A folder with fewer
      is refused.
    * ``nmnist_subset``: of the 1,100 recordings that ``datamodules/splits`` lists, 700, 100 and
      300, drawn from both official parts. They are taken from the whole data set, too. A folder
      that lacks some of them is another subset: the same rule splits what is there, and standard
      error names it by count and checksum.
    * either with ``_first_saccade``: only the events of the first 100 ms.

    A mirrored digit would be none: recordings are never mirrored.

    Attributes:
        subset: Count and checksum of the list of a subset, in words, after `setup`; else empty.

    References:
        Orchard et al., Converting static image datasets to spiking neuromorphic datasets using
        saccades, Frontiers in Neuroscience 9:437, 2015.
    """

    real_name: ClassVar[str] = "nmnist"
    real_folder: ClassVar[str] = "NMNIST"
    real_side: ClassVar[int] = 34
    flip: ClassVar[bool] = False
    archives: ClassVar[dict[Folder, Archive]] = ARCHIVES
    counts_of_folders: ClassVar[dict[Folder, int]] = COUNTS
    classes = CLASSES
    subset: str = ""

    @property
    def simulated(self) -> bool:
        """No name stands for a simulated data set."""
        return False

    @property
    def is_subset(self) -> bool:
        """Whether only some recordings are read, in a split of their own."""
        return "_subset" in self.name

    def obtain(self, parts: Sequence[PartName]) -> None:
        """Download and extract the archives that these parts need.

        Raises:
            DataError: They cannot be downloaded, or the whole data set is asked for and some of it
                is missing.
        """
        if self.is_subset and any(self._has(folder) for folder in FOLDERS):
            return
        needed = {folder_of(part) for part in parts}
        wanted = [folder for folder in FOLDERS if self.is_subset or folder in needed]
        absent = [folder for folder in wanted if not self._has(folder)]
        for number, folder in enumerate(absent, start=1):
            later = [self.archives[name] for name in absent[number:]]
            archive = fetch(self.archives[folder], self.folder, self.name, later)
            with FileLock(self.folder / "extraction.lock"):
                if not self._has(folder):  # else another process was faster
                    self._extract(archive, folder)
        for folder in wanted:
            self._require_complete(folder)

    def _has(self, folder: Folder) -> bool:
        """Return whether a folder is there."""
        return (self.folder / folder).is_dir()

    def _extract(self, archive: Path, folder: Folder) -> None:
        """Extract the archive, then move the one folder that is wanted."""
        with extracted(archive) as content:
            found = [path for path in content.rglob(folder) if path.is_dir()]
            if not found:
                raise DataError(f"{archive} holds no folder {folder}: delete it and run again")
            os.rename(found[0], self.folder / folder)

    def _require_complete(self, folder: Folder) -> None:
        """Refuse a folder with fewer recordings than the data set has there."""
        found, official = len(self._found(folder)), self.counts_of_folders[folder]
        if found != official:
            raise DataError(
                f"{self.folder / folder} has {found:,} recordings, the whole data set {official:,}:"
                f" read a subset by --data {self.name.replace('nmnist', 'nmnist_subset', 1)},"
                " or delete it and run again to download the whole"
            )

    def _found(self, *folders: Folder) -> list[Path]:
        """Return the recordings in these folders, sorted, without what macOS adds."""
        found = [path for folder in folders for path in (self.folder / folder).glob("*/*.bin")]
        return sorted(path for path in found if not path.name.startswith("."))

    def listing(self, part: PartName) -> list[Recording]:
        """Return a part's recordings, sorted by path."""
        if self.is_subset:
            by_index, indices = self._subset()
            chosen = [by_index[index] for index in indices[part]]
        else:
            chosen = self._found(folder_of(part))
            if part != "test":
                held_out = set(read_split(SPLIT).tolist())
                chosen = [p for p in chosen if (index_of(p) in held_out) == (part == "val")]
        return [Recording(path, label_of(path)) for path in sorted(chosen)]

    def _subset(self) -> tuple[dict[int, Path], dict[PartName, list[int]]]:
        """Return the recordings by index, and the indices of every part of the subset."""
        found = self._found(*FOLDERS)
        by_index = {index_of(path): path for path in found}
        if len(by_index) < len(found):
            raise DataError(f"{self.folder} has a number twice in one part: remove one of them")
        parts = {part: read_split(SUBSET_SPLITS[part]).tolist() for part in PART_NAMES}
        listed = [by_index[i] for some in parts.values() for i in some if i in by_index]
        if list_checksum(listed) != SUBSET_CHECKSUM:
            members: dict[int, list[int]] = {}
            for index, path in by_index.items():
                members.setdefault(label_of(path), []).append(index)
            parts, listed = split_subset(members), found
        subset = f"{len(listed):,} of {WHOLE_SET:,} recordings, list {list_checksum(listed)[:16]}"
        if subset != self.subset and listed is found:
            print(f"{self.name}: another subset than the committed one: {subset}", file=sys.stderr)
        self.subset = subset
        return by_index, parts

    def reader(self, recordings: Sequence[Recording]) -> SortedNmnist:
        """Return what reads these recordings, by their number."""
        return SortedNmnist(recordings, first_saccade_only=self.name.endswith("_first_saccade"))


def folder_of(part: PartName) -> Folder:
    """Return the folder that a part's recordings are in, in the whole data set."""
    return TEST_FOLDER if part == "test" else TRAIN_FOLDER
