"""QONNX: one time step, run by qonnx's own executor, is a step of ours, layer by layer."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks_that_fire import CASES, METHODS
from small_cells import cell_file
from torch import Tensor, nn

from repro.cbp.layers import convert, prepare
from repro.cbp.levels import LayerLevels, Levels
from repro.cli import main
from repro.deploy.qonnx_export import to_qonnx
from repro.errors import UserError
from repro.neurons.observe import observed

in_its_environment = pytest.mark.hardware  # make test-hardware installs qonnx
IMAGES = 2


def test_without_qonnx_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "qonnx", None)
    monkeypatch.setitem(sys.modules, "qonnx.core.modelwrapper", None)
    assert main(["qonnx", str(cell_file(tmp_path, width=1 / 32))]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "cbp-qsnn: qonnx is not installed: pip install -c constraints.txt -e '.[qonnx]'"
    ]


def quantised(name: str, levels: str, **options: Any) -> tuple[nn.Module, dict[str, Levels]]:
    """A network in which layers fire, and its levels."""
    torch.manual_seed(1)
    with torch.no_grad():
        network = CASES[name].make()
    prepare(network, levels, **options)
    made = {f"{layer}.weight": found for layer, found in convert(network).items()}
    return network.eval().requires_grad_(False), made


def executed(model: Any, inputs: Tensor) -> list[list[dict[str, Any]]]:
    """All values of every step and input ``[T, B, C, H, W]``, computed by qonnx."""
    from qonnx.core.onnx_exec import execute_onnx

    found = []
    for image in inputs.unbind(1):
        first = {i.name: model.get_initializer(f"{i.name}_first") for i in model.graph.input[1:]}
        kept = {
            name: np.zeros(model.get_tensor_shape(name), np.float32) if value is None else value
            for name, value in first.items()
        }
        steps = []
        for step in image:
            steps.append(execute_onnx(model, {"input": step[None].numpy(), **kept}, True))
            kept = {name: steps[-1][f"{name}_next"] for name in kept}
        found.append(steps)
    return found


def values_of(found: list[list[dict[str, Any]]], name: str) -> Tensor:
    """A value ``[T, B, ...]`` of all steps and images."""
    images = [torch.from_numpy(np.concatenate([step[name] for step in steps])) for steps in found]
    return torch.stack(images, 1)


@in_its_environment
@pytest.mark.filterwarnings("ignore")  # what onnx and qonnx import is not ours
@pytest.mark.parametrize(
    ("name", "levels"),
    [
        *((name, "binary") for name in CASES),
        *((name, "ternary") for name in METHODS),
        ("stbp", "shift2"),
    ],
)
def test_every_layer_is_ours_in_qonnxs_executor(name: str, levels: str) -> None:
    case = CASES[name]
    network, made = quantised(name, levels)
    model = to_qonnx(network, made, case.shape, case.time_steps)
    inputs = case.inputs(IMAGES)
    steps = inputs.transpose(0, 1) if case.frames else inputs.expand(case.time_steps, *inputs.shape)
    found, spikes = executed(model, steps), dict[str, Tensor]()

    def see(layer: str, fired: Tensor, _: int) -> None:
        spikes[layer.replace(".", "_").removesuffix("_norm")] = fired.clone().float()

    with observed(network, see):
        ours = network(inputs)
    for layer, fired in spikes.items():
        assert torch.equal(values_of(found, f"{layer}_spikes").view_as(fired), fired), layer
    total = sum(int(fired.sum()) for fired in spikes.values())
    assert total > 0
    output = values_of(found, "output")
    if name == "tssl_bp":  # whose readout is a filter, outside of the graph
        assert torch.equal(output, spikes["fc3"])
    else:
        mean = case.time_steps if len(ours) == 1 else 1
        torch.testing.assert_close(output.sum(0) / mean, ours.sum(0), rtol=1e-5, atol=1e-5)
    kinds = {"binary": "BipolarQuant"}.get(levels, "IntQuant")
    assert sum(node.op_type == kinds for node in model.graph.node) == len(made)
    for each in made:
        sums = values_of(found, f"{each.removesuffix('.weight').replace('.', '_')}_sums")
        assert torch.equal(sums, sums.round()), each
    changed = next(iter(made)).removesuffix(".weight").replace(".", "_")
    model.set_initializer(f"{changed}_codes", -model.get_initializer(f"{changed}_codes"))
    other = executed(model, steps)
    assert any(not torch.equal(values_of(other, f"{n}_spikes"), s) for n, s in spikes.items())
    print(
        f"\n  qonnx: {name}, {levels}, {IMAGES} inputs, {case.time_steps} steps: all {total:,} "
        f"spikes of {len(spikes)} layers equal, sums of codes whole numbers",
        end="",
    )


@in_its_environment
@pytest.mark.filterwarnings("ignore")
def test_weights_are_what_finn_reads() -> None:
    from qonnx.core.datatype import DataType
    from qonnx.transformation.infer_datatypes import InferDataTypes

    for levels, kind in (("binary", "BIPOLAR"), ("ternary", "INT2")):
        network, made = quantised("stbp", levels)
        model = to_qonnx(network, made, (3, 32, 32), 4).transform(InferDataTypes())
        for each in made:
            name = f"{each.removesuffix('.weight')}_weight"
            assert model.get_tensor_datatype(name) == DataType[kind], name


@in_its_environment
@pytest.mark.filterwarnings("ignore")
def test_a_scale_per_channel_and_weights_between_levels() -> None:
    network, made = quantised("stbp", "ternary", scale="channel")
    inputs = CASES["stbp"].inputs(1)
    found = executed(to_qonnx(network, made, (3, 32, 32), 4), inputs.expand(4, *inputs.shape))
    assert torch.equal(values_of(found, "output"), network(inputs))
    network.get_parameter("conv2.weight")[0, 0, 0, 0] = 0.4
    with pytest.raises(UserError, match="conv2: a weight is not a level"):
        to_qonnx(network, made, (3, 32, 32), 4)
    made["conv2.weight"] = LayerLevels((-1.0, 0.3, 1.0), 0.5)
    with pytest.raises(UserError, match=r"conv2: levels .* are not whole numbers"):
        to_qonnx(network, made, (3, 32, 32), 4)


@in_its_environment
@pytest.mark.filterwarnings("ignore")
def test_command_writes_a_file_that_qonnx_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from qonnx.core.modelwrapper import ModelWrapper

    path, out = cell_file(tmp_path, width=1 / 32), tmp_path / "net.onnx"
    assert main(["qonnx", str(path), f"--out={out}"]) == 0
    assert "8 layers with BipolarQuant, 0 with IntQuant" in capsys.readouterr().out
    model = ModelWrapper(str(out))
    steps = int(model.get_metadata_prop("time_steps"))
    found = executed(model, torch.randn(steps, 1, 3, 32, 32))
    assert values_of(found, "output").shape == (steps, 1, 10)
    assert main(["qonnx", str(path), "--shape", "3", "32"]) == 2
    assert "give C H W" in capsys.readouterr().err
