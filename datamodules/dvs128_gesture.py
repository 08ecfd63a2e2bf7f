"""DVS128 Gesture through tonic, validated on people it was not trained on; simulated data, too."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from tonic.datasets import DVSGesture

from datamodules.archives import Archive, extracted, fetch, figshare
from datamodules.base import PartName, Recording
from datamodules.binning import DamagedRecordingError, Events
from datamodules.errors import DataError
from datamodules.events import EventDataModule, Listed
from datamodules.splits import SEED, lowest_ranked, read_split

CLASSES: Final[tuple[str, ...]] = tuple(DVSGesture.classes)
Folder = Literal["ibmGestureTrain", "ibmGestureTest"]
TRAIN_FOLDER: Final[Folder] = "ibmGestureTrain"
TEST_FOLDER: Final[Folder] = "ibmGestureTest"
# The sizes are those of tonic's pull request 337, which asked figshare.
ARCHIVES: Final[dict[Folder, Archive]] = {
    TRAIN_FOLDER: figshare(
        DVSGesture.train_filename, 38022171, DVSGesture.train_md5, "about 2.4 GB"
    ),
    TEST_FOLDER: figshare(DVSGesture.test_filename, 38020584, DVSGesture.test_md5, "about 691 MB"),
}
TRAINING_USERS: Final = 23  # numbers 1 to 23; 24 to 29 are the test's
USERS: Final = 29
VALIDATION_USERS: Final = 3
SPLIT: Final = Path(__file__).parent / "splits" / "dvs128_gesture-validation-users.txt"


class SortedDvsGesture(Listed, DVSGesture):  # type: ignore[misc]
    """tonic's reader over a given list of files."""

    def __getitem__(self, index: int) -> tuple[Events, int]:
        """Return events, times in us, and label.

        Raises:
            DamagedRecordingError: The file is not a table of whole numbers, or polarities are not 0
                and 1. Tonic would make 16-bit and truth values of whatever is there.
        """
        require_table(np.load(self.data[index]))
        sample: Any = super().__getitem__(index)
        return sample[0], sample[1]


def require_table(table: npt.NDArray[Any]) -> None:
    """Refuse what would be another event as 16-bit and truth values.

    Args:
        table: ``[N, 4]``: x, y, polarity and time.

    Raises:
        DamagedRecordingError: It is not, or a value is out of range.
    """
    if table.ndim != 2 or table.shape[1] != 4:
        raise DamagedRecordingError(f"its shape is {table.shape}, not [N, 4]")
    if not np.isfinite(table).all() or (table != np.floor(table)).any():
        raise DamagedRecordingError("it holds values that are not whole numbers")
    limits = np.iinfo(np.int16)
    if len(table) and (table[:, :2].min() < limits.min or table[:, :2].max() > limits.max):
        raise DamagedRecordingError("it holds pixels beyond any sensor")
    if not np.isin(table[:, 2], (0, 1)).all():
        raise DamagedRecordingError("it holds polarities other than 0 and 1")


def user_of(path: Path) -> int:
    """Return the number of the user in a recording's folder, ``user07_led`` for example.

    Raises:
        DataError: The folder is named otherwise.

    >>> user_of(Path("ibmGestureTrain/user07_fluorescent/3.npy"))
    7
    """
    word = path.parent.name.partition("_")[0]
    if not word.removeprefix("user").isdecimal():
        raise DataError(f"{path.parent} is not named like user07_led: rename or remove it")
    return int(word.removeprefix("user"))


def validation_users(users: Sequence[int]) -> list[int]:
    """Return the people held out of training, 3 of 23 or that share: the rule of the split.

    They have the lowest sha256 of ``seed:user``.
    """
    share = round(len(users) * VALIDATION_USERS / TRAINING_USERS)
    return lowest_ranked(users, max(1, share), SEED)


class Dvs128GestureDataModule(EventDataModule):
    """DVS128 Gesture: 11 gestures, 128x128 pixels, people 1 to 23 for training, the rest for test.

    ``<data folder>/DVSGesture/ibmGestureTrain/user<NN>_<light>/<label>.npy``, and the same in
    ``ibmGestureTest``, downloaded and extracted where absent; what is there is taken as it is.
    Validation are three of the 23 people, listed under ``datamodules/splits``. One file holds one
    gesture of a user in one light, so that there are at most 264 in the test part; the paper's
    code cuts the original recordings itself, into 1,176 and 288.

    A mirrored "right hand wave" would be a left one: recordings are never mirrored.

    Under another ``name``, a simulated data set of the same layout; the same rule holds people out.
    """

    real_name: ClassVar[str] = "dvs128_gesture"
    real_folder: ClassVar[str] = "DVSGesture"
    flip: ClassVar[bool] = False
    archives: ClassVar[dict[Folder, Archive]] = ARCHIVES
    classes = len(CLASSES)

    def obtain(self, parts: Sequence[PartName]) -> None:
        """Download and extract the archives that these parts need."""
        wanted = {folder_of(part) for part in parts}
        absent = [name for name in self.archives if name in wanted and not self._has(name)]
        for number, folder in enumerate(absent, start=1):
            later = [self.archives[name] for name in absent[number:]]
            archive = fetch(self.archives[folder], self.folder, self.name, later)
            with FileLock(self.folder / "extraction.lock"):
                if not self._has(folder):  # else another process was faster
                    self._extract(archive, folder)

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

    def listing(self, part: PartName) -> list[Recording]:
        """Return a part's recordings, sorted by path."""
        found = sorted((self.folder / folder_of(part)).glob("*/*.npy"))
        paths = [path for path in found if not path.name.startswith(".")]  # macOS adds such
        listed = [Recording(path, label_of(path)) for path in paths]
        if not self.simulated and not self.partial:
            self._require_everybody(part, {user_of(path) for path in paths})
        if part == "test":
            return listed
        users = sorted({user_of(path) for path in paths})
        held_out = validation_users(users) if self.simulated else read_split(SPLIT).tolist()
        return [r for r in listed if (user_of(r.path) in held_out) == (part == "val")]

    def _require_everybody(self, part: PartName, users: set[int]) -> None:
        """Refuse a folder with fewer or other users than the data set has there."""
        test = range(TRAINING_USERS + 1, USERS + 1)
        wanted = set(test if part == "test" else range(1, TRAINING_USERS + 1))
        if users != wanted:
            differing = ", ".join(f"user{user:02}" for user in sorted(users ^ wanted))
            raise DataError(
                f"{self.folder / folder_of(part)} is not the whole data set ({differing} missing or"
                " too many): delete it and run again, or restore it from a good copy"
            )

    def reader(self, recordings: Sequence[Recording]) -> SortedDvsGesture:
        """Return what reads these recordings, by their number."""
        return SortedDvsGesture(recordings)


def folder_of(part: PartName) -> Folder:
    """Return the folder that a part's recordings are in."""
    return TEST_FOLDER if part == "test" else TRAIN_FOLDER


def label_of(path: Path) -> int:
    """Return the label that is a recording's name.

    Raises:
        DataError: It is none.
    """
    if not path.stem.isdecimal() or int(path.stem) >= len(CLASSES):
        raise DataError(
            f"{path} is not named by a label from 0 to {len(CLASSES) - 1}: rename or remove it"
        )
    return int(path.stem)
