"""The event camera: kernel against a slow scalar formula, times, refractoriness, noise, seeds."""

import math

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.simulation.camera import (
    EVENT,
    LOWEST_THRESHOLD,
    Array,
    Camera,
    draw_noise,
    draw_thresholds,
    random_generator,
    record,
    threshold_events,
)

Event = tuple[int, int, int, bool]  # t, x, y, on
QUIET = Camera(threshold=0.2, mismatch=0, refractory_us=0, noise_hz=0)


def oracle(log_intensity: Array, times: Array, thresholds: Array, refractory: int) -> list[Event]:
    """Events of one pixel after another: every level between two frames has a time of its own."""
    events = []
    for y in range(log_intensity.shape[1]):
        for x in range(log_intensity.shape[2]):
            curve = [float(value) for value in log_intensity[:, y, x]]
            memory, last = curve[0], -math.inf
            for k in range(1, len(curve)):
                rises = curve[k] > memory
                step = float(thresholds[int(rises), y, x])
                for _ in range(math.floor(abs(curve[k] - memory) / step)):
                    memory += step if rises else -step
                    share = (memory - curve[k - 1]) / (curve[k] - curve[k - 1])
                    time = int(times[k - 1] + math.floor(share * (times[k] - times[k - 1])))
                    if time - last >= refractory:
                        events.append((time, x, y, rises))
                        last = time
    return sorted(events)


def film(seed: int, frames: int = 12, side: int = 9) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    curve = generator.normal(0, 0.4, (frames, side, side)).cumsum(0).astype(np.float32)
    return curve, generator.integers(1, 5_000, frames).cumsum()


@pytest.mark.parametrize("refractory", [0, 2_000])
def test_events_match_the_scalar_oracle(refractory: int) -> None:
    curve, times = film(0)
    thresholds = draw_thresholds(curve.shape[1:], Camera(mismatch=0.1), random_generator(0, 0))
    events = threshold_events(curve, times, thresholds, refractory)
    assert sorted(events.tolist()) == oracle(curve, times, thresholds, refractory)
    assert len(events) > 300


def test_the_refractory_time_drops_events_and_keeps_others_apart() -> None:
    curve, times = film(0, side=1)
    thresholds = np.full((2, 1, 1), 0.05)
    all_events = threshold_events(curve, times, thresholds, 0)
    spaced = threshold_events(curve, times, thresholds, 1_000)
    assert 1 < len(spaced) < len(all_events)
    assert np.diff(spaced["t"].astype(np.int64)).min() >= 1_000 > np.diff(all_events["t"]).min()


def test_more_events_than_the_buffer_first_holds() -> None:
    curve = np.zeros((2, 64, 64), np.float32)
    curve[1] = 3.01
    events = threshold_events(curve, np.array([0, 300]), np.full((2, 64, 64), 0.1), 0)
    assert len(events) == 30 * 64 * 64
    assert events["on"].all()


def test_times_lie_on_the_line_between_frames() -> None:
    # Log intensity rises by 1 in 1 ms, then falls by 0.5 in 1 ms; thresholds of 0.25.
    curve = np.array([0, 1, 0.5], np.float32).reshape(3, 1, 1)
    events = threshold_events(curve, np.array([0, 1_000, 2_000]), np.full((2, 1, 1), 0.25), 0)
    assert events["t"].tolist() == [250, 500, 750, 1_000, 1_500, 2_000]
    assert events["on"].tolist() == [True] * 4 + [False] * 2


def test_the_logarithm_sees_ratios_not_differences() -> None:
    camera = Camera(threshold=0.1, mismatch=0, refractory_us=0, noise_hz=0, dark_intensity=1e-6)
    frames = np.array([[0.1, 0.5], [0.2, 1.0]], np.float32).reshape(2, 1, 2)
    events = record(frames, np.array([0, 1_000]), camera, random_generator(0))
    assert np.bincount(events["x"]).tolist() == [int(math.log(2) / 0.1)] * 2


def test_a_recording_is_in_order_and_in_the_sensor() -> None:
    curve, times = film(3)
    events = record(np.exp(curve), times, Camera(noise_hz=50), random_generator(0, 1))
    assert events.dtype == EVENT
    assert (np.diff(events["t"].astype(np.int64)) >= 0).all()
    assert events["t"].min() >= times[0]
    assert events["t"].max() <= times[-1]
    assert max(events["x"].max(), events["y"].max()) == curve.shape[1] - 1


def test_the_seed_and_the_recording_decide_all() -> None:
    curve, times = film(4)

    def made(*numbers: int) -> bytes:
        return record(np.exp(curve), times, Camera(), random_generator(*numbers)).tobytes()

    assert made(0, 1) == made(0, 1)
    assert len({made(0, 1), made(1, 1), made(0, 2)}) == 3


def test_noise_has_the_stated_rate() -> None:
    shape, seconds = (40, 50), 3.0
    times = np.array([0, seconds * 1e6], np.int64)
    noise = draw_noise(shape, times, Camera(noise_hz=2), random_generator(0))
    expected = 2 * 40 * 50 * seconds
    assert abs(len(noise) - expected) < 4 * math.sqrt(expected)
    assert abs(noise["on"].mean() - 0.5) < 4 * 0.5 / math.sqrt(expected)
    assert (noise["x"].max(), noise["y"].max()) == (49, 39)
    assert len(draw_noise(shape, times, QUIET, random_generator(0))) == 0


def test_thresholds_spread_as_stated_and_stay_above_zero() -> None:
    drawn = draw_thresholds((200, 200), Camera(threshold=0.3, mismatch=0.1), random_generator(0))
    assert drawn.mean() == pytest.approx(0.3, rel=0.01)
    assert drawn.std() == pytest.approx(0.3 * 0.1, rel=0.02)
    assert (drawn[0] != drawn[1]).any()
    wild = draw_thresholds((200, 200), Camera(threshold=0.3, mismatch=1), random_generator(0))
    assert wild.min() == pytest.approx(LOWEST_THRESHOLD * 0.3)


def test_a_still_scene_makes_no_events() -> None:
    still = np.full((5, 8, 8), 0.5, np.float32)
    assert len(record(still, np.arange(5), QUIET, random_generator(0))) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0},
        {"dark_intensity": 0},
        {"mismatch": -1},
        {"refractory_us": -1},
        {"noise_hz": -1},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        Camera(**wrong)


def test_a_film_of_one_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="1 frames"):
        record(np.ones((1, 2, 2), np.float32), np.array([0]), QUIET, random_generator(0))
