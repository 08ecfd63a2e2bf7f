"""The film of a moving figure: thick anti-aliased limbs over a wall with a pattern."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from datamodules.simulation.compiled import kernel
from datamodules.simulation.gestures import LEFT, RIGHT, Subject, bend

Array = npt.NDArray[Any]

SWAY_HZ: Final = 0.7
TORSO: Final = 0.36  # from the shoulders downwards, heights of the image
SLEEVE: Final = 0.9  # thickness of the forearm, in that of the upper arm
HAND: Final = 1.15
PATTERN: Final = 0.12  # contrast of the wall's pattern
EDGE: Final = 1.0  # width of a blurred edge, pixels


def wall(side: int, intensity: float, generator: np.random.Generator) -> Array:
    """Return ``[side, side]`` float32: an even wall with smooth spots and upright stripes."""
    at = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(at, at)
    pattern = np.zeros((side, side))
    for _ in range(6):
        frequency, start = generator.uniform(-5, 5, 2), generator.uniform(0, 2 * np.pi)
        pattern += np.sin(2 * np.pi * (frequency[0] * x + frequency[1] * y) + start)
    stripes, start = generator.uniform(2, 5), generator.uniform(0, 2 * np.pi)
    pattern += 2 * np.sign(np.sin(2 * np.pi * stripes * x + start))
    return (intensity * (1 + PATTERN * pattern / 3)).astype(np.float32)


def limbs(subject: Subject, right: Array, left: Array, seconds: Array) -> tuple[Array, Array]:
    """Return the limbs over time, from back to front, and their intensities.

    Args:
        subject: Who moves.
        right: ``[F, 2]``, position of the right hand; see `gestures.hands`.
        left: The same for the left hand.
        seconds: ``[F]``.

    Returns:
        ``[F, K, 5]`` float64, (x, y) of both ends and the radius, in heights of the image, and
        ``[K]`` float32.
    """
    x, y = subject.centre
    sway = subject.sway * np.sin(2 * np.pi * SWAY_HZ * seconds)
    middle = np.stack([x + sway, np.full(len(seconds), y)], 1)
    parts = [*_body(subject, middle), *_arm(subject, middle, RIGHT, right)]
    parts += _arm(subject, middle, LEFT, left)
    arm = [1.25 * subject.shirt, 0.9 * subject.skin, subject.skin]
    body = [subject.shirt, subject.shirt, 0.9 * subject.skin, subject.skin]
    return np.stack(parts, 1), np.array([*body, *arm, *arm], np.float32)


def _limb(start: Array, end: Array, radius: float) -> Array:
    """Return ``[F, 5]`` of both ends ``[F, 2]`` and the radius."""
    return np.column_stack([start, end, np.full(len(start), radius)])


def _body(subject: Subject, middle: Array) -> list[Array]:
    """Return chest, belly, neck and head; ``middle`` ``[F, 2]`` lies between the shoulders."""
    width = 0.72 * subject.shoulders
    chest, hip = middle + np.array([0, 0.04]), middle + np.array([0, TORSO])
    half = np.array([width / 2, 0])
    head, chin = (middle - np.array([0, above * subject.head]) for above in (1.9, 1.65))
    return [
        _limb(chest - half, chest + half, width),
        _limb(chest, hip, 1.25 * width),
        _limb(middle, head, 0.45 * subject.head),
        _limb(head, chin, subject.head),
    ]


def _arm(subject: Subject, middle: Array, side: int, target: Array) -> list[Array]:
    """Return upper arm, forearm and hand of the arm on a side of the image."""
    shoulder = middle + np.array([side * subject.shoulders, 0.0])
    lengths = subject.arm * subject.upper_share, subject.arm * (1 - subject.upper_share)
    joints = bend(subject.arm * target, *lengths)
    elbow, hand = (shoulder + np.array([side, 1]) * joint for joint in joints)
    return [
        _limb(shoulder, elbow, subject.thickness),
        _limb(elbow, hand, SLEEVE * subject.thickness),
        _limb(hand, hand, HAND * subject.thickness),
    ]


def draw(background: Array, parts: Array, shades: Array) -> Array:
    """Return the film, ``[F, side, side]`` float32: limbs over the background, in their order.

    Args:
        background: ``[side, side]`` float32, intensity.
        parts: ``[F, K, 5]``, see `limbs`.
        shades: ``[K]`` float32, intensity of every limb.
    """
    frames = np.repeat(background[None], len(parts), 0)
    _draw(frames, parts * len(background), shades)
    return frames


@kernel
def _draw(frames: Array, parts: Array, shades: Array) -> None:
    """Draw limbs, given in pixels, into the frames; a limb is all that is near a line."""
    side = frames.shape[1]
    for frame in range(parts.shape[0]):
        for part in range(parts.shape[1]):
            x0, y0, x1, y1, radius = parts[frame, part]
            dx, dy = x1 - x0, y1 - y0
            squared = max(dx * dx + dy * dy, 1e-12)
            border = radius + EDGE + 1
            top, bottom = (
                max(int(min(y0, y1) - border), 0),
                min(int(max(y0, y1) + border) + 1, side),
            )
            first, end = max(int(min(x0, x1) - border), 0), min(int(max(x0, x1) + border) + 1, side)
            for row in range(top, bottom):
                for column in range(first, end):
                    px, py = column + 0.5 - x0, row + 0.5 - y0
                    along = min(max((px * dx + py * dy) / squared, 0.0), 1.0)
                    away = np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2)
                    cover = np.float32(min(max((radius - away) / EDGE + 0.5, 0.0), 1.0))
                    old = frames[frame, row, column]
                    frames[frame, row, column] = old + cover * (shades[part] - old)
