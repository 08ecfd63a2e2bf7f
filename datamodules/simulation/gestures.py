"""Eleven gestures of a figure with two jointed arms: where its hands go.

The figure faces the camera, so its right hand is on the left of the image. A hand position is
relative to its shoulder, in lengths of the outstretched arm: outward (away from the body) and down.

References:
    A. Amir et al., A low power, fully event-based gesture recognition system, CVPR 2017 (DVS128
    Gesture: the eleven classes).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NAMES: Final = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
RIGHT: Final = -1  # side of the image on which an arm is
LEFT: Final = 1
WANDER_HZ: Final = (0.3, 1.4)  # frequencies of "other gestures"
LOW_ELBOW: Final = (0.35, 1.0)  # where an elbow prefers to be: (outward, down)


@dataclass(frozen=True)
class Subject:
    """How one subject looks and moves; lengths in heights of the image.

    Attributes:
        centre: Middle between the shoulders, (x, y) from the upper left corner.
        shoulders: From the middle to a shoulder.
        arm: Length of the outstretched arm.
        upper_share: Share of the upper arm in it, 0 to 1.
        thickness: Radius of the upper arm.
        head: Radius of the head.
        tempo_hz: Repetitions of a gesture a second.
        extent: Size of the movements, 1 on average.
        sway: How far the body moves sideways.
        shirt, skin, wall: Intensities, 1 for white.
    """

    centre: tuple[float, float]
    shoulders: float
    arm: float
    upper_share: float
    thickness: float
    head: float
    tempo_hz: float
    extent: float
    sway: float
    shirt: float
    skin: float
    wall: float


def draw_subject(generator: np.random.Generator) -> Subject:
    """Return a subject at random."""

    def between(low: float, high: float) -> float:
        return float(generator.uniform(low, high))

    scale = between(0.88, 1.1)
    return Subject(
        centre=(between(0.45, 0.55), between(0.4, 0.5)),
        shoulders=scale * between(0.115, 0.14),
        arm=scale * between(0.33, 0.39),
        upper_share=between(0.48, 0.54),
        thickness=scale * between(0.03, 0.038),
        head=scale * between(0.075, 0.09),
        tempo_hz=between(0.9, 1.6),
        extent=between(0.85, 1.1),
        sway=between(0.001, 0.004),
        shirt=between(0.1, 0.3),
        skin=between(0.6, 0.85),
        wall=between(0.28, 0.42),
    )


def hands(
    label: int, seconds: Array, subject: Subject, generator: np.random.Generator
) -> tuple[Array, Array]:
    """Return positions of the right and the left hand, ``[F, 2]`` (outward, down) in arm lengths.

    Args:
        label: Index into `NAMES`.
        seconds: ``[F]`` float64, time of every frame.
        subject: Who moves.
        generator: Draws tempo and start of this recording and, of "other gestures", the movement.

    Raises:
        ValueError: No such label.
    """
    if not 0 <= label < len(NAMES):
        raise ValueError(f"label is {label}: give 0 to {len(NAMES) - 1}")
    tempo = subject.tempo_hz * generator.uniform(0.9, 1.1)
    phase = 2 * np.pi * (tempo * seconds + generator.uniform())
    middle = -subject.shoulders / subject.arm  # outward position of the middle of the body
    if label == len(NAMES) - 1:
        return _wander(seconds, generator), _wander(seconds, generator)
    return MOVEMENTS[label](phase, subject.extent, middle)


def _points(outward: Array | float, down: Array | float, like: Array) -> Array:
    """Return ``[F, 2]`` of two coordinates, constant or over time."""
    return np.stack([np.broadcast_to(outward, like.shape), np.broadcast_to(down, like.shape)], 1)


def _rest(phase: Array) -> Array:
    """Return the position of a hanging hand."""
    return _points(0.12, 0.97, phase)


def _clap(phase: Array, extent: float, middle: float) -> tuple[Array, Array]:
    apart = 0.06 + 0.3 * extent * (1 - np.cos(phase))
    hand = _points(middle + apart, 0.3, phase)
    return hand, hand


def _wave(phase: Array, extent: float) -> Array:
    """Return a raised hand that moves along an arc about its elbow."""
    angle = 0.55 * extent * np.sin(phase)
    return _points(0.35 + 0.5 * np.sin(angle), -0.05 - 0.5 * np.cos(angle), phase)


def _circle(phase: Array, extent: float) -> Array:
    """Return a hand on a circle, first outward, then down: clockwise in the image on its right."""
    radius = 0.65 * extent
    return _points(0.2 + radius * np.cos(phase), -0.05 + radius * np.sin(phase), phase)


def _roll(phase: Array, extent: float, middle: float) -> tuple[Array, Array]:
    """Return two hands before the chest, each going round the other."""
    across, radius = 0.06 * np.cos(2 * phase), 0.2 * extent
    right = _points(middle + across, 0.35 + radius * np.sin(2 * phase), phase)
    left = _points(middle - across, 0.35 - radius * np.sin(2 * phase), phase)
    return right, left


def _drums(phase: Array, extent: float, middle: float) -> tuple[Array, Array]:
    """Return two hands that beat in turn, fast down and slowly up."""
    right, left = (
        0.5 + 0.25 * extent * np.sin(beat + 0.5 * np.cos(beat))
        for beat in (1.5 * phase, 1.5 * phase + np.pi)
    )
    return _points(0.15, right, phase), _points(0.15, left, phase)


def _guitar(phase: Array, extent: float, middle: float) -> tuple[Array, Array]:
    """Return a right hand that strums at the hip, and a left one that slides along the neck."""
    strum, slide = 0.22 * extent * np.sin(2 * phase), 0.1 * extent * np.sin(phase / 2)
    right = _points(middle + 0.02 - 0.4 * strum, 0.62 + strum, phase)
    return right, _points(0.62 + slide, 0.12 - 0.4 * slide, phase)


def _wander(seconds: Array, generator: np.random.Generator) -> Array:
    """Return a smooth movement at random, each coordinate a sum of three sines."""
    coordinates = []
    for centre, size in ((0.5, 0.35), (0.2, 0.5)):
        frequency = generator.uniform(*WANDER_HZ, 3)
        start = generator.uniform(0, 2 * np.pi, 3)
        share = generator.dirichlet((1, 1, 1))
        waves = np.sin(2 * np.pi * frequency * seconds[:, None] + start)
        coordinates.append(centre + generator.uniform(-0.1, 0.1) + size * waves @ share)
    return np.stack(coordinates, 1)


MOVEMENTS: Final[tuple[Callable[[Array, float, float], tuple[Array, Array]], ...]] = (
    _clap,
    lambda phase, extent, _: (_wave(1.5 * phase, extent), _rest(phase)),
    lambda phase, extent, _: (_rest(phase), _wave(1.5 * phase, extent)),
    lambda phase, extent, _: (_circle(-phase, extent), _rest(phase)),
    lambda phase, extent, _: (_circle(phase, extent), _rest(phase)),
    lambda phase, extent, _: (_rest(phase), _circle(phase, extent)),
    lambda phase, extent, _: (_rest(phase), _circle(-phase, extent)),
    _roll,
    _drums,
    _guitar,
)


def bend(hand: Array, upper: float, lower: float) -> tuple[Array, Array]:
    """Return elbow and hand of an arm that reaches for a position.

    The elbow stays on one side of the line from shoulder to hand, so that it never jumps: where it
    is low and outward when the hand is at the middle of its way.

    Args:
        hand: ``[F, 2]`` (outward, down) from the shoulder; out of reach, the arm is stretched
            towards it, and too near, the hand keeps off.
        upper: Length of the upper arm, in the same unit.
        lower: Length of the forearm.

    Returns:
        Two ``[F, 2]``.
    """
    distance = np.linalg.norm(hand, axis=1)
    direction = hand / np.maximum(distance, 1e-9)[:, None]
    reach = np.clip(distance, abs(upper - lower) + 1e-3, (upper + lower) * 0.999)
    along = (upper**2 - lower**2 + reach**2) / (2 * reach)
    aside = np.sqrt(np.maximum(upper**2 - along**2, 0))
    outward, down = hand.mean(axis=0)
    turn = 1 if LOW_ELBOW[1] * outward >= LOW_ELBOW[0] * down else -1
    normal = turn * np.stack([-direction[:, 1], direction[:, 0]], 1)
    elbow = along[:, None] * direction + aside[:, None] * normal
    return elbow, reach[:, None] * direction
