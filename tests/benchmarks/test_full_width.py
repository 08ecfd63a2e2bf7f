"""The benchmark of the paper's networks at full width, on the smoke tier."""

import pytest

from benchmarks.full_width import BF16, as_dict, kinds, measure
from benchmarks.speed_page import lines_of_full_width
from repro.cells import find_cell

STBP = find_cell("stbp", "cifar10")


def test_every_kind_of_run_once_and_binary_in_both_arithmetics() -> None:
    found = [(key.precision, arithmetic) for key, arithmetic in kinds(STBP, "smoke")]
    in_float32 = [(precision, "float32") for precision in ("fp32", "fp32_control", "binary")]
    assert found == [*in_float32, ("binary", BF16)]


@pytest.mark.slow
def test_a_measured_kind_is_a_line_of_the_page() -> None:
    key, arithmetic = kinds(STBP, "smoke")[-1]
    found = as_dict(measure(key, arithmetic, None), arithmetic)
    assert found["training, s an image"] > 0  # type: ignore[operator]
    lines = lines_of_full_width({"tier": "smoke", "full width": [found]})
    assert lines[-2].startswith("| stbp/cifar10 | binary | spikes_bf16 | ")
