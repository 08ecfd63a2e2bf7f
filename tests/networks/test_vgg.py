"""VGG16 and its spiking form: sizes, names, and that both compute what they say."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from repro.cbp.layers import convert, find_layers, prepare, prepared_layers
from repro.cells import RunKey, find_cell
from repro.deploy.packed_inference import load_packed_
from repro.errors import UserError
from repro.methods.snn_calibration import SnnCalibration
from repro.networks.convolution import to_channels_last_
from repro.networks.vgg import CHANNELS, AveragePool, SpikingVgg, Vgg, spiking_vgg, vgg16
from repro.neurons.integrate_and_fire import scan_plain
from repro.packing import pack
from repro.packing.describe import describe
from repro.recipes.fields import SnnCalibrationRecipe
from repro.recipes.shipped import find_recipe
from repro.recipes.spec import RunSpec

NARROW = 1 / 16
STEPS = 4


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def weights(network: nn.Module) -> list[int]:
    return [layer.weight.numel() for layer in find_layers(network).values()]


def lively(width: float = NARROW, gain: float = 1.8) -> SpikingVgg:
    """A spiking network in which every layer fires, by chance weights of a fitting size."""
    torch.manual_seed(0)
    network = spiking_vgg(10, time_steps=STEPS, width=width)
    with torch.no_grad():
        for layer in network.features:
            if isinstance(layer, AveragePool):
                layer.factor.fill_(1.5)
            else:
                fan_in = layer.weight[0].numel()
                layer.weight.normal_(std=gain * fan_in**-0.5)
    return network


@pytest.mark.parametrize(("classes", "total"), [(10, 14_715_584), (100, 14_761_664)])
def test_weights_are_those_of_the_paper(classes: int, total: int) -> None:
    with torch.device("meta"):
        networks = vgg16(classes), spiking_vgg(classes, time_steps=32)
    for network in networks:
        sizes = weights(network)
        assert len(sizes) == 13 + 1
        assert sum(sizes) == total
        assert sum(sizes[1:-1]) == 14_708_736


def test_prepare_quantises_the_inner_convolutions() -> None:
    network = spiking_vgg(10, time_steps=STEPS, width=NARROW)
    prepare(network)
    convolutions = [i for i, units in enumerate(CHANNELS) if units]
    assert list(prepared_layers(network)) == [f"features.{i}" for i in convolutions[1:]]


def test_dropout_or_batch_norm_stand_behind_every_convolution() -> None:
    plain, normed = vgg16(10, width=NARROW), vgg16(10, width=NARROW, batch_norm=True)
    for network, kind in ((plain, nn.Dropout), (normed, nn.BatchNorm2d)):
        modules = list(network.features)
        behind = [modules[i + 1] for i, m in enumerate(modules) if isinstance(m, nn.Conv2d)]
        assert [type(module) for module in behind] == [kind] * 13
    names = {name for name, _ in find_layers(plain).items()}
    assert names == {name for name, _ in find_layers(normed).items()}
    out = plain(images())
    assert out.shape == (1, 3, 10)
    assert not torch.equal(out, plain(images()))
    plain.eval()
    assert torch.equal(plain(images()), plain(images()))


def test_an_ann_without_batch_norm_learns() -> None:
    torch.manual_seed(0)
    network = vgg16(4, width=NARROW, dropout=0.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    data, labels = images(8), torch.arange(8) % 4
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(data).sum(0), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_average_pool_is_a_depthwise_convolution() -> None:
    pool = AveragePool(5)
    pool.factor.fill_(1.7)
    assert pool.bias is not None
    pool.bias.normal_()
    maps = torch.randn(2, 5, 6, 8, requires_grad=True)
    weight = torch.full((5, 1, 2, 2), 1.7 / 4)
    expected = nn.functional.conv2d(maps, weight, pool.bias, stride=2, groups=5)
    torch.testing.assert_close(pool(maps), expected)
    grads = [torch.autograd.grad(out.square().sum(), maps) for out in (pool(maps), expected)]
    torch.testing.assert_close(*grads)
    assert list(dict(pool.named_parameters())) == []
    assert not torch.equal(AveragePool()(maps), pool(maps))


def test_spiking_network_is_its_layers_step_by_step() -> None:
    network = lively().double()
    assert all(isinstance(buffer, Tensor) for buffer in network.buffers())
    for i in (0, 2):
        side = 32 if i == 0 else 16
        network.register_buffer(f"potential{i}", torch.rand(1, 4, side, side).double())
    signal = images().double().expand(STEPS, -1, -1, -1, -1)
    for i, layer in enumerate(network.features):
        current = torch.stack([layer(now) for now in signal])
        signal = scan_plain(current, STEPS, network.neuron, network.potential(i))
        assert 0.02 < signal.mean() < 0.98, f"layer {i} proves nothing"
    expected = torch.stack([network.classifier(now.flatten(1)) for now in signal])
    output = network(images().double())
    assert output.shape == (STEPS, 3, 10)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    del network._buffers["potential2"]
    assert not torch.equal(network(images().double()), output)


def test_weights_load_by_name_into_a_fresh_network() -> None:
    network = lively()
    fresh = spiking_vgg(10, time_steps=STEPS, width=NARROW)
    assert not torch.equal(fresh(images()), network(images()))
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(images()), network(images()))
    with_potentials = spiking_vgg(10, time_steps=STEPS, width=NARROW, potentials="neuron")
    extra = set(with_potentials.state_dict()) - set(network.state_dict())
    assert extra == {f"potential{i}" for i in range(len(CHANNELS))}
    assert with_potentials(images()).shape == (STEPS, 3, 10)
    assert "features.0.weight" in network.state_dict()


def test_layout_does_not_change_the_output() -> None:
    network = lively()
    expected = network(images())
    to_channels_last_(network)
    torch.testing.assert_close(network(images()), expected)


@pytest.mark.parametrize("precision", ["binary", "ternary"])
def test_spike_exact_bfloat16_agrees_with_float32(precision: str) -> None:
    labels = torch.arange(4)
    found = []
    for arithmetic in ("float32", "spikes_bf16"):
        network = lively(1 / 8, gain=2.6)
        prepare(network, precision, arithmetic=arithmetic)  # type: ignore[arg-type]
        spikes: list[Tensor] = []
        network.neurons.register_forward_hook(
            lambda _, given, fired, spikes=spikes: spikes.append(fired)
        )
        nn.functional.cross_entropy(network(images(4)).sum(0), labels).backward()
        gradient = torch.cat([p.grad.flatten() for _, (p, _) in prepared_layers(network).items()])
        found.append((spikes, gradient))
    (plain, plain_grad), (narrow, narrow_grad) = found
    assert any(spikes.dtype == torch.bfloat16 for spikes in narrow)
    for layer, (a, b) in enumerate(zip(plain, narrow, strict=True)):
        assert torch.equal(a, b.float()), f"{int((a != b).sum())} spikes differ in layer {layer}"
        assert 0.02 < a.mean() < 0.98, f"layer {layer}: {a.mean():.3f} proves nothing"
    assert nn.functional.cosine_similarity(plain_grad, narrow_grad, dim=0) >= 0.999
    assert not torch.equal(plain_grad, narrow_grad)


def test_wrong_number_of_potentials_is_an_error() -> None:
    with pytest.raises(UserError, match="2 initial potentials for 1 layers"):
        SpikingVgg([AveragePool(3)], nn.Linear(3, 2), STEPS, [torch.zeros(1)] * 2)


def test_ann_takes_any_modules() -> None:
    network = Vgg([AveragePool()], nn.Linear(3 * 16 * 16, 2))
    assert network(images()).shape == (1, 3, 2)


def test_the_packed_file_of_the_full_network_measures_the_papers_share(tmp_path: Path) -> None:
    """Binary VGG16 on CIFAR-100 (paper, abstract: 3.5 % of the memory), random weights."""
    network = spiking_vgg(100, time_steps=1)
    prepare(network, "binary")
    levels = {f"{name}.weight": layer for name, layer in convert(network).items()}
    file = tmp_path / "vgg16.safetensors"
    pack(file, network.state_dict(), levels)
    fp32 = 14_761_664 * 4  # bytes
    assert ", 3.47% of 59,046,656 at FP32" in describe(file)
    assert 0.0347 < file.stat().st_size / fp32 < 0.0352  # with biases, scales and header


def test_dropped_spikes_equal_dropout_before_the_layer() -> None:
    """The factor behind the layer is the factor before it; averages' spikes are not dropped."""
    network = lively().double()
    network.dropout = 0.25
    for layer in find_layers(network).values():
        if layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.1)
    network.train()
    torch.manual_seed(3)
    out = network(images().double())
    out.square().sum().backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()

    torch.manual_seed(3)
    first, *rest = network.features
    current = first(images().double()).unsqueeze(0)
    for i, layer in enumerate([*rest, network.classifier]):
        spikes = network.fire(i, current).flatten(0, 1)
        spikes = spikes.flatten(1) if layer is network.classifier else spikes
        if isinstance(network.features[i], nn.Conv2d):
            spikes = spikes * torch.empty_like(spikes).bernoulli_(0.75) / 0.75
        current = layer(spikes).unflatten(0, (STEPS, -1))
    torch.testing.assert_close(out, current, rtol=1e-12, atol=1e-12)
    current.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-12)

    network.eval()
    whole = network(images().double())
    assert torch.equal(whole, network(images().double()))
    assert not torch.equal(whole, out)


def test_spike_dropout_is_the_papers_alone_and_leaves_older_rows_their_hash() -> None:
    cell = find_cell("snn_calibration", "cifar10")
    for tier, expected in (("paper", 0.25), ("paper_short", 0.25), ("desk", 0.0), ("smoke", 0.0)):
        recipe = find_recipe(cell, tier)  # type: ignore[arg-type]
        assert isinstance(recipe, SnnCalibrationRecipe)
        assert recipe.spike_dropout == expected
        binary, fp32 = (
            RunSpec(RunKey(cell, precision, 0, tier), recipe).values  # type: ignore[arg-type]
            for precision in ("binary", "fp32")
        )
        assert ("spike_dropout" in binary) == (expected > 0)
        assert "spike_dropout" not in fp32


def test_the_steepness_reaches_the_neurons_and_leaves_parents_and_older_rows_their_hash() -> None:
    cell = find_cell("snn_calibration", "cifar10")
    shipped = find_recipe(cell, "smoke")
    assert isinstance(shipped, SnnCalibrationRecipe)
    steep = replace(shipped, alpha=4.0)
    module = SnnCalibration(steep, 10, "cbp")
    assert isinstance(module.network, SpikingVgg)
    assert module.network.neuron.alpha == 4.0
    for precision, expected in (("ann", False), ("fp32", False), ("binary", True)):
        key = RunKey(cell, precision, 0, "smoke")  # type: ignore[arg-type]
        assert ("alpha" in RunSpec(key, steep).values) == expected
        assert "alpha" not in RunSpec(key, shipped).values


def test_a_potential_repeated_for_every_neuron_loads_as_one_number(tmp_path: Path) -> None:
    """Files of version 0.2 repeat it; the network's answers are the same."""
    ours, repeated = (
        spiking_vgg(10, time_steps=STEPS, width=NARROW, potentials=of) for of in ("layer", "neuron")
    )
    with torch.no_grad():
        for name, buffer in repeated.named_buffers():
            if name.startswith("potential"):
                buffer.fill_(0.5)
    pack(tmp_path / "old.safetensors", repeated, {})
    packed = spiking_vgg(10, time_steps=STEPS, width=NARROW, potentials="layer")
    load_packed_(packed, tmp_path / "old.safetensors")
    ours.load_state_dict(repeated.state_dict())
    assert torch.equal(ours(images()), repeated(images()))
    assert torch.equal(packed(images()), repeated(images()))
    assert ours.potential(3).shape == (1, 1, 1, 1)  # type: ignore[union-attr]
    repeated.potential(3)[0, 0, 0, 0] = 0.25  # type: ignore[index]
    with pytest.raises(RuntimeError, match="size mismatch for potential3"):
        ours.load_state_dict(repeated.state_dict())
