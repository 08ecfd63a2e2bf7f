"""The benchmark of the event data: it runs, refuses what disagrees, and measures waiting."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clock import Clock

from benchmarks import data
from repro.errors import UserError


@pytest.mark.slow
def test_the_benchmark_runs_and_writes_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data.json"
    words = ["--recordings", "3", "--events", "500", "--repeats", "1", "--batch", "2"]
    monkeypatch.setattr("sys.argv", ["data", *words, f"--out={out}"])
    assert data.main() == 0
    result = json.loads(out.read_text())
    assert set(result) == {"environment", "commit", "dirty", "versions", "data"}
    rates = result["data"]["recordings per second"]
    assert len(rates) == 5
    assert min(rates.values()) > 0
    assert set(result["data"]["times faster"]) == {"cold", "warm"}


def test_different_frames_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "ToFrame", lambda size, n_event_bins: lambda events: np.zeros(1))
    with pytest.raises(UserError, match="different frames"):
        data.measure(count=2, events=200, time_steps=4, batch=2, repeats=1)


def test_waiting_is_what_the_loader_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(data, "time", clock)

    def loader() -> Iterator[int]:
        for number in range(4):
            clock.sleep(3)
            yield number

    slow = data.waiting_share(loader(), lambda batch: clock.sleep(1))
    assert slow == data.Waiting(share=0.75, waiting=12, working=4, batches=4)
    assert data.waiting_share(range(4), lambda batch: clock.sleep(1)).share == 0
    with pytest.raises(UserError, match="the loader has no batches"):
        data.waiting_share([], lambda batch: None)
