"""Costs of an inference: against a scalar oracle, by hand, and against neurobench."""

import csv
import io
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_cells import cell_file
from test_packed_inference import packed, quantised
from torch import Tensor, nn

from benchmarks.train_step import CASES, batch, our_module
from repro import memory
from repro.cbp.selection import find_layers
from repro.cli import main
from repro.deploy.costs import PICOJOULE_AC, PICOJOULE_MAC, Costs, measure
from repro.deploy.costs_report import TOTALS, to_csv
from repro.deploy.synaptic_operations import operations
from repro.errors import UserError
from repro.networks.convolution import to_channels_last_
from repro.neurons.observe import observed

NARROW = {"stbp": (4, 1 / 32), "tssl_bp": (5, 1 / 16), "snn_calibration": (6, 1 / 16)}
NARROW |= {"surrogate": (3, 1 / 8)}


def place(position: int, size: int, mode: str) -> int | None:
    """The input that a position on the padded axis reads; None for a zero."""
    if 0 <= position < size:
        return position
    if mode == "circular":
        return position % size
    if mode == "replicate":
        return min(max(position, 0), size - 1)
    if mode == "reflect":
        return -position if position < 0 else 2 * (size - 1) - position
    return None


def oracle(layer: Any, inputs: Tensor) -> tuple[int, int]:
    """Operations one by one: output, weight, input; and those at weights that are not 0."""
    weight = layer.weight
    if isinstance(layer, nn.Linear):
        pairs = itertools.product(inputs.reshape(-1, inputs.shape[-1]), weight)
        hits = [(x != 0, w != 0) for row, weights in pairs for x, w in zip(row, weights)]  # noqa: B905
        return sum(bool(x) for x, _ in hits), sum(bool(x & w) for x, w in hits)
    space, out_shape = inputs.shape[2:], layer(inputs).shape
    before = [
        d * (k - 1) // 2 if layer.padding == "same" else 0 if layer.padding == "valid" else p
        for d, k, p in zip(
            layer.dilation,
            layer.kernel_size,
            layer.padding if isinstance(layer.padding, tuple) else layer.kernel_size,
            strict=True,
        )
    ]
    per_group_in, per_group_out = weight.shape[1], weight.shape[0] // layer.groups
    done = at_nonzero = 0
    for index in itertools.product(*map(range, out_shape)):
        sample, out, *at = index
        for tap in itertools.product(*map(range, weight.shape[1:])):
            where = [
                place(o * s + k * d - p, n, layer.padding_mode)
                for o, s, k, d, p, n in zip(
                    at, layer.stride, tap[1:], layer.dilation, before, space, strict=True
                )
            ]
            channel = out // per_group_out * per_group_in + tap[0]
            if None not in where and inputs[(sample, channel, *where)] != 0:
                done += 1
                at_nonzero += bool(weight[(out, *tap)] != 0)
    return done, at_nonzero


LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(7, 5), (3, 7)),
    (nn.Linear(4, 3, bias=False), (2, 3, 4)),
    (nn.Conv2d(2, 3, 3), (2, 2, 5, 4)),
    (nn.Conv2d(2, 3, 3, padding=1), (2, 2, 5, 4)),
    (nn.Conv2d(2, 4, (3, 2), stride=(2, 3), padding=(2, 1), groups=2), (2, 2, 6, 7)),
    (nn.Conv2d(4, 6, 3, dilation=2, padding=2, groups=2), (1, 4, 5, 6)),
    (nn.Conv2d(1, 2, 4, padding="same"), (1, 1, 5, 5)),
    (nn.Conv2d(1, 2, 2, padding="valid"), (1, 1, 4, 3)),
    (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (1, 2, 4, 3)),
    (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (1, 2, 4, 3)),
    (nn.Conv2d(2, 2, 3, padding=2, padding_mode="replicate"), (1, 2, 4, 3)),
    (nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 2, 8)),
    (nn.Conv3d(1, 2, 2, padding=1), (1, 1, 3, 2, 3)),
    (nn.Conv2d(2, 3, 3, stride=3), (1, 2, 5, 5)),  # the last row and column reach nothing
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=[str(layer) for layer, _ in LAYERS])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_operations_agree_with_counting_one_by_one(layer: Any, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight[torch.rand(layer.weight.shape, generator=generator) < 0.3] = 0
    inputs = torch.randint(0, 2, shape, generator=generator).float()
    costs = measure(nn.Sequential(layer), [inputs])
    (found,) = costs.layers
    expected = [number / len(inputs) for number in oracle(layer, inputs)]
    assert [found.operations, found.operations_at_nonzero_weights] == pytest.approx(expected)
    assert found.dense_operations == pytest.approx(
        oracle(layer, torch.ones(shape))[0] / len(inputs)
    )
    assert 0 < expected[1] < expected[0] < found.dense_operations
    assert found.spiking


def test_by_hand_a_corner_and_a_middle_pixel() -> None:
    layer = nn.Conv2d(1, 5, 3, padding=1)
    counts = torch.zeros(1, 4, 4, dtype=torch.float64)
    counts[0, 0, 0] = 1
    assert operations(layer, counts)[0] == 4 * 5  # four outputs see a corner
    counts[0, 1, 2] = 3
    assert operations(layer, counts)[0] == 4 * 5 + 3 * 9 * 5


def test_by_hand_energy_and_kinds() -> None:
    network = nn.Sequential(nn.Linear(4, 3, bias=False), Threshold(), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(1)
    images = torch.tensor([[0.5, 0, 0, 2.0], [0, 0, 0, 0]])
    costs = measure(network, [images], time_steps=1)
    analogue, spiking = costs.layers
    assert (analogue.spiking, spiking.spiking) == (False, True)
    assert (analogue.low, analogue.high, analogue.nonzero) == (0, 2, 2 / 8)
    assert costs.multiply_accumulates == 2 * 3 / 2  # two pixels of two images, three outputs
    assert costs.accumulates == 3 * 2 / 2  # three spikes in two images, two outputs
    assert costs.picojoules == pytest.approx(3 * PICOJOULE_AC + 3 * PICOJOULE_MAC)
    assert costs.dense_picojoules == pytest.approx((12 + 6) * PICOJOULE_MAC)
    (neurons,) = costs.neurons
    assert (neurons.name, neurons.neurons, neurons.rate) == ("1", 3, 0.5)
    assert (costs.spikes, costs.spikes_per_neuron) == (1.5, 0.5)
    assert (costs.weight_bytes, costs.membrane_bytes) == ((12 + 6) * 4, 3 * 4)
    assert costs.weight_bytes_read == (3 + 3) * 4  # a weight an operation
    assert costs.potential_bytes_moved == 2 * 3 * 4  # read and written in a single step
    bits = 8 * (costs.weight_bytes_read + costs.potential_bytes_moved)
    assert costs.cache_picojoules == pytest.approx(bits / 64 * 10)
    assert costs.dram_picojoules == pytest.approx(bits / 64 * 1300)
    assert [costs.weight_bytes_read_at(n) for n in (1, 2, 32)] == [6 / 8, 6 * 2 / 8, 6 * 4]


def test_packed_weights_are_read_as_bits_and_potentials_at_every_step(tmp_path: Path) -> None:
    network, inputs = whole("tssl_bp")
    steps = NARROW["tssl_bp"][0]
    before = measure(network, [inputs])
    quantised(network, "ternary", tmp_path / "w")
    after = measure(packed(network, tmp_path / "w")[0], [inputs])
    assert before.weight_bytes_read == before.weight_bytes_read_at(32)
    for layer in after.layers:
        assert layer.weight_bytes_read == layer.operations * layer.bits / 8
    assert {layer.bits for layer in after.layers} == {2, 32}
    neurons = sum(layer.neurons for layer in after.neurons)
    assert after.potential_bytes_moved == neurons * 2 * 4 * 2 * steps  # two numbers a neuron
    assert measure(nn.Linear(2, 2), [torch.ones(1, 2)]).potential_bytes_moved == 0


class Threshold(nn.Module):
    """Neurons that are a module, as other libraries have them; no memory of earlier steps."""

    def forward(self, current: Tensor) -> Tensor:
        return (current > 1).float()


@pytest.mark.parametrize("value", [0.25, 2.0, -1.0])
def test_an_input_that_is_not_0_or_1_is_a_mac(value: float) -> None:
    images = torch.tensor([[1.0, 0.0], [1.0, value]])
    costs = measure(nn.Sequential(nn.Linear(2, 3)), [images])
    assert (costs.accumulates, costs.multiply_accumulates) == (0, 3 * 3 / 2)
    images[1, 1] = 1
    costs = measure(nn.Sequential(nn.Linear(2, 3)), [images])
    assert (costs.accumulates, costs.multiply_accumulates) == (3 * 3 / 2, 0)


def test_codes_of_a_relu_and_averages_of_spikes_are_macs() -> None:
    after = [nn.ReLU(), nn.Sequential(Threshold(), nn.AvgPool1d(2))]
    for between in after:
        network = nn.Sequential(nn.Linear(6, 8), between, nn.LazyLinear(3))
        torch.manual_seed(0)
        costs = measure(network, [3 * torch.randn(5, 6)], time_steps=1)
        assert not any(layer.spiking for layer in costs.layers)
    (neurons,) = costs.neurons
    assert neurons.name == "1.0"  # not the container, whose outputs are averages


def whole(method: str) -> tuple[nn.Module, Tensor]:
    """A narrow network of a method in which every layer fires, and its input."""
    steps, width = NARROW[method]
    network = our_module(method, steps, width, "binary").network.eval()
    with torch.no_grad():
        for layer in network.modules():
            if method in ("surrogate", "tssl_bp") and isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.mul_(4)
    return network, batch(method, steps, 3)[0]


@pytest.mark.parametrize("method", list(CASES))
def test_observing_changes_no_output(method: str) -> None:
    network, inputs = whole(method)
    with torch.no_grad():
        expected, seen = network(inputs), list[Tensor]()
        with observed(network, lambda name, spikes, states: seen.append(spikes)):
            assert torch.equal(network(inputs), expected)
        count = len(seen)
        network(inputs)
    assert len(seen) == count > 0
    assert all(bool(((spikes == 0) | (spikes == 1)).all()) for spikes in seen)


@pytest.mark.parametrize("method", list(CASES))
def test_layers_and_neurons_of_every_network(method: str) -> None:
    network, inputs = whole(method)
    costs = measure(network, [inputs, inputs[:1]])
    layers = find_layers(network)
    assert {layer.name for layer in costs.layers} == set(layers)
    assert costs.not_counted == ()
    assert costs.images == 4
    assert costs.time_steps == NARROW[method][0]
    first = costs.layers[0]
    assert not first.spiking
    assert first.passes == (NARROW[method][0] if method == "surrogate" else 1)
    assert first.multiply_accumulates == first.operations > 0
    assert all(layer.passes == costs.time_steps for layer in costs.layers[1:-1])
    assert costs.neurons[0].rate > 0
    assert costs.weight_bytes == memory.count(network, {}).weights_only_bytes


def test_what_stbp_neurons_send_is_what_the_next_layer_gets() -> None:
    network, inputs = whole("stbp")
    costs = measure(network, [inputs])
    for neurons, layer in zip(costs.neurons, costs.layers[1:], strict=False):
        assert layer.spiking
        assert neurons.rate == pytest.approx(layer.nonzero)
    assert [neurons.name for neurons in costs.neurons] == [layer.name for layer in costs.layers]
    assert costs.accumulates > 0


def test_pooled_sums_of_tssl_bp_and_shortcuts_of_sew_are_macs() -> None:
    tssl, inputs = whole("tssl_bp")
    kinds = {layer.name: layer.spiking for layer in measure(tssl, [inputs]).layers}
    assert kinds == {name: name not in ("conv1", "conv3", "conv4") for name in kinds}
    sew, events = whole("surrogate")
    costs = measure(sew, [events])
    second = {layer.name: layer for layer in costs.layers}
    assert second["features.1.second.conv"].spiking  # reads the first layer's spikes
    assert second["features.7.first.conv"].high > 1  # reads spikes added to the shortcut
    assert not second["features.7.first.conv"].spiking
    assert measure(tssl, [inputs]).neurons[0].states == 2
    assert costs.neurons[0].states == 1


def test_packed_weights_count_their_bits(tmp_path: Path) -> None:
    network, inputs = whole("stbp")
    quantised(network, "ternary", tmp_path / "w")
    to_channels_last_(network)
    mine, loaded = packed(network, tmp_path / "w")
    bits = {name.removesuffix(".weight"): 2 for name in loaded.counted}
    expected = measure(network, [inputs], bits=bits)
    assert measure(mine, [inputs]) == expected
    assert expected.weight_bytes == memory.count(network, bits).weights_only_bytes
    assert measure(network, [inputs]).weight_bytes > expected.weight_bytes
    some = expected.layers[1]
    assert some.operations_at_nonzero_weights < some.operations
    last = expected.layers[-1]
    assert last.operations_at_nonzero_weights == last.operations


class Unusual(nn.Module):
    """A matrix that no hook sees, a layer that no image reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Bilinear(2, 2, 2)
        self.idle, self.used = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.used(input=self.matrix(images, images))
        return out


def test_what_is_not_counted_is_named() -> None:
    costs = measure(Unusual(), [torch.ones(1, 2)])
    assert costs.not_counted == ("idle", "matrix")
    assert [layer.name for layer in costs.layers] == ["used"]


def test_what_cannot_be_measured_is_said() -> None:
    network = nn.Sequential(nn.Linear(2, 2), Threshold(), nn.Linear(2, 2))
    images = torch.full((2, 2), 9.0)
    with torch.no_grad():
        network[0].weight.fill_(1)
    with pytest.raises(UserError, match="give at least one"):
        measure(network, [])
    with pytest.raises(UserError, match="T is not known"):
        measure(network, [images])
    with pytest.raises(UserError, match="give the right time_steps"):
        measure(network, [images], time_steps=3)
    with pytest.raises(UserError, match="images of one size"):
        measure(nn.Conv2d(1, 1, 1), [torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3)])


def test_steps_one_by_one_and_all_at_once_cost_the_same() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), Threshold(), nn.Linear(8, 3))
    frames = 3 * torch.randn(4, 5, 6)  # T, B

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([self.network(images[:, t]) for t in range(images.shape[1])])

    looped = measure(Loop(), [frames.transpose(0, 1)], time_steps=4)

    class Once(Loop):
        def forward(self, images: Tensor) -> Tensor:
            out: Tensor = self.network(images.transpose(0, 1).flatten(0, 1))
            return out

    once = measure(Once(), [frames.transpose(0, 1)], time_steps=4)
    assert looped == once
    assert looped.layers[0].passes == 4
    assert looped != measure(Once(), [frames.transpose(0, 1)[:, :2]], time_steps=2)


def test_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell_file(tmp_path)
    out = tmp_path / "costs.json"
    words = ["costs", str(tmp_path), "--images=6", f"--out={out}"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    content = json.loads(out.read_text("utf-8"))
    totals = content["totals"]
    assert set(totals) == set(TOTALS)
    assert f"{totals['accumulates']:,.0f} accumulates" in printed
    assert f"{100 * content['neurons'][0]['rate']:.2f} %" in printed
    assert "Horowitz, ISSCC 2014" in printed
    assert content["run"] == "stbp-cifar10-binary-smoke-s0"
    assert content["images"] == 6
    assert totals["accumulates"] == sum(layer["accumulates"] for layer in content["layers"]) > 0
    assert main([*words[:-1], f"--out={out.with_suffix('.csv')}"]) == 0
    lines = list(csv.DictReader(io.StringIO(out.with_suffix(".csv").read_text("utf-8"))))
    assert [line["name"] for line in lines] == [
        entry["name"] for entry in (*content["layers"], *content["neurons"])
    ]
    capsys.readouterr()
    assert main([*words[:-1], "--out=costs.txt"]) == 2
    assert "ends in .json or .csv" in capsys.readouterr().err


def test_csv_has_a_line_per_layer() -> None:
    costs = measure(nn.Sequential(nn.Linear(2, 3)), [torch.ones(1, 2)])
    (line,) = csv.DictReader(io.StringIO(to_csv(costs)))
    assert (line["row"], line["name"], float(line["accumulates"])) == ("layer", "0", 6.0)
    assert to_csv(replace(costs, layers=costs.layers * 2)).count("\n") == 3


def by_neurobench(network: nn.Module, inputs: Tensor) -> dict[str, float]:
    """The count of neurobench: its hooks on the same forward pass, its metric."""
    pytest.importorskip("snntorch")
    pytest.importorskip("neurobench")
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    model = TorchModel(network)
    metric = SynapticOperations()
    model.register_hooks()
    with torch.no_grad():
        output = model(inputs)
        found: dict[str, float] = metric(model, output, (inputs, None))
    return found


@pytest.mark.parametrize("levels", ["binary", "ternary"])
@pytest.mark.parametrize("method", list(CASES))
def test_neurobench_counts_the_same(method: str, levels: str, tmp_path: Path) -> None:
    network, inputs = whole(method)
    quantised(network, levels, tmp_path / "w")
    ours: Costs = measure(network, [inputs])
    theirs = by_neurobench(network, inputs)
    split = {True: 0.0, False: 0.0}
    for layer in ours.layers:
        split[layer.spiking] += layer.operations_at_nonzero_weights
    assert split[True] == pytest.approx(theirs["Effective_ACs"], rel=1e-6)
    assert split[False] == pytest.approx(theirs["Effective_MACs"], rel=1e-6)
    dense = sum(layer.dense_operations for layer in ours.layers)
    assert dense == pytest.approx(theirs["Dense"], rel=1e-6)
    assert (ours.accumulates > split[True]) is (levels == "ternary")


def spikingjelly() -> Any:
    """The counters of spikingjelly; those of version 2."""
    pytest.importorskip("spikingjelly")
    return pytest.importorskip("spikingjelly.activation_based.op_counter")


@pytest.mark.filterwarnings("ignore")  # what spikingjelly imports is not ours
@pytest.mark.parametrize("method", ["stbp", "snn_calibration"])
def test_spikingjelly_counts_the_same_operations_and_weights(method: str, tmp_path: Path) -> None:
    counters = spikingjelly()
    network, inputs = whole(method)
    quantised(network, "ternary", tmp_path / "w")
    ours = measure(network, [inputs])
    synaptic = counters.SynOpCounter()
    with counters.DispatchCounterMode([synaptic]), torch.no_grad():
        network(inputs)
    assert synaptic.get_total() == pytest.approx(ours.accumulates * len(inputs)) != 0
    reads = counters.NeuromorphicMemoryAccessCounter()
    with counters.ModuleCounterMode([reads], model=network), torch.no_grad():
        network(inputs)
    by_layer = {name.rpartition(".")[2]: found for name, found in reads.get_counts().items()}
    for layer in ours.layers:
        theirs = by_layer[layer.name.rpartition(".")[2]]["weight_read_bytes"]
        same = theirs == pytest.approx(layer.weight_bytes_read * len(inputs))
        assert same is layer.spiking, layer.name


@pytest.mark.filterwarnings("ignore")
def test_spikingjelly_moves_the_same_potentials() -> None:
    counters = spikingjelly()
    from spikingjelly.activation_based import neuron

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), neuron.LIFNode(step_mode="m"), nn.Linear(8, 3))
    frames = 3 * torch.randn(4, 5, 6)  # T, B

    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            network[1].reset()
            out: Tensor = self.network(images.transpose(0, 1))
            return out

    images = frames.transpose(0, 1)
    ours = measure(Once(), [images], time_steps=4)
    reads = counters.NeuromorphicMemoryAccessCounter()
    with counters.ModuleCounterMode([reads], model=network), torch.no_grad():
        Once()(images)
    found = reads.get_counts()["Global"]
    moved = found["neuron_state_read_bytes"] + found["neuron_state_write_bytes"]
    assert moved == ours.potential_bytes_moved * len(images) > 0
