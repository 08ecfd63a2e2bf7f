"""Movements: where paths begin, turn and end; the film against a slow bilinear formula."""

import numpy as np
import pytest

from datamodules.simulation.motion import Array, closed_path, film, saccades


def test_saccades_go_round_a_triangle_and_rest_at_its_corners() -> None:
    path = saccades(301, 3.0)
    corners = path[[0, 100, 200, 300]]
    assert np.allclose(corners[0], corners[3])
    assert np.allclose(np.linalg.norm(corners, axis=1), 3.0)
    sides = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    assert np.allclose(sides, 3.0 * np.sqrt(3))
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert max(speed[0], speed[99], speed[100], speed[200]) < 0.1 * speed.max()
    straight = np.cross(np.pad(path[:101] - path[0], ((0, 0), (0, 1))), [*(path[100] - path[0]), 0])
    assert np.allclose(straight, 0)


def test_the_closed_path_ends_where_it_began_at_even_speed() -> None:
    path = closed_path(241, 4.0, loops=2)
    assert np.allclose(path[0], path[-1])
    assert np.allclose(path[0], path[120])
    assert not np.allclose(path[0], path[60])
    assert np.allclose(np.linalg.norm(path, axis=1), 4.0)
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert np.allclose(speed, speed[0])


def bilinear(scene: Array, x: float, y: float) -> float:
    column, row = int(np.floor(x)), int(np.floor(y))
    total = 0.0
    for i in (0, 1):
        for j in (0, 1):
            share = (1 - abs(x - column - i)) * (1 - abs(y - row - j))
            total += share * float(scene[row + j, column + i])
    return total


def test_the_film_matches_the_bilinear_oracle() -> None:
    scene = np.random.default_rng(0).random((20, 20), np.float32)
    path = np.array([[0.0, 0.0], [1.0, -2.0], [0.3, 0.7], [-2.25, 1.5]])
    frames = film(scene, path, side=12)
    assert frames.dtype == np.float32
    for frame, (right, down) in zip(frames, path, strict=True):
        expected = [
            [bilinear(scene, 4 + x - right, 4 + y - down) for x in range(12)] for y in range(12)
        ]
        assert np.allclose(frame, expected, atol=1e-6)


def test_whole_pixels_shift_without_blur() -> None:
    scene = np.random.default_rng(0).random((20, 20), np.float32)
    frames = film(scene, np.array([[0.0, 0.0], [2.0, 1.0]]), side=12)
    assert (frames[0] == scene[4:16, 4:16]).all()
    assert (frames[1, 1:, 2:] == frames[0, :-1, :-2]).all()
    assert (frames[1] != frames[0]).any()


def test_a_scene_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"4\.0 pixels far"):
        film(np.zeros((20, 20), np.float32), closed_path(10, 4.0, 1), side=12)
