"""SEW-ResNet against the reference's own numbers: output, loss, gradients, running statistics."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from repro.cbp.layers import prepare
from repro.networks.sew_resnet import Halve, Layer, NeuronKind, SewBlock, SewNet

EXACT = {"rtol": 1e-9, "atol": 1e-10}
PRECISIONS = ["binary", "ternary"]
QUANTISED = (
    *("features.1.first.conv", "features.1.second.conv", "features.3.conv"),
    *("features.4.first.conv", "features.4.second.conv"),
)


def load(precision: str) -> dict[str, Tensor]:
    path = Path(__file__).parent / "golden" / f"sew_resnet_{precision}.npz"
    with np.load(path, allow_pickle=False) as file:
        return {key: torch.as_tensor(file[key]) for key in file.files}


def theirs(name: str) -> str:
    """The reference's name of one of our tensors."""
    steps = {"features.": "conv.", "first.": "conv.0.", "second.": "conv.1.", "classifier": "out"}
    steps |= {"neuron.w": "1.w", ".conv.weight": ".0.0.weight", "norm.": "0.1."}
    for ours, other in steps.items():
        name = name.replace(ours, other)
    return name


def network(golden: dict[str, Tensor], tau: float | None = 2.0) -> SewNet:
    kind = NeuronKind(tau)
    layers = [
        Layer(nn.Conv2d(2, 4, 3, padding=1, bias=False), kind.layer()),
        SewBlock(4, 4, 1, kind, "add"),
        Halve(),
        Layer(nn.Conv2d(4, 6, 1, bias=False), kind.layer()),
        SewBlock(6, 6, 1, kind, "add"),
        Halve(),
    ]
    net = SewNet(layers, nn.Linear(24, 5)).double()
    net.load_state_dict({name: golden[f"init.{theirs(name)}"] for name in net.state_dict()})
    return net


@pytest.mark.parametrize("precision", PRECISIONS)
def test_network(precision: str) -> None:
    golden = load(precision)
    net = network(golden)
    unquantised = network(golden)(golden["x"])
    prepared = prepare(net, precision)
    assert tuple(prepared) == QUANTISED
    for name, layer in prepared.items():
        scale = golden[f"init.{theirs(f'{name}.weight').removesuffix('weight')}scale"].item()
        assert layer.scale == pytest.approx(scale, rel=1e-12)
    output = net(golden["x"])
    torch.testing.assert_close(output[0], golden["out_train"], **EXACT)
    assert not torch.allclose(output, unquantised)
    loss = cross_entropy(output[0], golden["y"])
    torch.testing.assert_close(loss, golden["loss"], **EXACT)
    loss.backward()
    for name, parameter in net.named_parameters():
        plain = name.replace("parametrizations.weight.original", "weight")
        expected = golden[f"grad.{theirs(plain)}"]
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected, **EXACT, msg=name)
        assert expected.any()
    for name, buffer in net.named_buffers():
        if "running" in name:
            torch.testing.assert_close(buffer, golden[f"after.{theirs(name)}"], **EXACT)
            assert not torch.allclose(buffer, golden[f"init.{theirs(name)}"])
    net.eval()
    torch.testing.assert_close(net(golden["x"])[0], golden["out_eval"], **EXACT)
    assert not torch.allclose(golden["out_eval"], golden["out_train"])
