"""Recipe hashes of all shipped runs and bytes of all generated files are as they were."""

import json

import pins
import pytest


@pytest.mark.parametrize("kind", ["recipes", "results"])
def test_nothing_pinned_has_changed(kind: str) -> None:
    pinned, now = json.loads(pins.FILE.read_text())[kind], pins.current()[kind]
    assert {name for name in {*pinned, *now} if pinned.get(name) != now.get(name)} == set(), (
        "changed on purpose? python tests/pins.py"
    )
