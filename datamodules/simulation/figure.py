"""A figure of an event data set: a row of frames over time for every class."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError
from datamodules.simulation.datasets import DESCRIPTION
from datamodules.simulation.gestures import NAMES

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

DVS128_SIDE: Final = 128
TIME_STEPS: Final = 8
FORMATS: Final = (".png", ".svg")
OFF_COLOUR: Final = "#0072b2"  # Okabe and Ito's, readable for colour-blind people
ON_COLOUR: Final = "#d55e00"
SATURATED: Final = 99.0  # percentile of the events at a pixel that gets the full colour
WIDTH: Final = 8.0  # inches
LABEL: Final = 1.5  # inches of it for the name of the class
FOOT: Final = 0.35  # inches of the height for the caption
SMALLEST: Final = 240  # pixels of an animation, at least
GAP: Final = 4  # pixels between its recordings
ACROSS: Final = 5  # of its recordings
LASTS: Final = 2_000  # ms, once through


def frames_figure(folder: Path, out: Path, *, number: int = 0, span_us: int | None = None) -> Path:
    """Draw one recording of every class as frames over time; on and off events in two colours.

    Args:
        folder: Class folders of AEDAT4 files, or ``ibmGestureTrain`` or else ``ibmGestureTest``
            with NumPy files.
        out: PNG or SVG, replaced if it exists.
        number: Which recording of every class, from 0, by name.
        span_us: Draw so much from the start, us; None for the whole recording.

    Returns:
        ``out``.
    """
    require_format(out)
    paths = recordings(folder, number)
    side = sensor_side(folder)
    frames = {
        name: bin_events(read(path), TIME_STEPS, side, span_us) for name, path in paths.items()
    }
    draw_frames(frames, out)
    return out


def draw_frames(frames: Mapping[str, Array], out: Path) -> None:
    """Draw a row of frames for every recording.

    Args:
        frames: Of every recording, see `bin_events`, by its name; the same number of each.
        out: PNG or SVG, replaced if it exists.
    """
    from matplotlib import style

    # As matplotlib draws without a matplotlibrc: a figure is the same everywhere.
    with style.context("default"), style.context({"svg.hashsalt": "frames"}):
        figure = _draw(frames)
        metadata = {"Date": None} if out.suffix.lower() == ".svg" else {}
        kind = out.suffix[1:].lower()
        _save(lambda path: figure.savefig(path, format=kind, dpi=150, metadata=metadata), out)


def animate_frames(frames: Mapping[str, Array], out: Path) -> None:
    """Show the recordings beside each other, five across, frame after frame.

    Args:
        frames: As in `draw_frames`.
        out: GIF, replaced if it exists.
    """
    from PIL import Image

    films = [_in_colour(steps) for steps in frames.values()]
    side = max(film.shape[1] for film in films)
    scale = max(1, round(SMALLEST / side / (1 if len(films) == 1 else 2)))
    across = min(ACROSS, len(films))
    pitch = side * scale + GAP
    shape = -(-len(films) // across) * pitch - GAP, across * pitch - GAP
    pictures = []
    for step in range(len(films[0])):
        picture = np.full((*shape, 3), 224, np.uint8)
        for number, film in enumerate(films):
            row, column = number // across * pitch, number % across * pitch
            large = film[step].repeat(scale, 0).repeat(scale, 1)
            picture[row : row + len(large), column : column + large.shape[1]] = large
        pictures.append(Image.fromarray(picture))
    _save(
        lambda path: pictures[0].save(
            path,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=LASTS // len(pictures),
            loop=0,
        ),
        out,
    )


def _in_colour(steps: Array) -> Array:
    """Return frames ``[steps, side, side]`` as ``[steps, side, side, 3]`` uint8, in our colours."""
    full = _full_colour(steps)
    colours = np.asarray(_colours()((steps / full + 1) / 2, bytes=True))
    return colours[..., :3]


def _save(write: Callable[[Path], object], out: Path) -> None:
    """Write the picture, whole or not at all; raise DataError where that fails."""
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, out)
    except OSError as error:
        raise DataError(
            f"{out} cannot be written ({error.strerror or error}): check its folder and make room"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_format(out: Path, formats: Sequence[str] = FORMATS) -> None:
    """Refuse a file name of another format.

    Raises:
        DataError: It is none of these.
    """
    if out.suffix.lower() not in formats:
        raise DataError(f"invalid picture {out}: give a name that ends in {' or '.join(formats)}")


def recordings(folder: Path, number: int) -> dict[str, Path]:
    """Return one recording of every class, by the name of the class.

    Raises:
        DataError: There are none, or too few.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*/*.aedat4")):
        found.setdefault(path.parent.name, []).append(path)
    for label, name in enumerate(NAMES):
        for part in ("ibmGestureTrain", "ibmGestureTest"):
            if name not in found and (paths := sorted(folder.glob(f"{part}/*/{label}.npy"))):
                found[name] = paths
    if not found or any(len(paths) <= number for paths in found.values()):
        raise DataError(f"{folder} has no recording number {number} of every class: simulate it")
    return {name: paths[number] for name, paths in found.items()}


def sensor_side(folder: Path) -> int:
    """Return the side of the sensor that a simulated data set states, else that of the DVS128."""
    path = folder / DESCRIPTION
    if not path.is_file():
        return DVS128_SIDE
    return int(json.loads(path.read_text(encoding="utf-8"))["sensor_side"])


def read(path: Path) -> Array:
    """Return a recording's ``[N, 4]`` int64: x, y, polarity (1 for on) and time in us."""
    if path.suffix == ".npy":
        rows: Array = np.load(path).astype(np.int64) * (1, 1, 1, 1000)
        return rows
    from tonic.io import read_aedat4

    events = read_aedat4(str(path))
    columns = (events[name].astype(np.int64) for name in ("x", "y", "on", "t"))
    return np.stack(list(columns), axis=1)


def bin_events(rows: Array, steps: int, side: int, span_us: int | None = None) -> Array:
    """Return on minus off events a pixel and time step, ``[steps, side, side]`` int64.

    Args:
        rows: See `read`.
        steps: Of equal length.
        side: Of the sensor, pixels.
        span_us: Of all steps together, from the first event on; None up to the last event.
    """
    x, y, on, t = rows.T
    t = t - t[0]
    span = span_us or int(t[-1]) + 1
    inside = t < span
    frames = np.zeros((steps, side, side), np.int64)
    cells = (t * steps // span)[inside], y[inside], x[inside]
    np.add.at(frames, cells, 2 * on[inside] - 1)
    return frames


def _colours() -> "Colormap":
    """Return the colours from darker over nothing to brighter."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("polarity", [OFF_COLOUR, "white", ON_COLOUR])


def _full_colour(steps: Array) -> float:
    """Return how many events of a pixel get the full colour, 1 or more."""
    active = np.abs(steps[steps != 0])
    return max(1.0, float(np.percentile(active, SATURATED))) if active.size else 1.0


def _draw(frames: Mapping[str, Array]) -> "Figure":
    """Return the figure: a row per class, a column per time step."""
    from matplotlib.figure import Figure

    columns = len(next(iter(frames.values())))
    height = (WIDTH - LABEL) / columns * len(frames) + FOOT
    figure = Figure(figsize=(WIDTH, height))
    caption = f"time in {columns} equal steps; orange: brighter, blue: darker"
    figure.text(0.5, 0.1 / height, caption, ha="center", size=8)
    panels = figure.subplots(
        len(frames),
        columns,
        squeeze=False,
        gridspec_kw={
            **{"left": LABEL / WIDTH, "right": 0.99, "bottom": FOOT / height, "top": 0.995},
            **{"wspace": 0.04, "hspace": 0.04},
        },
    )
    for row, (name, steps) in zip(panels, frames.items(), strict=True):
        full = _full_colour(steps)
        row[0].set_ylabel(
            name.replace(" counter", "\ncounter"), rotation=0, ha="right", va="center", size=8
        )
        for axes, step in zip(row, steps, strict=True):
            axes.imshow(step, cmap=_colours(), vmin=-full, vmax=full, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
    return figure
