"""TSSL-BP against the reference's own numbers: neuron, filter, network, loss and gradients."""

import numpy as np
import pytest
import torch
from paths import GOLDEN
from torch import Tensor, nn

from repro.cbp.layers import prepare, prepared_layers
from repro.networks.alexnet import SumPool, TsslBpNetwork
from repro.neurons.scan import tssl_bp as scan
from repro.neurons.tssl_bp import (
    TsslBpNeuron,
    scan_plain,
    spike_kernel_loss,
    synaptic_filter,
    target_train,
)

EXACT = {"rtol": 1e-9, "atol": 1e-10}
WEIGHTS = {"conv1": "0", "conv2": "1", "fc1": "2", "fc2": "3"}
PRECISIONS = ["binary", "ternary"]


def load(name: str) -> dict[str, Tensor]:
    """The file's arrays, time moved from last to first where it is there."""
    path = GOLDEN / f"tssl_bp_{name}.npz"
    with np.load(path, allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def time_first(array: Tensor) -> Tensor:
    return array.movedim(-1, 0).contiguous()


@pytest.mark.parametrize("case", [0, 1])
@pytest.mark.parametrize("function", [scan, scan_plain])
def test_neuron(case: int, function: object) -> None:
    golden = load(f"neuron_{case}")
    neuron = TsslBpNeuron(*(golden[k].item() for k in ("tau_m", "tau_s", "threshold")))
    x, grad_y = time_first(golden["x"]), time_first(golden["grad_y"])
    # The golden neuron's input has passed the filter: undo it, p[t] - p[t-1] (1 - 1/tau_s).
    p = x * neuron.tau_s
    current = p - torch.cat([torch.zeros_like(p[:1]), p[:-1]]) * (1 - 1 / neuron.tau_s)
    current.requires_grad_()
    y = synaptic_filter(function(current, len(x), neuron), neuron.tau_s)  # type: ignore[operator]
    torch.testing.assert_close(y, time_first(golden["y"]), **EXACT)
    assert y.any()
    (grad,) = torch.autograd.grad((y * grad_y).sum(), current)
    # dL/dcurrent is the filter run backwards over the golden dL/dx.
    expected = synaptic_filter(time_first(golden["grad_x"]).flip(0), neuron.tau_s).flip(0)
    torch.testing.assert_close(grad, expected, **EXACT)
    assert not torch.allclose(grad, time_first(golden["grad_x"]))


@pytest.mark.parametrize("case", [0, 1])
def test_filter(case: int) -> None:
    golden = load(f"neuron_{case}")
    spikes, psp = time_first(golden["spikes"]), time_first(golden["psp"])
    torch.testing.assert_close(synaptic_filter(spikes, golden["tau_s"].item()), psp, **EXACT)
    assert not torch.allclose(synaptic_filter(spikes, golden["tau_s"].item() + 1), psp)


def network(golden: dict[str, Tensor], factor: float = 1.1) -> TsslBpNetwork:
    layers = {
        "conv1": nn.Conv2d(3, 6, 3, padding=1, bias=False),
        "conv2": nn.Conv2d(6, 8, 3, padding=1, bias=False),
        "pool": SumPool(factor),
        "fc1": nn.Linear(128, 16, bias=False),
        "fc2": nn.Linear(16, 4, bias=False),
    }
    net = TsslBpNetwork(layers, 5, TsslBpNeuron(tau_m=5.0, tau_s=3.0)).double()
    state = {f"{name}.weight": golden[f"w{i}"] for name, i in WEIGHTS.items()}
    shapes = {name: weight.shape for name, weight in net.state_dict().items()}
    net.load_state_dict({name: weight.reshape(shapes[name]) for name, weight in state.items()})
    return net


@pytest.mark.parametrize("precision", PRECISIONS)
def test_network(precision: str) -> None:
    golden = load(f"network_{precision}")
    net = network(golden)
    unquantised = net(golden["X"])
    prepared = prepare(net, precision)
    assert list(prepared) == ["conv2", "fc1"]
    for name, layer in prepared.items():
        assert layer.scale == pytest.approx(golden[f"scale{WEIGHTS[name]}"].item(), rel=1e-12)
    output = net(golden["X"])
    torch.testing.assert_close(output, time_first(golden["out"][:, :, 0, 0]), **EXACT)
    assert not torch.allclose(output, unquantised)
    target = target_train(golden["y"], 4, 5, 3.0, dtype=torch.float64)
    torch.testing.assert_close(target, time_first(golden["target"][:, :, 0, 0]), **EXACT)
    loss = spike_kernel_loss(output, target, 3.0)
    torch.testing.assert_close(loss, golden["loss"], **EXACT)
    loss.backward()
    latents = {name: latent for name, (latent, _) in prepared_layers(net).items()}
    for name, i in WEIGHTS.items():
        parameter = latents.get(name, net.get_submodule(name).weight)
        assert parameter.grad is not None
        expected = golden[f"g{i}"].reshape(parameter.shape)
        torch.testing.assert_close(parameter.grad, expected, **EXACT)
        assert expected.any()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_without_its_factor_the_pooling_gives_another_gradient(precision: str) -> None:
    golden = load(f"network_{precision}")
    net = network(golden, factor=1.0)
    prepare(net, precision)
    target = target_train(golden["y"], 4, 5, 3.0, dtype=torch.float64)
    spike_kernel_loss(net(golden["X"]), target, 3.0).backward()
    assert not torch.allclose(net.conv1.weight.grad, golden["g0"].reshape(6, 3, 3, 3))
