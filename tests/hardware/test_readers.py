"""NIR graphs in other programs: the spikes of every layer, or the reason why not, one by one.

``make test-hardware`` makes the environments of those programs and runs this.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from networks_that_fire import CASES
from nir_executor import execute
from paths import ROOT
from torch import Tensor

from repro import packing
from repro.build import build_network
from repro.cbp.layers import convert, prepare
from repro.cli import main
from repro.deploy.nir_export import export_nir, to_nir, write_nir
from repro.deploy.packed_run import origin_of
from repro.neurons.observe import observed
from repro.run.evaluation import load_weights

nir: Any = pytest.importorskip("nir")
pytestmark = pytest.mark.hardware
ENVIRONMENTS = ROOT / "build" / "hardware"
READER = Path(__file__).with_name("in_reader.py")
IMAGES = 5
Reader = Literal["snntorch", "norse", "spikingjelly", "sinabs"]
Form = Literal["whole", "real"]


@dataclass(frozen=True)
class Shown:
    """A network's inputs, and what it made of them.

    Attributes:
        inputs: ``[T, B, C, H, W]``.
        spikes: Of every layer by the name of its node, ``[T, B, ...]``.
        classes: ``[B]``.
    """

    inputs: Tensor
    spikes: dict[str, Tensor]
    classes: Tensor


def shown(network: Any, inputs: Tensor, time_steps: int, frames: bool, rates: Any) -> Shown:
    """What a network makes of inputs; ``rates`` turns its output into classes."""
    spikes: dict[str, Tensor] = {}

    def see(name: str, fired: Tensor, _: int) -> None:
        place = name.replace(".", "_").removesuffix("_norm")
        spikes[f"{place}_neurons"] = fired.clone().float()

    with observed(network, see), torch.no_grad():
        output = network(inputs)
    steps = inputs.transpose(0, 1) if frames else inputs.expand(time_steps, *inputs.shape)
    return Shown(steps, spikes, rates(output))


def by_sum(output: Tensor) -> Tensor:
    return output.sum(0).argmax(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Path, Shown]]:
    """Files by network and form, and what our network makes of random images or frames."""
    folder, files = tmp_path_factory.mktemp("nir"), dict[tuple[str, str], tuple[Path, Shown]]()
    for name, case in CASES.items():
        torch.manual_seed(1)
        with torch.no_grad():
            network = case.make()
        prepare(network, "ternary" if name == "snn_calibration" else "binary")
        levels = {f"{layer}.weight": found for layer, found in convert(network).items()}
        network.eval().requires_grad_(False)
        ours = shown(network, case.inputs(IMAGES), case.time_steps, case.frames, by_sum)
        for form in ("whole",) if name in ("stbp", "tssl_bp") else ("whole", "real"):
            given = {"time_steps": case.time_steps, "whole": form == "whole"}
            path = folder / f"{len(files)}.nir"
            files[name, form] = write_nir(to_nir(network, levels, case.shape, **given), path), ours
            write_nir(to_nir(network, levels, case.shape, **given), path.with_suffix(".old"), True)
    for name, source in trained(folder).items():
        for form in ("whole", "real"):
            path = folder / f"{len(files)}.nir"
            shape = (2, 34, 34) if "nmnist" in source.name else (3, 32, 32)
            for out in (path, path.with_suffix(".old")):
                old = out.suffix == ".old"
                export_nir(source, out, shape, whole=form == "whole", old=old)
            files[name, form] = path, of_file(source, shape)
    return files


def trained(folder: Path) -> dict[str, Path]:
    """Packed files of trained networks: one in this repository, one trained here in seconds."""
    small = ["--tier=smoke", "--width=0.125", f"--runs={folder / 'runs'}"]
    small += [f"--rows={folder / 'rows'}"]
    for precision in ("ann", "fp32", "binary"):
        words = ["--method=snn_calibration", "--dataset=cifar10", f"--precision={precision}"]
        assert main(["run", *words, *small]) == 0
    return {
        "snn_calibration trained": folder / "runs" / "snn_calibration-cifar10-binary-smoke-s0",
        "surrogate trained": ROOT / "results/models/surrogate-nmnist-ternary-desk-s0.safetensors",
    }


def of_file(source: Path, shape: tuple[int, int, int]) -> Shown:
    """What the network of a packed file makes of random images or frames."""
    file, spec = origin_of(source)
    state, _ = packing.unpack(file)
    network = build_network(spec.key.cell, spec.recipe, 10, spec.phase).eval()
    load_weights(network, state, str(file))
    steps, frames = spec.recipe.time_steps, spec.key.cell.method == "surrogate"
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(IMAGES, *shape, generator=generator)
    if frames:
        inputs = torch.poisson(torch.full((IMAGES, steps, *shape), 0.3), generator=generator)
    return shown(network, inputs, steps, frames, by_sum)


@dataclass(frozen=True)
class Answer:
    """What another program made of a graph.

    Attributes:
        program: Its name and versions, or why it refused the graph.
        outputs: Of the neurons and of the network, by name; none where it refused.
    """

    program: str
    outputs: dict[str, Tensor]

    def differing(self, ours: Shown) -> int:
        """Number of spikes that are not ours, of all layers and steps."""
        pairs = [(self.outputs[name], fired) for name, fired in ours.spikes.items()]
        return sum(int((a.reshape(b.shape) != b).sum()) for a, b in pairs)


def answer(reader: Reader, file: tuple[Path, Shown], folder: Path, as_read: bool = False) -> Answer:
    """What a program makes of a graph, started in its environment."""
    path, ours = file
    python = ENVIRONMENTS / ("sinabs" if reader == "sinabs" else "readers") / "bin" / "python"
    assert python.exists(), "its environment is not there: make test-hardware"
    np.save(folder / "inputs.npy", ours.inputs.numpy())
    graph = path.with_suffix(".old") if reader == "sinabs" else path
    words = [python, READER, reader, graph, folder / "inputs.npy", folder / "out.npz"]
    words += ["--as-read"] if as_read else []
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        return Answer(done.stderr.strip().splitlines()[-1], {})
    with np.load(folder / "out.npz") as found:
        outputs = {name: torch.from_numpy(found[name]) for name in found.files}
    return Answer(done.stdout.strip(), outputs)


def say(*parts: object) -> None:
    print("\n ", *parts, end="")


ROWS = ("stbp", "tssl_bp")
# Program, network, form of the weights: every spike of every layer is ours, as the graph is read.
EQUAL_AS_READ: tuple[tuple[Reader, str, Form], ...] = (
    ("snntorch", "stbp", "whole"),
    ("norse", "stbp", "whole"),
    ("spikingjelly", "stbp", "whole"),
    ("snntorch", "tssl_bp", "whole"),
    ("spikingjelly", "tssl_bp", "whole"),
    ("snntorch", "surrogate 7b", "real"),
    ("snntorch", "surrogate wide", "real"),
    ("snntorch", "surrogate iand", "real"),
    ("snntorch", "surrogate trained", "real"),
    ("norse", "surrogate iand", "whole"),
    ("norse", "surrogate and", "whole"),
)
# The same after the corrections of in_reader.py; as it is read, spikes differ or it stops.
EQUAL_CORRECTED: tuple[tuple[Reader, str, Form], ...] = (
    ("sinabs", "snn_calibration", "whole"),
    ("sinabs", "snn_calibration potentials", "whole"),
    ("sinabs", "snn_calibration trained", "whole"),
    ("snntorch", "snn_calibration", "whole"),
    ("snntorch", "snn_calibration potentials", "whole"),
    ("snntorch", "snn_calibration charged", "whole"),
    ("snntorch", "snn_calibration trained", "whole"),
    ("spikingjelly", "snn_calibration", "whole"),
    ("spikingjelly", "snn_calibration potentials", "whole"),
    ("spikingjelly", "snn_calibration trained", "whole"),
    ("norse", "surrogate 7b", "whole"),
    ("norse", "surrogate wide", "whole"),
    ("norse", "surrogate resnet18", "whole"),
    ("norse", "surrogate trained", "whole"),
)
# Other spikes, and nothing to set that would make them the same.
DIFFERENT: tuple[tuple[Reader, str, Form, str], ...] = (
    ("norse", "snn_calibration", "whole", "its IF neurons are reset to 0"),
    ("snntorch", "surrogate resnet18", "real", "it takes 0.1 ms for the step of LIF, 1 s of IF"),
)
REFUSED: tuple[tuple[Reader, str, Form, str], ...] = (
    ("norse", "tssl_bp", "whole", "KeyError: 'pool2'"),
    ("snntorch", "surrogate 7b", "whole", "v_threshold must be same for all neurons"),
    ("spikingjelly", "surrogate 7b", "whole", "LIF.v_threshold must be uniform"),
    ("spikingjelly", "surrogate 7b", "real", "LIF.tau / dt must be finite and greater than 1"),
    ("sinabs", "stbp", "whole", "truth value of an array with more than one element"),
    ("sinabs", "tssl_bp", "whole", ""),
    ("sinabs", "surrogate 7b", "real", "truth value of an array with more than one element"),
)


@pytest.mark.parametrize(("reader", "name", "form"), EQUAL_AS_READ)
def test_every_spike_is_equal_as_the_graph_is_read(
    reader: Reader, name: str, form: Form, made: Any, tmp_path: Path
) -> None:
    given = answer(reader, made[name, form], tmp_path, as_read=True)
    assert given.outputs, given.program
    assert_equal(given, made[name, form][1], name, form)


@pytest.mark.parametrize(("reader", "name", "form"), EQUAL_CORRECTED)
def test_every_spike_is_equal_after_corrections(
    reader: Reader, name: str, form: Form, made: Any, tmp_path: Path
) -> None:
    ours = made[name, form][1]
    as_read = answer(reader, made[name, form], tmp_path, as_read=True)
    given = answer(reader, made[name, form], tmp_path)
    assert given.outputs, given.program
    assert_equal(given, ours, name, form)
    if as_read.outputs:
        try:
            differing = as_read.differing(ours)
        except (KeyError, RuntimeError):
            say("  as read: outputs of other shapes")
        else:
            say(f"  as read: {differing:,} spikes differ")
            assert differing
    else:
        say(f"  as read: {as_read.program}")


def assert_equal(given: Answer, ours: Shown, name: str, form: str) -> None:
    assert given.differing(ours) == 0
    total = sum(int(fired.sum()) for fired in ours.spikes.values())
    assert total > 0
    steps, images = ours.inputs.shape[:2]
    output = given.outputs["output"]
    classes = output.reshape(steps, images, -1).sum(0).argmax(1)
    if name != "tssl_bp":  # whose readout is a filter
        assert torch.equal(classes, ours.classes)
    say(
        f"{given.program}: {name}, {form} numbers, {images} inputs, {steps} steps: all "
        f"{total:,} spikes of {len(ours.spikes)} layers equal"
    )


@pytest.mark.parametrize(("reader", "name", "form", "reason"), DIFFERENT)
def test_other_spikes_are_known(
    reader: Reader, name: str, form: Form, reason: str, made: Any, tmp_path: Path
) -> None:
    given, ours = answer(reader, made[name, form], tmp_path), made[name, form][1]
    assert given.outputs, given.program
    differing = given.differing(ours)
    assert differing > 0
    say(f"{given.program}: {name}: {differing:,} spikes differ: {reason}")


@pytest.mark.parametrize(("reader", "name", "form", "reason"), REFUSED)
def test_refusals_are_known(
    reader: Reader, name: str, form: Form, reason: str, made: Any, tmp_path: Path
) -> None:
    given = answer(reader, made[name, form], tmp_path)
    assert not given.outputs
    assert reason in given.program
    say(f"{reader}: {name}, {form} numbers, refused: {given.program}")


@pytest.mark.parametrize("name", ["snn_calibration trained", "surrogate trained"])
def test_trained_networks_fire_as_the_equations_of_the_graph(name: str, made: Any) -> None:
    path, ours = made[name, "whole"]
    found = execute(nir.read(path), ours.inputs)
    for layer, fired in ours.spikes.items():
        assert torch.equal(found[layer].float(), fired), layer
    total = sum(int(fired.sum()) for fired in ours.spikes.values())
    say(f"NIR's equations in float64: {name}: all {total:,} spikes equal")
