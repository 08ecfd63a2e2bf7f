"""A scale per output channel: each channel is a layer of its own, in training and in the file."""

import json
import re
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from repro import memory, packing
from repro.cbp.constraint import add_slope_, constraint, constraint_failure_score
from repro.cbp.layers import convert, convert_state, prepare, prepared_layers
from repro.cbp.levels import LEVELS, ChannelLevels, LayerLevels, nearest_level
from repro.cbp.multiplier import Multipliers
from repro.deploy.packed_inference import load_packed_
from repro.errors import UserError
from repro.packing.describe import describe

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    middle = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    return nn.Sequential(nn.Conv2d(1, 4, 3), middle, nn.Linear(6, 8), nn.Linear(8, 2))


def channels() -> tuple[Tensor, Tensor]:
    """Weights of three channels and their levels; channel 1 ten times larger than channel 0."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 5, 2, dtype=torch.float64, generator=generator)
    weight *= torch.tensor([0.1, 1.0, 0.3], dtype=torch.float64)[:, None, None]
    return weight, ChannelLevels(LEVELS["shift2"], (0.1, 1.0, 0.3)).values(torch.float64)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_every_channel_is_constrained_like_a_layer(fraction: float) -> None:
    weight, levels = channels()
    value, slope = constraint(weight, levels, fraction)
    nearest = nearest_level(weight, levels)
    for c in range(3):
        one_value, one_slope = constraint(weight[c], levels[c], fraction)
        assert torch.equal(value[c], one_value)
        assert torch.equal(slope[c], one_slope)
        assert torch.equal(nearest[c], nearest_level(weight[c], levels[c]))
    assert not torch.equal(value[0], constraint(weight[0], levels[1], fraction)[0])
    grad, multiplier = torch.ones_like(weight), torch.full_like(weight, 0.2)
    total = add_slope_(grad, weight, multiplier, levels, fraction, 1.1)
    assert torch.equal(grad, (1 + 0.2 * slope).clamp(-1.1, 1.1))
    assert float(total) == pytest.approx(0.2 * float(value.sum()), rel=1e-12)
    score = constraint_failure_score([(weight, levels)])
    assert score == pytest.approx(float(constraint(weight, levels, 1.0)[0].mean()), rel=1e-12)


def test_scales_are_the_means_of_the_channels() -> None:
    net, plain = network(), network()
    prepared = prepare(net, "ternary", scale="channel")
    for name, levels in prepared.items():
        weight = plain.get_submodule(name).weight.detach()
        assert isinstance(levels, ChannelLevels)
        expected = weight.double().abs().flatten(1).mean(1).float()
        assert torch.equal(torch.tensor(levels.scales), expected)
    inputs = torch.randn(2, 4, 5, 5)
    before = net[1](inputs)
    state, by_tensor = convert_state(net.state_dict())
    assert convert(net) == prepared
    assert torch.equal(net[1](inputs), before)
    assert not torch.equal(net[1](inputs), plain[1](inputs))
    for name, levels in prepared.items():
        weight = net.get_submodule(name).weight
        assert torch.equal(state[f"{name}.weight"], weight)
        assert by_tensor[f"{name}.weight"] == levels
        for channel, values in zip(weight, levels.values(), strict=True):
            assert torch.isin(channel, values).all()


def test_a_root_mean_square_keeps_the_size_of_sums() -> None:
    """Binary weights of that scale have the squares' sum of the weights before."""
    of_layers, of_channels = network(), network()
    by_layer = prepare(of_layers, scale="layer_rms")
    by_channel = prepare(of_channels, scale="channel_rms")
    for name in by_layer:
        weight = network().get_submodule(name).weight.detach().double()
        quantised, by_channels = (
            net.get_submodule(name).weight.detach().double() for net in (of_layers, of_channels)
        )
        assert isinstance(by_layer[name], LayerLevels)
        assert isinstance(by_channel[name], ChannelLevels)
        assert float(quantised.square().sum()) == pytest.approx(float(weight.square().sum()), 1e-6)
        expected = weight.square().flatten(1).sum(1)
        assert torch.allclose(by_channels.square().flatten(1).sum(1), expected, 1e-6)


def test_multipliers_ascend_and_weights_gather_at_their_channels_levels() -> None:
    net = network()
    prepare(net, scale="channel")
    latents = {n: (latent, q.values) for n, (latent, q) in prepared_layers(net).items()}
    multipliers = Multipliers(latents, lr=0.1, window=False)
    start = multipliers.failure_score()
    for _ in range(200):
        for latent, _ in latents.values():
            latent.grad = None
        multipliers.add_slopes_(1.0)
        with torch.no_grad():
            for latent, _ in latents.values():
                latent -= 5e-3 * latent.grad
    assert multipliers.failure_score() < 0.1 * start


def test_a_channel_of_zeros_and_bf16_arithmetic_are_refused() -> None:
    net = network()
    with torch.no_grad():
        net[1].weight[2] = 0
    with pytest.raises(UserError, match=r"mean \|w\| of 1 is 0\.0"):
        prepare(net, scale="channel")
    assert list(prepare(net)) == ["1", "2"]  # one scale for the layer is fine
    with pytest.raises(UserError, match="one scale per layer"):
        prepare(network(), scale="channel", arithmetic="spikes_bf16")


def packed(folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Write a file ``w``: a weight with scales per channel, one with a scale, a bias."""
    scales = torch.tensor([0.3, 0.7, 0.011], dtype=dtype).tolist()
    layers = {
        "a.weight": ChannelLevels(LEVELS["ternary"], tuple(scales)),
        "b.weight": LayerLevels(LEVELS["binary"], 0.3),
    }
    generator = torch.Generator().manual_seed(1)
    index = torch.randint(3, (3, 7, 2), generator=generator)
    values = layers["a.weight"].values(dtype)
    state = {
        "a.weight": torch.stack([row[i] for row, i in zip(values, index, strict=True)]),
        "a.bias": torch.randn(3, generator=generator),
        "b.weight": torch.tensor([[0.3, -0.3]]),
    }
    packing.pack(folder / "w", state, layers)
    back, levels = packing.unpack(folder / "w")
    assert levels == layers
    assert list(back) == list(state)
    return state


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_round_trip_is_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    state = packed(tmp_path, dtype)
    back, _ = packing.unpack(tmp_path / "w")
    for name, tensor in state.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)
    assert re.search(r" 0\.01\d*\.\.0\.[67]", describe(tmp_path / "w"))


def test_a_reader_written_from_the_page_agrees(tmp_path: Path) -> None:
    state = packed(tmp_path)
    data = (tmp_path / "w").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert header["__metadata__"]["version"] == "2"
    layer = json.loads(header["__metadata__"]["layers"])["a.weight"]
    assert (layer["scale"], layer["scales"]) == ((1.0).hex(), "a.weight.scales")
    start = 8 + length + header["a.weight"]["data_offsets"][0]
    first = 8 + length + header["a.weight.scales"]["data_offsets"][0]
    scales = struct.unpack_from("<3f", data, first)
    expected = state["a.weight"].reshape(-1).tolist()
    for k, weight in enumerate(expected):
        index = data[start + 2 * k // 8] >> (2 * k % 8) & 3
        assert layer["levels"][index] * scales[k // 14] == weight


@pytest.mark.parametrize("levels", ["binary", "shift2"])
def test_a_packed_network_computes_what_the_unpacked_one_does(levels: str, tmp_path: Path) -> None:
    net, fresh = network(), network()
    prepare(net, levels, scale="channel")
    chosen = {f"{name}.weight": found for name, found in convert(net).items()}
    packing.pack(tmp_path / "w", net.state_dict(), chosen)
    loaded = load_packed_(fresh, tmp_path / "w")
    assert len(loaded.counted) == 2
    assert fresh[1].weight.stride() == net[1].weight.stride()  # channels last
    inputs = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        assert torch.equal(fresh[1](inputs), net[1](inputs))
        assert not torch.equal(fresh[1](inputs), network()[1](inputs))
        assert torch.equal(fresh[2](inputs.flatten(1)[:, :6]), net[2](inputs.flatten(1)[:, :6]))
    spikes = (torch.rand(2, 4, 5, 5) < 0.5).float()
    counting = network()
    prepare(counting, levels, scale="channel", arithmetic="codes")
    with torch.no_grad():
        assert torch.equal(fresh[1](spikes), counting[1](spikes))


def test_files_without_such_scales_stay_version_1(tmp_path: Path) -> None:
    weight = torch.tensor([[0.5, -0.5]])
    packing.pack(tmp_path / "w", {"w": weight}, {"w": LayerLevels(LEVELS["binary"], 0.5)})
    assert b'"version":"1"' in (tmp_path / "w").read_bytes()
    layers = {"w": ChannelLevels(LEVELS["binary"], (0.5,))}
    packing.pack(tmp_path / "w", {"w": weight}, layers)
    assert b'"version":"2"' in (tmp_path / "w").read_bytes()  # which version 1 readers refuse


@pytest.mark.parametrize(
    ("weight", "levels", "wrong"),
    [
        ([[0.5], [0.25]], ChannelLevels((-1.0, 1.0), (0.5, 0.5)), "1 of 2 weights are not levels"),
        ([[0.5], [-0.0]], ChannelLevels((-1.0, 0.0, 1.0), (0.5, 0.5)), "1 of 2 weights"),
        ([[0.5], [0.5]], ChannelLevels((-1.0, 1.0), (0.5,)), "has 1 scales"),
        ([[0.5], [0.5]], ChannelLevels((-1.0, 1.0), (0.5, -0.5)), "ascending"),
        ([[0.5], [0.5]], ChannelLevels((-1.0, 1.0), (0.5, 0.1)), "not exact"),
    ],
)
def test_unusable_scales_are_named(
    weight: list[list[float]], levels: ChannelLevels, wrong: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=wrong):
        packing.pack(tmp_path / "w", {"w": torch.tensor(weight)}, {"w": levels})
    assert not (tmp_path / "w").exists()


def test_memory_counts_each_scale() -> None:
    net = network()
    layer = memory.count(net, {"1": 1, "2": 2})
    channel = memory.count(net, {"1": 1, "2": 2}, {"1": 6, "2": 8})
    assert channel.everything_bytes - layer.everything_bytes == 4 * (6 - 1 + 8 - 1)
    assert channel.weights_only_bytes == layer.weights_only_bytes
