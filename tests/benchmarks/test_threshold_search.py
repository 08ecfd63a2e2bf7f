"""The benchmark of the threshold search on small layers: it runs and refuses what disagrees."""

import json
from pathlib import Path

import pytest

from benchmarks import threshold_search
from repro.errors import UserError


@pytest.mark.slow
def test_the_benchmark_runs_and_writes_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "search.json"
    words = ["threshold_search", "--batch", "2", "--width", "0.03", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", [*words, f"--out={out}"])
    assert threshold_search.main() == 0
    search = json.loads(out.read_text())["threshold search"]
    assert set(search["seconds"]) == {"one candidate after another", "one pass"}
    assert search["times faster"]["low"] > 0


def test_different_thresholds_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold_search, "find_threshold", lambda layer, steps: 1.0)
    with pytest.raises(UserError, match="different thresholds"):
        threshold_search.measure(1, 8, 0.02, 1)
