"""Every data set in one place; a new one is a module, an entry here and a recipe.

``docs/adding_a_data_set.md`` shows how. Nothing is imported before a data set is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datamodules.base import DataModule

PARTS: Final = ("batch_size", "seed", "augment", "train_images", "val_images", "test_images")
IMAGES: Final = (*PARTS, "autoaugment", "cutout")
FRAMES: Final = (
    *(*PARTS, "data_dir", "skip_damaged"),
    *("time_steps", "train_steps", "binning", "spatial_pool"),
)


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Attributes:
        kind: Import path of its datamodule, ``package.module:Class``.
        classes: Number of classes.
        takes: Fields of the recipe, and ``seed``, ``data_dir`` or ``skip_damaged``, that the
            datamodule takes under the same names.
        fixed: Further arguments of the datamodule.
        items: What it has many of: ``images`` or ``recordings``.
        needs: What it takes to have it beside a call of this program; empty for nothing.
        about: What must be known beside a number on it, a sentence; empty for nothing.
        simulated: Whether it is made here, by the simulated camera.
        cells: Cells that it has beside the paper's: method, network, T.
    """

    kind: str
    classes: int
    takes: tuple[str, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    items: str = "images"
    needs: str = ""
    about: str = ""
    simulated: bool = False
    cells: tuple[tuple[str, str, int], ...] = ()


CIFAR: Final = partial(
    DataSet, "datamodules.cifar:CifarDataModule", takes=(*IMAGES, "data_dir", "normalisation")
)
GESTURES: Final = partial(
    DataSet, "datamodules.dvs128_gesture:Dvs128GestureDataModule", 11, FRAMES, items="recordings"
)
CLASS_FOLDERS: Final = partial(
    DataSet, "datamodules.cifar10_dvs:Cifar10DvsDataModule", 10, FRAMES, items="recordings"
)
NMNIST: Final = partial(
    DataSet, "datamodules.nmnist:NmnistDataModule", 10, FRAMES, items="recordings"
)
NMNIST_SUBSET: Final = partial(
    NMNIST,
    about="A subset of N-MNIST: 1,100 of its 70,000 recordings (list ed20da834d3f8947), drawn from "
    "both official parts, in a split of its own; not comparable with the whole data set",
)
DOWNLOAD: Final = "the recordings must be downloaded, and the paper's tier takes a GPU"

DATA_SETS: Final[dict[str, DataSet]] = {
    "cifar10": CIFAR(classes=10, fixed={"dataset": "cifar10"}),
    "cifar100": CIFAR(classes=100, fixed={"dataset": "cifar100"}),
    "imagenet": DataSet(
        "datamodules.imagenet:ImageNetDataModule",
        classes=1000,
        takes=(*PARTS, "data_dir"),
        needs="the images are handed out on registration only, and training takes GPUs for days",
    ),
    "digits": DataSet("datamodules.digits:DigitsDataModule", classes=10, takes=IMAGES),
    "dvs128_gesture": GESTURES(needs=DOWNLOAD),
    "cifar10_dvs": CLASS_FOLDERS(needs=DOWNLOAD),
    "nmnist": NMNIST(needs=DOWNLOAD, cells=(("surrogate", "sew_5b", 10),)),
    "nmnist_first_saccade": NMNIST(needs=DOWNLOAD),
    "nmnist_subset": NMNIST_SUBSET(),
    "nmnist_subset_first_saccade": NMNIST_SUBSET(),
    "dvs128_gesture_sim": GESTURES(simulated=True, cells=(("surrogate", "sew_7b", 16),)),
    "cifar10_dvs_sim": CLASS_FOLDERS(simulated=True, cells=(("surrogate", "sew_wide_7b", 16),)),
    "digits_dvs_sim": CLASS_FOLDERS(simulated=True),
    "gesture_smoke_sim": GESTURES(simulated=True),
}


def make_datamodule(name: str, given: Mapping[str, Any]) -> "DataModule":
    """Return the datamodule of a data set; nothing is read yet.

    Args:
        name: Key of `DATA_SETS`.
        given: Everything that some data set takes, see `DataSet.takes`.

    Raises:
        DataError: A number is out of range.
    """
    found = DATA_SETS[name]
    arguments = {key: given[key] for key in found.takes} | dict(found.fixed)
    if found.items == "recordings":
        arguments["name"] = name
    if found.simulated:
        from datamodules.simulation.simulate import simulate

        arguments["make"] = partial(simulate, name, data_dir=given["data_dir"])
    made: DataModule = resolve_name(found.kind)(**arguments)
    return made
