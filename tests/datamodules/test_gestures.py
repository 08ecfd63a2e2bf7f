"""Gestures: where the hands go, arms of constant length, limbs where they are said to be."""

import numpy as np
import pytest

from datamodules.simulation.camera import random_generator
from datamodules.simulation.drawing import draw, limbs, wall
from datamodules.simulation.gestures import (
    LEFT,
    NAMES,
    RIGHT,
    Array,
    Subject,
    bend,
    draw_subject,
    hands,
)

SECONDS = np.linspace(0, 2, 400)
LABELS = range(len(NAMES))
SUBJECT = draw_subject(random_generator(0, 1, 0, 0))


def both(label: int, seed: int = 0, subject: Subject = SUBJECT) -> tuple[Array, Array]:
    return hands(label, SECONDS, subject, random_generator(seed, label))


def turns(path: Array, side: int) -> float:
    """Times that a hand goes round its middle, clockwise in the image (y down) above 0."""
    x, y = (path - path.mean(0)).T * [[side], [1]]
    return float(np.unwrap(np.arctan2(y, x))[-1] - np.arctan2(y, x)[0]) / (2 * np.pi)


@pytest.mark.parametrize(
    ("name", "arm", "direction"),
    [
        ("right arm clockwise", RIGHT, 1),
        ("right arm counter-clockwise", RIGHT, -1),
        ("left arm clockwise", LEFT, 1),
        ("left arm counter-clockwise", LEFT, -1),
    ],
)
def test_circles_turn_as_they_are_named(name: str, arm: int, direction: int) -> None:
    right, left = both(NAMES.index(name))
    moving, still = (right, left) if arm == RIGHT else (left, right)
    assert direction * turns(moving, arm) > 1.5
    assert np.ptp(still, axis=0).max() == 0


def test_waves_move_one_hand_above_the_shoulder() -> None:
    for name, moving in (("right hand wave", 0), ("left hand wave", 1)):
        paths = both(NAMES.index(name))
        assert paths[moving][:, 1].max() < 0
        assert np.ptp(paths[moving][:, 0]) > 0.3
        assert np.ptp(paths[1 - moving], axis=0).max() == 0


def test_clapping_hands_meet_and_part() -> None:
    right, left = both(NAMES.index("hand clapping"))
    apart = right[:, 0] + left[:, 0] + 2 * SUBJECT.shoulders / SUBJECT.arm
    assert apart.min() < 0.2 < 0.8 < apart.max()


def test_drums_beat_in_turn() -> None:
    right, left = both(NAMES.index("air drums"))
    assert np.corrcoef(right[:, 1], left[:, 1])[0, 1] < -0.8


def test_every_gesture_differs_from_every_other() -> None:
    paths = [np.concatenate(both(label), axis=1) for label in LABELS]
    for one in LABELS:
        for other in LABELS:
            same = np.abs(paths[one] - paths[other]).max() < 0.1
            assert same == (one == other)


def test_the_seed_decides_the_movement() -> None:
    for label in LABELS:
        assert np.array_equal(both(label), both(label))
        assert not np.array_equal(both(label), both(label, seed=1))


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(ValueError, match="label is 11"):
        both(len(NAMES))


@pytest.mark.parametrize("label", LABELS)
def test_arms_keep_their_length_and_elbows_do_not_jump(label: int) -> None:
    for user in range(1, 30):
        subject = draw_subject(random_generator(0, user, 0, 0))
        for hand in both(label, subject=subject):
            elbow, reached = bend(hand, 0.52, 0.48)
            assert np.allclose(np.linalg.norm(elbow, axis=1), 0.52)
            assert np.allclose(np.linalg.norm(reached - elbow, axis=1), 0.48)
            assert np.linalg.norm(np.diff(elbow, axis=0), axis=1).max() < 0.25


def test_a_hand_within_reach_gets_there_and_another_one_almost() -> None:
    _, reached = bend(np.array([[0.3, 0.4], [3.0, 4.0]]), 0.5, 0.5)
    assert np.allclose(reached[0], [0.3, 0.4])
    assert np.allclose(reached[1], 0.999 * np.array([0.6, 0.8]))


def test_a_limb_covers_what_is_near_its_line() -> None:
    background = np.zeros((32, 32), np.float32)
    parts = np.array([[[0.25, 0.5, 0.75, 0.5, 0.125]]])  # 8 to 24 across, y 16, radius 4
    frame = draw(background, parts, np.array([1], np.float32))[0]
    at = np.arange(32) + 0.5
    nearest = np.clip(at, 8, 24)
    away = np.sqrt((at - nearest)[None] ** 2 + (at - 16)[:, None] ** 2)
    assert np.allclose(frame, np.clip(4 - away + 0.5, 0, 1), atol=1e-6)
    assert set(np.unique(frame)) > {0.0, 1.0}
    assert not background.any()


def test_later_limbs_hide_earlier_ones_and_the_wall() -> None:
    right, left = both(0)
    parts, shades = limbs(SUBJECT, right, left, SECONDS)
    assert parts.shape == (len(SECONDS), len(shades), 5)
    background = wall(64, SUBJECT.wall, random_generator(0))
    frame = draw(background, parts[:1], shades)[0]
    x, y = (64 * parts[0, -1, :2]).astype(int)  # the left hand is drawn last
    assert frame[y, x] == pytest.approx(SUBJECT.skin, abs=1e-6)
    assert (frame[:3] == background[:3]).all()
    assert background.std() > 0.01
