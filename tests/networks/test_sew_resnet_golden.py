"""SEW-ResNet against the reference's own numbers: output, loss, gradients, running statistics."""

import pytest
import torch
from sew_golden import EXACT, PRECISIONS, QUANTISED, load, network, theirs
from torch.nn.functional import cross_entropy

from repro.cbp.layers import prepare


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
