"""CIFAR10-DVS, with committed splits; simulated data of the same layout.

AEDAT4, as tonic hands it out, and AEDAT 2.0, as its authors do, hold the same events.
"""

import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from filelock import FileLock
from tonic.datasets import CIFAR10DVS

from datamodules import aedat2
from datamodules.archives import Archive, extract, extracted, fetch, figshare
from datamodules.base import PartName, Recording
from datamodules.binning import DamagedRecordingError, Events
from datamodules.errors import DataError
from datamodules.events import EventDataModule, Listed
from datamodules.splits import SEED, lowest_ranked, read_split

CLASSES: Final[tuple[str, ...]] = tuple(CIFAR10DVS.classes)
PER_CLASS: Final = 1_000
# The size is that of tonic's pull request 337, which asked figshare.
ARCHIVE: Final = figshare(CIFAR10DVS.filename, 38023437, CIFAR10DVS.file_md5, "about 11.2 GB")
_FOLDER: Final = Path(__file__).parent / "splits"
SPLITS: Final[dict[PartName, Path]] = {
    "val": _FOLDER / "cifar10_dvs-validation.txt",
    "test": _FOLDER / "cifar10_dvs-test.txt",
}
SUFFIXES: Final = (".aedat4", aedat2.SUFFIX)
# Of AEDAT4: bytes before its header, the header's field dataTablePosition, and how the description
# of the streams begins in it.
_BEFORE, _TABLE_FIELD, _DESCRIPTION = 18, 1, b"<dv"


class SortedCifar10Dvs(Listed, CIFAR10DVS):  # type: ignore[misc]
    """tonic's reader over a given list of files, some of them AEDAT 2.0."""

    def __getitem__(self, index: int) -> tuple[Events, int]:
        """Return events and label.

        Raises:
            DamagedRecordingError: It has no events; it is damaged in a way that makes the reader
                panic; or it is cut, which the reader misses between two packets.
        """
        if (path := Path(self.data[index])).suffix == aedat2.SUFFIX:
            return aedat2.read_aedat2(path), self.targets[index]
        require_whole(path)
        try:
            sample: Any = super().__getitem__(index)
        except ValueError as error:  # tonic joins no packets
            raise DamagedRecordingError("it has no events") from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of pyo3; not to be imported
                raise
            raise DamagedRecordingError(f"its reader panicked ({error})") from error
        return sample[0], sample[1]


def require_whole(path: Path) -> None:
    """Find an AEDAT4 file that ends before its events do.

    Raises:
        DamagedRecordingError: The header is cut or garbled, or the file ends before the table that
            follows the last packet; a file that does not say where that is passes.

    References:
        AEDAT 4.0 file format: 14 bytes of version, 4 of length, then the flatbuffer ``IOHeader``.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_BEFORE)
        length = int.from_bytes(head[_BEFORE - 4 :], "little")
        if len(head) < _BEFORE or size < _BEFORE + length:
            raise DamagedRecordingError("its header is cut")
        head += file.read(length)
    try:
        head.partition(_DESCRIPTION)[2].partition(b"\0")[0].decode()
    except UnicodeDecodeError as error:  # the reader would end the whole process
        raise DamagedRecordingError("its header is not text") from error
    position = table_position(head)
    if position > size:
        raise DamagedRecordingError(f"it is cut: {size} bytes, its events end at {position}")


def table_position(head: bytes) -> int:
    """Return the byte at which an AEDAT4 file's table begins, or -1 if its header does not say.

    Args:
        head: The file as far as its header goes.
    """
    try:
        table = _BEFORE + struct.unpack_from("<I", head, _BEFORE)[0]
        fields = table - struct.unpack_from("<i", head, table)[0]
        length, _, *offsets = struct.unpack_from("<4H", head, fields)
        if length < 4 + 2 * len(offsets) or not offsets[_TABLE_FIELD]:
            return -1
        return int(struct.unpack_from("<q", head, table + offsets[_TABLE_FIELD])[0])
    except struct.error:
        return -1


def recordings_below(folder: Path) -> list[Path]:
    """Return the recordings in a folder and those below, sorted, without what macOS adds."""
    found = (path for suffix in SUFFIXES for path in folder.rglob(f"*{suffix}"))
    return sorted(path for path in found if not path.name.startswith("."))


def number_of(path: Path) -> int:
    """Return the number at the end of a recording's name.

    Raises:
        DataError: There is none.

    >>> number_of(Path("cifar10_airplane_27.aedat4"))
    27
    """
    found = re.search(r"\d+$", path.stem)
    if not found:
        raise DataError(f"{path} does not end in a number: rename or remove it")
    return int(found[0])


def split_class(label: int, numbers: Sequence[int]) -> dict[PartName, list[int]]:
    """Return the numbers of one class by part: the rule behind the committed files.

    Test are the last tenth in the order given, as in the paper's code; validation are a tenth of
    the others, those with the lowest sha256 of ``seed:index``, index = label * 1000 + number.

    Args:
        label: From 0.
        numbers: Of the recordings, sorted by file name: 0, 1, 10, 100, 101, ...

    Raises:
        DataError: Fewer than three recordings.
    """
    test = max(1, len(numbers) // 10)
    training = numbers[: len(numbers) - test]
    if len(training) < 2:
        raise DataError(f"class {label} has {len(numbers)} recordings: 3 are needed to split them")
    index_of = {label * PER_CLASS + number: number for number in training}
    held_out = lowest_ranked(index_of, max(1, len(training) // 10), SEED)
    val = {index_of[index] for index in held_out}
    train = [number for number in training if number not in val]
    return {"train": train, "val": sorted(val), "test": list(numbers[len(training) :])}


class Cifar10DvsDataModule(EventDataModule):
    """CIFAR10-DVS: 8,100 training, 900 validation and 1,000 test recordings, 128x128 pixels.

    ``<data folder>/CIFAR10DVS/<class>/cifar10_<class>_<number>.aedat4``, downloaded and extracted
    where absent; or ``.aedat``, as their authors hand them out. Test are the last 100 recordings of
    every class by file name, as in the paper's code; validation are 90 of the other 900. Both are
    listed under ``datamodules/splits``.

    Under another ``name``, a simulated data set ``<data folder>/<name>/<class>/<any>_<number>
    .aedat4``: its classes are its folders, sorted, and the same rule splits what is there.
    """

    real_name: ClassVar[str] = "cifar10_dvs"
    real_folder: ClassVar[str] = "CIFAR10DVS"
    archive: ClassVar[Archive] = ARCHIVE
    classes = len(CLASSES)

    def obtain(self, parts: Sequence[PartName]) -> None:
        """Download and extract the archive, of which every part needs all classes."""
        absent = self._absent_classes()
        here = (self.folder / self.archive.name).is_file()
        if len(absent) == len(CLASSES) or (absent and here):  # never, or not wholly extracted
            archive = fetch(self.archive, self.folder, self.name)
            with FileLock(self.folder / "extraction.lock"):
                if self._absent_classes():  # else another process was faster
                    self._extract(archive)
        self._require_complete()

    def _absent_classes(self) -> list[str]:
        """Return the classes without a folder."""
        return [name for name in CLASSES if not (self.folder / name).is_dir()]

    def _extract(self, archive: Path) -> None:
        """Extract the archive and the one of every class in it, then move the class folders."""
        with extracted(archive) as folder:
            for inner in sorted(folder.rglob("*.zip")):
                extract(inner, folder / f"{inner.stem}.content")
                inner.unlink()
            found = {path.parent.name: path.parent for path in recordings_below(folder)}
            for name in self._absent_classes():
                if name in found:
                    os.rename(found[name], self.folder / name)

    def _require_complete(self) -> None:
        """Refuse a data set of which a part is missing: its split would be another."""
        for name in CLASSES:
            count = len(recordings_below(self.folder / name))
            if count != PER_CLASS:
                raise DataError(
                    f"{self.folder / name} has {count} recordings, not {PER_CLASS}: delete the"
                    f" class folders in {self.folder} and run again to extract {self.archive.name}"
                )

    def listing(self, part: PartName) -> list[Recording]:
        """Return a part's recordings, sorted by path."""
        names: Sequence[str] = CLASSES
        if self.simulated:
            names = sorted({path.parent.name for path in recordings_below(self.folder)})
        self.classes = len(names)
        committed = {} if self.simulated else {key: read_split(p) for key, p in SPLITS.items()}
        part_of = {index: key for key, split in committed.items() for index in split.tolist()}
        listed = []
        for label, name in enumerate(names):
            paths = recordings_below(self.folder / name)
            by_number = {number_of(path): path for path in paths}
            if len(by_number) < len(paths):
                raise DataError(f"{self.folder / name} has a number twice: rename or remove it")
            if self.simulated:
                numbers = split_class(label, list(by_number))[part]
            else:
                numbers = [
                    n for n in by_number if part_of.get(label * PER_CLASS + n, "train") == part
                ]
            listed += [Recording(by_number[number], label) for number in numbers]
        return sorted(listed)

    def reader(self, recordings: Sequence[Recording]) -> SortedCifar10Dvs:
        """Return what reads these recordings, by their number."""
        return SortedCifar10Dvs(recordings)
