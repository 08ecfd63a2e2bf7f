"""Integer arithmetic of packed layers: counts are exact, an analogue input stays in float32."""

from pathlib import Path

import pytest
import torch
from test_packed_inference import packed, quantised
from torch import Tensor, nn

from benchmarks.train_step import batch, our_module
from repro.cbp.levels import LEVELS
from repro.deploy.packed_int8 import compute_in_integers_, level_codes
from repro.networks.convolution import UnfoldedConv2d, to_channels_last_

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (nn.Conv2d(32, 24, 3, padding=1), (5, 32, 9, 7)),
    "strided": (nn.Conv2d(6, 10, 3, 2, padding=(1, 0), bias=False), (3, 6, 9, 8)),
    "dilated groups": (nn.Conv2d(8, 12, 3, dilation=2, groups=4), (2, 8, 11, 9)),
    "unfolded": (UnfoldedConv2d(40, 16, 3, 2, padding=1), (4, 40, 8, 8)),
    "linear": (nn.Linear(300, 17), (9, 300)),
    "linear over time": (nn.Linear(30, 17, bias=False), (4, 3, 30)),
}


def alone(name: str, levels: str, path: Path, channels_last: bool = False) -> tuple[nn.Module, ...]:
    """A layer with quantised weights, and the same one packed, in integers."""
    torch.manual_seed(0)
    layer, _ = LAYERS[name]
    network = quantised(nn.Sequential(layer), levels, path / "w", keep=())
    if channels_last:
        to_channels_last_(network)
    mine, loaded = packed(network, path / "w")
    assert compute_in_integers_(mine, loaded) == ["0"]
    return network, mine


def exact(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What a layer computes, in float64: whole numbers up to 2^53 times the scale, no rounding."""
    doubled = layer.double()
    out: Tensor = doubled(inputs.double())
    layer.float()
    return out


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("greatest", [1, 4, 255])
@pytest.mark.parametrize("levels", list(LEVELS))
@pytest.mark.parametrize("name", list(LAYERS))
def test_sums_are_exact_but_for_two_roundings(
    name: str, levels: str, greatest: int, channels_last: bool, tmp_path: Path
) -> None:
    network, mine = alone(name, levels, tmp_path, channels_last)
    whole = torch.randint(0, greatest + 1, LAYERS[name][1]).float()
    with torch.no_grad():
        expected, found = exact(network, whole), mine(whole)
        ulp = torch.finfo(torch.float32).eps
        bias = network[0].bias
        size = expected.abs() + (0 if bias is None else float(bias.abs().max()))
        assert ((found.double() - expected).abs() <= ulp * size).all()
        whole.view(-1)[0] = 1 - whole.view(-1)[0].clamp(max=1)
        assert not torch.equal(mine(whole), found)


@pytest.mark.parametrize("stranger", [0.5, -1.0, 256.0, float("nan")])
def test_an_analogue_input_stays_in_float32(stranger: float, tmp_path: Path) -> None:
    network, mine = alone("plain", "binary", tmp_path)
    inputs = torch.randint(0, 2, LAYERS["plain"][1]).float()
    inputs[0, 0, 0, 0] = stranger
    with torch.no_grad():
        assert torch.equal(mine(inputs).nan_to_num(7), network(inputs).nan_to_num(7))


def test_level_codes_are_whole_numbers() -> None:
    assert level_codes(LEVELS["ternary"]) == ((-1, 0, 1), 1)
    assert level_codes(LEVELS["shift2"]) == ((-4, -2, -1, 0, 1, 2, 4), 4)
    assert level_codes((-1.0, 0.3)) is None
    assert level_codes((-1.0, 65.0)) is None


class Twice(nn.Conv2d):
    """Not what its class computes."""

    def forward(self, maps: Tensor) -> Tensor:
        return 2 * super().forward(maps)


def test_layers_of_another_kind_stay_in_float32(tmp_path: Path) -> None:
    network = nn.Sequential(
        Twice(1, 2, 3), nn.Conv2d(2, 2, 3, padding="same"), nn.Conv2d(2, 3, 1), nn.Flatten(0)
    )
    quantised(network, "binary", tmp_path / "w", keep=())
    mine, loaded = packed(network, tmp_path / "w")
    assert compute_in_integers_(mine, loaded) == ["2"]
    inputs = torch.ones(1, 1, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(mine(inputs), network(inputs))


@pytest.mark.parametrize("method", ["stbp", "tssl_bp", "snn_calibration", "surrogate"])
def test_networks_answer_alike(method: str, tmp_path: Path) -> None:
    with torch.no_grad():
        network = our_module(method, 4, 1 / 8, "binary").network
        quantised(network, "binary", tmp_path / "w")
        to_channels_last_(network)
        mine, loaded = packed(network, tmp_path / "w")
        assert len(compute_in_integers_(mine, loaded)) == len(loaded.weights)
        inputs, _ = batch(method, 4, 4)
        difference = (mine(inputs) - network(inputs)).abs()
        assert float((difference > 1e-5).float().mean()) < 0.05  # flipped spikes are few
