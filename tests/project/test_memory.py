"""Memory against the paper's table, counted on networks without storage."""

import pytest
import torch
from torch import nn

from repro.cbp.selection import find_layers
from repro.memory import Memory, count, packed_bytes

CONV7FC3 = "128C3-256C3s2-256C3-512C3s2-512C3-1024C3-2048C3s2-1024-512-K"
MB = 10**6  # bytes


def conv7fc3(classes: int) -> nn.Sequential:
    """The stbp network of the paper on the meta device, layers only."""
    layers: list[nn.Module] = []
    inputs = 3
    for word in CONV7FC3.replace("K", str(classes)).split("-"):
        outputs = int(word.split("C")[0])
        if "C" in word:
            stride = 2 if word.endswith("s2") else 1
            layers.append(nn.Conv2d(inputs, outputs, 3, stride, 1, device="meta"))
        else:
            if isinstance(layers[-1], nn.Conv2d):
                inputs *= 4 * 4  # the map of the last convolution
            layers.append(nn.Linear(inputs, outputs, device="meta"))
        inputs = outputs
    return nn.Sequential(*layers)


def quantise_inner(network: nn.Module, bits: int) -> Memory:
    names = list(find_layers(network))
    return count(network, dict.fromkeys(names[1:-1], bits))


@pytest.mark.parametrize(
    ("classes", "bits", "fp32", "quantised", "percent"),
    [
        (10, 1, "248.416", "7.796", "3.14"),
        (10, 2, "248.416", "15.558", "6.26"),
        (100, 1, "248.600", "7.981", "3.21"),
        (100, 2, "248.600", "15.742", "6.33"),
    ],
)
def test_paper_table(classes: int, bits: int, fp32: str, quantised: str, percent: str) -> None:
    memory = quantise_inner(conv7fc3(classes), bits)
    first, last = 3 * 128 * 9, 512 * classes
    assert memory.weights == memory.quantised_weights + first + last
    assert memory.quantised_weights == 62_095_360
    assert memory.weights_only_bytes == memory.quantised_weights * bits / 8 + 4 * (first + last)
    assert f"{memory.fp32_bytes / MB:.3f}" == fp32
    assert f"{memory.weights_only_bytes / MB:.3f}" == quantised
    assert f"{100 * memory.ratio:.2f}" == percent


def test_everything_counts_each_tensor_and_one_scale_per_layer() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Linear(5, 7, bias=False))
    batch_norm = 4 * (4 * 5) + 8  # weight, bias, mean, variance; the batch counter is int64
    conv, bias, linear = 3 * 5 * 9, 5, 5 * 7
    plain = count(network, {})
    assert plain.everything_bytes == 4 * (conv + bias + linear) + batch_norm
    assert plain.weights_only_bytes == plain.fp32_bytes == 4 * (conv + linear)
    assert plain.ratio == 1
    ternary = count(network, {"2": 2})
    packed = packed_bytes(linear, 2)
    assert packed == (2 * linear + 7) // 8 == 9
    assert ternary.everything_bytes == 4 * (conv + bias) + batch_norm + packed + 4
    assert ternary.weights_only_bytes == 4 * conv + packed
    assert ternary.quantised_weights == linear


def test_precision_of_the_network_changes_everything_only() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    single = count(network, {"1": 1})
    double = count(network.double(), {"1": 1})
    assert single.weights_only_bytes == double.weights_only_bytes
    assert double.everything_bytes - single.everything_bytes == 4 * (64 + 8 + 8)


def test_wrong_names_bits_and_networks_are_named() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(ValueError, match="no Conv or Linear layer is called 1, conv9"):
        count(network, {"conv9": 1, "1": 1})
    with pytest.raises(ValueError, match="0: 33 bits"):
        count(network, {"0": 33})
    with pytest.raises(ValueError, match="no Conv or Linear layer"):
        count(nn.ReLU(), {})


def test_prepared_network_is_refused_and_a_lone_layer_is_not() -> None:
    layer = nn.Linear(2, 2)
    assert count(layer, {"": 1}).quantised_weights == 4
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Identity())
    with pytest.raises(ValueError, match="convert"):
        count(nn.Sequential(layer), {})


def test_counting_allocates_nothing() -> None:
    network = nn.Sequential(*(nn.Linear(2**20, 2**20, device="meta") for _ in range(3)))
    assert count(network, {"1": 1}).fp32_bytes == 3 * 2**42
    assert next(network.parameters()).device == torch.device("meta")
