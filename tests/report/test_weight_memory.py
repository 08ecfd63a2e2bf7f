"""Weight memory of the paper's networks: computed from their layers, beside what is published."""

import pytest
from reading import line
from torch import nn

import repro.memory
from repro.cells import CELLS, QUANTISED, Cell
from repro.memory import Memory
from repro.report.weight_memory import computed_memory, memory_of_cells, memory_table
from repro.results.published import PublishedNumbers

# Weights, quantised weights, FP32, binary and ternary MB with their share of FP32 in percent:
# counted from the layer definitions, paper.md section 3.
MEMORY = {
    "tssl_bp/cifar10": (21_156_384, 21_143_552, 84.626, 2.694, 3.18, 5.337, 6.31),
    "stbp/cifar10": (62_103_936, 62_095_360, 248.416, 7.796, 3.14, 15.558, 6.26),
    "stbp/cifar100": (62_150_016, 62_095_360, 248.600, 7.981, 3.21, 15.742, 6.33),
    "surrogate/dvs128_gesture": (129_952, 129_024, 0.520, 0.020, 3.82, 0.036, 6.92),
    "surrogate/cifar10_dvs": (1_255_808, 1_253_376, 5.023, 0.166, 3.31, 0.323, 6.43),
    "surrogate/imagenet/sew_resnet18": (
        *(11_678_912, 11_157_504, 46.716),
        *(3.480, 7.45, 4.875, 10.44),
    ),
    "surrogate/imagenet/sew_resnet34": (
        *(21_779_648, 21_258_240, 87.119),
        *(4.743, 5.44, 7.400, 8.49),
    ),
    "snn_calibration/cifar10": (14_715_584, 14_708_736, 58.862, 1.866, 3.17, 3.705, 6.29),
    "snn_calibration/cifar100": (14_761_664, 14_708_736, 59.047, 2.050, 3.47, 3.889, 6.59),
}


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_networks_have_the_papers_memory(cell: Cell) -> None:
    found = computed_memory(cell)
    weights, quantised, full, *sizes = MEMORY[str(cell)]
    for name, megabytes, share in zip(QUANTISED, sizes[::2], sizes[1::2], strict=True):
        memory = found[name]
        assert (memory.weights, memory.quantised_weights) == (weights, quantised)
        assert round(memory.fp32_bytes / 1e6, 3) == full
        assert round(memory.weights_only_bytes / 1e6, 3) == megabytes
        assert round(100 * memory.ratio, 2) == share
        bits = {"binary": 1, "ternary": 2}[name]
        assert memory.weights_only_bytes == ((weights - quantised) * 32 + quantised * bits) / 8


def test_computed_stands_above_published_and_agrees(published: PublishedNumbers) -> None:
    memory = memory_of_cells()
    table = memory_table(published, memory)
    assert table.notes[0].endswith("in 9 of the 9 cells that are computed, of 9.")
    vgg = line(table, "snn_calibration/cifar100", "vgg16", "computed")
    assert vgg["binary MB (of FP32)"] == "2.050 (3.47 %)"
    assert [name[2].split()[0] for name in table.lines] == ["computed", "published"] * len(CELLS)
    wrong = memory | {"stbp/cifar10": memory["stbp/cifar100"]}
    assert "8 of the 9" in memory_table(published, wrong).notes[0]


def test_no_weight_of_the_papers_networks_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def count(network: nn.Module, bits: dict[str, int]) -> Memory:
        seen.extend(parameter.device.type for parameter in network.parameters())
        return real(network, bits)

    real = repro.memory.count
    monkeypatch.setattr(repro.memory, "count", count)
    computed_memory(CELLS[-1])
    assert set(seen) == {"meta"}
