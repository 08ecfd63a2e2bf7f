"""The simulated data sets: every number that makes one, and what each recording films."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import interpolate

from datamodules.base import find_folder
from datamodules.cifar import read_verified
from datamodules.digits import SCALE, read_digits
from datamodules.errors import DataError
from datamodules.simulation.camera import Camera, random_generator, record
from datamodules.simulation.drawing import draw, limbs, wall
from datamodules.simulation.gestures import NAMES, draw_subject, hands
from datamodules.simulation.motion import closed_path, film, saccades

Array = npt.NDArray[Any]
Source = Literal["cifar10", "digits"]

DESCRIPTION: Final = "simulation.json"  # written last into a data set's folder: it is complete
VERSION: Final = 1  # raise it when the same numbers come to mean other events
GREY: Final = (0.299, 0.587, 0.114)  # shares of red, green and blue in the intensity
CLASSES: Final[dict[Source, tuple[str, ...]]] = {
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    "digits": tuple(str(digit) for digit in range(10)),
}
LIGHTINGS: Final = {"fluorescent": 1.0, "led": 0.6, "natural": 0.35}  # intensity of white
FIRST_TEST_USER: Final = 24  # of 29: DVS128 Gesture trains on users 1 to 23
LAST_USER: Final = 29


class Take(NamedTuple):
    """One recording to be made.

    Attributes:
        path: Of its file, below the folder of the data set; the ending is the format.
        film: Returns its events; can be pickled.
    """

    path: str
    film: Callable[[], Array]


@dataclass(frozen=True)
class ImageSimulation:
    """Images that move in front of the camera, in one folder a class.

    Attributes:
        name: Of the data set.
        source: Where the images come from: the training files of CIFAR-10, or the digits that ship
            with scikit-learn.
        movement: See `motion`.
        sensor_side: Pixels.
        image_side: Of the image on the sensor, pixels, at most ``sensor_side``.
        recordings_per_class: The first so many images of every class.
        frames: Of the film from which events are made.
        duration_us: Of a recording, us.
        amplitude: Of the movement, pixels.
        loops: Times round the closed path.
        camera: See `Camera`.
        seed: 0 and up.
        version: Of the simulator.

    Raises:
        DataError: A number is out of range.
    """

    name: str
    source: Source
    movement: Literal["saccades", "closed_path"]
    sensor_side: int
    image_side: int
    recordings_per_class: int
    frames: int
    duration_us: int
    amplitude: float
    loops: int
    camera: Camera
    seed: int = 0
    version: int = VERSION
    counted_by: ClassVar[str] = "recordings_per_class"

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_at_least(self, 1, "recordings_per_class", "sensor_side", "loops")
        require_at_least(self, 2, "frames", "duration_us")
        require_at_least(self, 0, "seed", "amplitude")
        if not 1 <= self.image_side <= self.sensor_side:
            raise DataError(f"image_side is {self.image_side}: give 1 to {self.sensor_side}")

    def takes(self, data_dir: str | Path | None = None) -> list[Take]:
        """Return every recording to be made, class by class."""
        return self.takes_of(*read_images(self.source, data_dir))

    def takes_of(self, images: Array, labels: Array) -> list[Take]:
        """Return the recordings of the first images of every class.

        Args:
            images: ``[N, S, S]`` float32 in [0, 1].
            labels: ``[N]`` integers from 0.

        Raises:
            DataError: A class has too few images.
        """
        takes = []
        for label, name in enumerate(CLASSES[self.source]):
            members = np.flatnonzero(labels == label)
            if len(members) < self.recordings_per_class:
                raise DataError(
                    f"{self.source} has {len(members)} images of class {name}:"
                    f" give recordings_per_class up to that, not {self.recordings_per_class}"
                )
            for number, index in enumerate(members[: self.recordings_per_class]):
                path = f"{name}/{self.source}_{name}_{number}.aedat4"
                takes.append(Take(path, partial(self.film, images[index], label, number)))
        return takes

    def film(self, image: Array, label: int, number: int) -> Array:
        """Return the events of one image, ``[S, S]`` float32 in [0, 1]."""
        if self.movement == "saccades":
            path = saccades(self.frames, self.amplitude)
        else:
            path = closed_path(self.frames, self.amplitude, self.loops)
        frames = film(self.scene(image), path, self.sensor_side)
        generator = random_generator(self.seed, label, number)
        return record(frames, frame_times(self.frames, self.duration_us), self.camera, generator)

    def scene(self, image: Array) -> Array:
        """Return the enlarged image on a plain ground of the median intensity of its border.

        The ground reaches as far as the movement shows it.
        """
        size = (self.image_side, self.image_side)
        large = interpolate(torch.tensor(image)[None, None], size, mode="bicubic")[0, 0]
        border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
        side = self.sensor_side + 2 * (int(np.ceil(self.amplitude)) + 1)
        scene = np.full((side, side), np.median(border), np.float32)
        first = (side - self.image_side) // 2
        inside = slice(first, first + self.image_side)
        scene[inside, inside] = large.clamp(0, 1).numpy()
        return scene


@dataclass(frozen=True)
class GestureSimulation:
    """Figures that make gestures, in the folders of tonic's DVS128 Gesture.

    Attributes:
        name: Of the data set.
        sensor_side: Pixels.
        train_users: 1 to 23; their numbers start from 1.
        test_users: 1 to 6; their numbers start from 24.
        lightings: Names in `LIGHTINGS`: every user makes every gesture once under each.
        frames: Of the film from which events are made.
        duration_us: Of a recording, us.
        camera: See `Camera`.
        seed: 0 and up.
        version: Of the simulator.

    Raises:
        DataError: A number is out of range.
    """

    name: str
    sensor_side: int
    train_users: int
    test_users: int
    lightings: tuple[str, ...]
    frames: int
    duration_us: int
    camera: Camera
    seed: int = 0
    version: int = VERSION
    counted_by: ClassVar[str] = "train_users and test_users"

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_at_least(self, 1, "sensor_side", "train_users", "test_users")
        require_at_least(self, 2, "frames", "duration_us")
        require_at_least(self, 0, "seed")
        most = FIRST_TEST_USER - 1, LAST_USER + 1 - FIRST_TEST_USER
        if self.train_users > most[0] or self.test_users > most[1]:
            raise DataError(
                f"{self.name}: give at most {most[0]} train_users, {most[1]} test_users"
            )
        if not self.lightings or not set(self.lightings) <= set(LIGHTINGS):
            raise DataError(f"lightings is {self.lightings}: give some of {', '.join(LIGHTINGS)}")

    def takes(self, data_dir: str | Path | None = None) -> list[Take]:
        """Return every recording to be made, user by user; nothing is read."""
        training = [("ibmGestureTrain", 1 + user) for user in range(self.train_users)]
        test = [("ibmGestureTest", FIRST_TEST_USER + user) for user in range(self.test_users)]
        return [
            Take(
                f"{part}/user{user:02}_{lighting}/{label}.npy",
                partial(self.film, user, lighting, label),
            )
            for part, user in training + test
            for lighting in self.lightings
            for label in range(len(NAMES))
        ]

    def film(self, user: int, lighting: str, label: int) -> Array:
        """Return the events of one gesture."""
        subject = draw_subject(random_generator(self.seed, user, 0, 0))
        generator = random_generator(self.seed, user, 1 + list(LIGHTINGS).index(lighting), label)
        times = frame_times(self.frames, self.duration_us)
        seconds = times * 1e-6
        right, left = hands(label, seconds, subject, generator)
        background = wall(self.sensor_side, subject.wall, generator)
        frames = draw(background, *limbs(subject, right, left, seconds))
        frames *= np.float32(LIGHTINGS[lighting])
        return record(frames, times, self.camera, generator)


Simulation = ImageSimulation | GestureSimulation


def require_at_least(simulation: Simulation, least: int, *names: str) -> None:
    """Refuse fields below a number.

    Raises:
        DataError: One is.
    """
    for name in names:
        if getattr(simulation, name) < least:
            raise DataError(f"{name} is {getattr(simulation, name)}: give {least} or more")


def frame_times(frames: int, duration_us: int) -> Array:
    """Return ``[F]`` int64, us, from 0 to the end of the recording."""
    return np.linspace(0, duration_us, frames).astype(np.int64)


def read_images(source: Source, data_dir: str | Path | None) -> tuple[Array, Array]:
    """Return intensities ``[N, S, S]`` float32 in [0, 1], labels ``[N]`` int64, in file order."""
    if source == "digits":
        part = read_digits()
        images = part.images[:, 0, ::SCALE, ::SCALE].float()
    else:
        part, _ = read_verified("cifar10", find_folder(data_dir))
        images = (part.images * torch.tensor(GREY).view(3, 1, 1)).sum(1)
    return images.div(255).numpy(), part.labels.numpy()


SIMULATED: Final[dict[str, Simulation]] = {
    simulation.name: simulation
    for simulation in (
        ImageSimulation(
            name="cifar10_dvs_sim",
            source="cifar10",
            movement="closed_path",
            sensor_side=128,
            image_side=112,
            recordings_per_class=400,
            frames=120,
            duration_us=1_200_000,
            amplitude=4.0,
            loops=2,
            camera=Camera(threshold=0.3, dark_intensity=0.1),
        ),
        ImageSimulation(
            name="digits_dvs_sim",
            source="digits",
            movement="saccades",
            sensor_side=32,
            image_side=24,
            recordings_per_class=60,
            frames=60,
            duration_us=300_000,
            amplitude=3.0,
            loops=1,
            camera=Camera(threshold=0.4, dark_intensity=0.1),
        ),
        GestureSimulation(
            name="dvs128_gesture_sim",
            sensor_side=128,
            train_users=23,
            test_users=6,
            lightings=tuple(LIGHTINGS),
            frames=200,
            duration_us=1_600_000,
            camera=Camera(threshold=0.25),
        ),
        GestureSimulation(
            name="gesture_smoke_sim",
            sensor_side=32,
            train_users=12,
            test_users=4,
            lightings=("fluorescent",),
            frames=200,
            duration_us=1_600_000,
            camera=Camera(),
        ),
    )
}
