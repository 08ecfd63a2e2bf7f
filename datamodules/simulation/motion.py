"""Movements of an image in front of an event camera, and the film that the camera sees."""

from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.simulation.compiled import kernel

Array = npt.NDArray[Any]


def saccades(frames: int, amplitude: float) -> Array:
    """Return ``[F, 2]`` float64, (x, y) in pixels: once round a triangle in three saccades.

    Each saccade is straight, of equal duration, and starts and ends at rest (raised cosine). The
    corners lie ``amplitude`` from the middle of the triangle, which is at 0.

    Args:
        frames: F, 2 and up.
        amplitude: Pixels.

    References:
        G. Orchard, A. Jayawant, G. Cohen and N. Thakor, Converting static image datasets to
        spiking neuromorphic datasets using saccades, Frontiers in Neuroscience 9:437, 2015.
    """
    angles = np.pi * (0.5 + np.array([0, 2, 4, 6]) / 3)
    corners = amplitude * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    progress = np.linspace(0, 3, frames)
    saccade = np.minimum(progress.astype(np.int64), 2)
    share = (1 - np.cos(np.pi * (progress - saccade))) / 2
    path: Array = corners[saccade] + share[:, None] * (corners[saccade + 1] - corners[saccade])
    return path


def closed_path(frames: int, amplitude: float, loops: int) -> Array:
    """Return ``[F, 2]`` float64, (x, y) in pixels: round a circle, so that it ends where it began.

    The recorded data set moved the image smoothly along a closed loop, again and again; a circle is
    the plainest such loop. Edges of every orientation move across the pixels.

    Args:
        frames: F, 2 and up.
        amplitude: Radius, pixels.
        loops: Times round.

    References:
        H. Li, H. Liu, X. Ji, G. Li and L. Shi, CIFAR10-DVS: an event-stream dataset for object
        classification, Frontiers in Neuroscience 11:309, 2017 (repeated closed-loop smooth
        movement).
    """
    angle = 2 * np.pi * loops * np.linspace(0, 1, frames)
    path: Array = amplitude * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return path


def film(scene: Array, path: Array, side: int) -> Array:
    """Return what a square sensor sees of a moving scene, ``[F, side, side]``, bilinear.

    Args:
        scene: ``[S, S]`` float32 in pixels of the sensor; larger than the sensor by twice the
            longest way of the path, and a pixel.
        path: ``[F, 2]`` float64, (x, y): how far the scene moved right and down from the middle.
        side: Of the sensor, pixels.

    Returns:
        float32, in the unit of the scene.

    Raises:
        ValueError: The scene is too small for the path.
    """
    margin = (len(scene) - side) / 2
    farthest = float(np.abs(path).max())
    if farthest > margin - 0.5:
        raise ValueError(f"the path goes {farthest:.1f} pixels far: give a scene of a margin above")
    frames = np.empty((len(path), side, side), np.float32)
    _shift(scene, margin - path, frames)
    return frames


@kernel
def _shift(scene: Array, corners: Array, frames: Array) -> None:
    """Fill ``frames`` with the windows whose upper left corners (x, y) are given."""
    side = frames.shape[1]
    for frame in range(frames.shape[0]):
        left, top = int(corners[frame, 0]), int(corners[frame, 1])
        right_share = np.float32(corners[frame, 0] - left)
        low_share = np.float32(corners[frame, 1] - top)
        left_share, high_share = np.float32(1) - right_share, np.float32(1) - low_share
        for row in range(side):
            high, low = scene[top + row], scene[top + row + 1]
            for column in range(side):
                at = left + column
                above = left_share * high[at] + right_share * high[at + 1]
                below = left_share * low[at] + right_share * low[at + 1]
                frames[frame, row, column] = high_share * above + low_share * below
