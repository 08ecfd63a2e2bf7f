"""NIR graphs: whole numbers and their scale, and the same spikes in a second framework."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks_that_fire import CASES as FIRING
from networks_that_fire import sew
from torch import Tensor, nn

from repro.cbp.layers import convert, prepare
from repro.cbp.levels import LayerLevels, Levels
from repro.cli import main
from repro.deploy.nir_export import DT, codes, to_nir, write_nir
from repro.errors import UserError
from repro.networks.alexnet import TsslBpNetwork, alexnet
from repro.networks.conv7fc3 import StbpNetwork, conv7fc3
from repro.networks.sew_resnet import SewBlock, SewNet
from repro.networks.vgg import vgg16
from repro.neurons.observe import observed
from repro.neurons.stbp import StbpNeuron
from repro.neurons.tssl_bp import TsslBpNeuron, synaptic_filter

nir: Any = pytest.importorskip("nir")
from nir_executor import execute  # noqa: E402

NARROW = 1 / 32
Made = tuple[StbpNetwork | TsslBpNetwork, dict[str, Levels]]


def lively(method: str, levels: str) -> Made:
    """A quantised network in which every layer fires, by chance weights of a fitting size."""
    torch.manual_seed(1)
    network: StbpNetwork | TsslBpNetwork
    if method == "stbp":
        neuron = StbpNeuron(0.25)
        network = conv7fc3(10, time_steps=8, neuron=neuron, width=NARROW, gain=3.0)
    else:
        network = alexnet(
            10, time_steps=5, neuron=TsslBpNeuron(), width=NARROW, dropout=0.0, conv_gain=9.0
        )
        with torch.no_grad():
            for layer in network.children():
                if isinstance(layer, nn.Linear):
                    layer.weight.mul_(4)
    prepare(network, levels)
    made = {f"{name}.weight": layer for name, layer in convert(network).items()}
    return network.eval(), made


def spikes_of(network: StbpNetwork | TsslBpNetwork, images: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = network(images)
    return out


CASES = [(m, levels) for m in ("stbp", "tssl_bp") for levels in ("binary", "ternary", "shift1")]


@pytest.mark.parametrize(("method", "levels"), CASES)
def test_quantised_weights_are_whole_numbers_with_scale_and_bits(
    method: str, levels: str, tmp_path: Path
) -> None:
    network, made = lively(method, levels)
    graph = nir.read(write_nir(to_nir(network, made), tmp_path / "net.nir"))
    assert [path.name for path in tmp_path.iterdir()] == ["net.nir"]
    for name, layer in network.named_children():
        if f"{name}.weight" not in made:
            continue
        node = graph.nodes[name]
        about = node.metadata
        assert about["bits"] == made[f"{name}.weight"].bits
        assert (node.weight == np.round(node.weight)).all()
        assert np.abs(node.weight).max() <= 2
        back = torch.from_numpy(node.weight) * float(about["scale"])
        torch.testing.assert_close(back, layer.weight.detach(), rtol=1e-6, atol=0.0)
    assert graph.metadata["time_steps"] == network.time_steps
    whole = [name for name in graph.nodes if graph.nodes[name].metadata.get("bits") is not None]
    assert whole == [name.removesuffix(".weight") for name in made]


@pytest.mark.parametrize(("method", "levels"), CASES)
def test_a_second_framework_fires_the_same_spikes(method: str, levels: str, tmp_path: Path) -> None:
    pytest.importorskip("snntorch")
    network, made = lively(method, levels)
    path = write_nir(to_nir(network, made), tmp_path / "net.nir")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    ours, theirs = spikes_of(network, images), []
    for image in images:
        theirs.append(in_snntorch(path, image, network.time_steps))
    spikes = torch.stack(theirs, 1)
    if isinstance(network, TsslBpNetwork):
        torch.testing.assert_close(synaptic_filter(spikes, network.neuron.tau_s), ours)
    else:
        assert torch.equal(spikes, ours)
    assert 0 < spikes.mean() < 1
    assert not torch.equal(spikes[:, 0], spikes[:, 1])


def in_snntorch(path: Path, image: Tensor, time_steps: int) -> Tensor:
    """Spikes ``[T, K]`` of the file's network in snnTorch, for one image at every step."""
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it rescales
        network = import_from_nir(nir.read(path))
    state, train = None, []
    with torch.no_grad():
        for _ in range(time_steps):
            out = network(image) if state is None else network(image, state)
            out, state = out if isinstance(out, tuple) else (out, state)
            train.append(out)
    return torch.stack(train)


def in_norse(path: Path, image: Tensor) -> tuple[nn.Module, Tensor]:
    """The file's network in norse, and the input that it takes: an image without batch."""
    pytest.importorskip("norse")
    from norse.torch import from_nir

    return from_nir(nir.read(path), dt=DT), image


def in_spikingjelly(path: Path, image: Tensor) -> tuple[nn.Module, Tensor]:
    """The same in spikingjelly: a batch of one."""
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(nir.read(path), dt=DT), image[None]


@pytest.mark.filterwarnings("ignore")  # what the other frameworks import is not ours
@pytest.mark.parametrize("framework", [in_norse, in_spikingjelly])
@pytest.mark.parametrize("levels", ["binary", "ternary", "shift1"])
def test_other_frameworks_fire_the_same_stbp_spikes(
    framework: Any, levels: str, tmp_path: Path
) -> None:
    network, made = lively("stbp", levels)
    path = write_nir(to_nir(network, made), tmp_path / "net.nir")
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(2))
    theirs, given = framework(path, image)
    state, train = None, []
    with torch.no_grad():
        for _ in range(network.time_steps):
            out, state = theirs(given, state)
            train.append(out.reshape(-1))
    ours = spikes_of(network, image[None])[:, 0]
    assert 0 < ours.mean() < 1
    assert torch.equal(torch.stack(train).to(ours.dtype), ours)
    network.neuron = StbpNeuron(0.5)
    assert not torch.equal(torch.stack(train).to(ours.dtype), spikes_of(network, image[None])[:, 0])


def of_case(name: str, levels: str) -> tuple[Any, dict[str, Levels], Tensor]:
    """A quantised network, its levels and what it is shown."""
    case = FIRING[name]
    torch.manual_seed(1)
    with torch.no_grad():
        network = case.make()
    prepare(network, levels)
    found = {f"{layer}.weight": made for layer, made in convert(network).items()}
    return network.eval().requires_grad_(False), found, case.inputs(5)


def in_time(name: str, inputs: Tensor) -> Tensor:
    """Inputs of every step, ``[T, B, C, H, W]``."""
    case = FIRING[name]
    return inputs.transpose(0, 1) if case.frames else inputs.expand(case.time_steps, *inputs.shape)


def layers_of(network: nn.Module, inputs: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Spikes of every layer by the name of its node, and the classes."""
    spikes: dict[str, Tensor] = {}

    def see(name: str, fired: Tensor, _: int) -> None:
        spikes[f"{name.replace('.', '_')}_neurons"] = fired.clone()

    with observed(network, see):
        classes = network(inputs).sum(0).argmax(1)
    return spikes, classes


@pytest.mark.parametrize(("levels", "whole"), [("binary", True), ("ternary", False)])
@pytest.mark.parametrize("name", [name for name in FIRING if name not in ("stbp", "tssl_bp")])
def test_every_layer_fires_as_the_equations_of_the_graph(
    name: str, levels: str, whole: bool, tmp_path: Path
) -> None:
    network, made, inputs = of_case(name, levels)
    case = FIRING[name]
    graph = to_nir(network, made, case.shape, time_steps=case.time_steps, whole=whole)
    graph = nir.read(write_nir(graph, tmp_path / "net.nir"))
    theirs = execute(graph, in_time(name, inputs))
    ours, classes = layers_of(network, inputs)
    assert len(ours) == sum(name.endswith("_neurons") for name in graph.nodes)
    for layer, fired in ours.items():
        assert torch.equal(theirs[layer].float(), fired.float()), layer
    assert sum(fired.mean() for fired in ours.values()) > 1 / 2
    assert torch.equal(theirs["output"].sum(0).argmax(1), classes)
    network.get_submodule(next(iter(made)).removesuffix(".weight")).weight.neg_()
    other, _ = layers_of(network, inputs)
    assert not all(torch.equal(theirs[each].float(), other[each].float()) for each in other)
    for each in made:
        node = graph.nodes[each.removesuffix(".weight").replace(".", "_")]
        assert node.metadata["bits"] == made[each].bits
        assert set(np.unique(np.abs(node.weight))) <= {0.0, 1.0} or not whole


def test_old_readers_find_no_metadata_at_nodes_and_no_reset(tmp_path: Path) -> None:
    h5py: Any = pytest.importorskip("h5py")
    network, made, _ = of_case("snn_calibration potentials", "binary")
    graph = to_nir(network, made)
    new, old = (write_nir(graph, tmp_path / n, old=n == "old") for n in ("new", "old"))
    with h5py.File(new) as a, h5py.File(old) as b:
        name = "features_1_neurons"
        assert set(a["node/nodes"][name]) == {"metadata", "r", "type", "v_threshold"}
        assert set(b["node/nodes"][name]) == {"r", "type", "v_threshold"}
        first = b["node/metadata/nodes"][name]["v_init"][()]
        assert np.array_equal(first, a["node/nodes"][name]["metadata/v_init"][()])
        assert first.any()
    network, made, _ = of_case("surrogate 7b", "binary")
    graph = to_nir(network, made, (2, 20, 20), time_steps=4)
    graph.nodes["features_0_conv_neurons"].v_reset += 0.5
    with pytest.raises(UserError, match="reset to another value than 0"):
        write_nir(graph, tmp_path / "old", old=True)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (vgg16(10, width=NARROW), "an ANN has no neurons"),
        (nn.Linear(2, 2), "none of this program's networks"),
    ],
)
def test_what_nir_cannot_express_is_named(network: nn.Module, reason: str) -> None:
    with pytest.raises(UserError, match=f"has no NIR graph: .*{reason}.*; those of stbp, tssl_bp"):
        to_nir(network, {})


def test_products_of_sums_are_named() -> None:
    network: Any = sew("sew_7b")()
    assert isinstance(network, SewNet)
    with pytest.raises(UserError, match="have one threshold anyway: leave --real-weights out"):
        to_nir(FIRING["stbp"].make(), {}, whole=False)
    with pytest.raises(UserError, match="takes any number of frames: give time_steps"):
        to_nir(network, {}, (2, 20, 20))
    for connection in ("and", "iand"):
        assert isinstance(network.features[3], SewBlock)
        network.features[3].connection = connection
        with pytest.raises(UserError, match=f"3.second.conv: {connection} with a shortcut of sums"):
            to_nir(network, {}, (2, 20, 20), time_steps=2)


def test_scales_of_channels_are_refused() -> None:
    network = conv7fc3(10, time_steps=2, neuron=StbpNeuron(0.25), width=NARROW)
    prepare(network, scale="channel")
    made = {f"{name}.weight": layer for name, layer in convert(network).items()}
    with pytest.raises(UserError, match="conv2 has a scale per channel"):
        to_nir(network, made)


def test_a_run_becomes_a_file_and_what_cannot_leaves_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--tier=smoke", "--train-images=40", "--epochs=1", "--cbp.epochs=1", "--width=0.03125"]
    for precision in ("fp32", "binary"):
        words = ["run", "--method=stbp", "--dataset=cifar10", f"--precision={precision}", *tiny]
        assert main(words) == 0
    capsys.readouterr()
    assert main(["nir", "runs/stbp-cifar10-binary-smoke-s0"]) == 0
    assert "in 8 layers, each with scale and bits" in capsys.readouterr().out
    graph = nir.read(tmp_path / "stbp-cifar10-binary-smoke-s0.nir")
    assert set(np.unique(graph.nodes["fc1"].weight)) == {-1.0, 1.0}
    assert main(["nir", "nonesuch.safetensors", "--out=a.nir"]) == 2
    assert not (tmp_path / "a.nir").exists()


def test_weights_between_levels_are_refused() -> None:
    levels = LayerLevels((-1.0, 1.0), 0.5)
    assert codes(torch.tensor([[0.5, -0.5]]), levels).tolist() == [[1.0, -1.0]]
    for wrong in (0.4, 7.0, -7.0):
        with pytest.raises(UserError, match="is not a level"):
            codes(torch.tensor([[0.5, wrong]]), levels)
