"""The plain TSSL-BP baseline: golden values, and the same gradients as the fast network."""

from functools import partial

import numpy as np
import pytest
import torch
from paths import GOLDEN
from torch import Tensor

from benchmarks.plain_stbp import LayerSpec
from benchmarks.plain_tssl_bp import PlainTsslBp, PlainTsslBpStep, filtered, full_size
from repro.cbp.layers import prepare, prepared_layers
from repro.cbp.multiplier import Multipliers
from repro.networks.alexnet import alexnet
from repro.neurons.tssl_bp import TsslBpNeuron, spike_kernel_loss, target_train

GOLDEN_LAYERS = (
    LayerSpec("conv1", "conv", 6),
    LayerSpec("conv2", "conv", 8),
    LayerSpec("fc1", "linear", 16),
    LayerSpec("fc2", "linear", 4),
)
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-10)
both = pytest.mark.parametrize("precision", ["binary", "ternary"])


def golden(name: str) -> dict[str, Tensor]:
    path = GOLDEN / f"tssl_bp_{name}.npz"
    with np.load(path, allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@both
def test_output_loss_and_gradients_are_golden(precision: str) -> None:
    values = golden(f"network_{precision}")
    network = PlainTsslBp(
        GOLDEN_LAYERS, pooled=("conv2",), image_size=8, dropout=0, dtype=torch.float64
    )
    state = network.state_dict()
    for i, name in enumerate(state):
        state[name] = values[f"w{i}"].reshape(state[name].shape)
    network.load_state_dict(state)
    unquantised = network(values["X"])
    step = PlainTsslBpStep(network, precision)
    for multiplier in step.multipliers.values():
        multiplier.data.zero_()  # the golden gradients are the task's alone
    close(network(values["X"]), values["out"][:, :, 0, 0])
    assert not torch.allclose(unquantised, values["out"][:, :, 0, 0])
    loss, lagrangian = step.losses(values["X"], values["y"])
    close(loss, values["loss"])
    close(lagrangian, values["loss"])
    for i, grad in enumerate(step.gradients(values["X"], values["y"]).values()):
        close(grad, values[f"g{i}"].reshape(grad.shape))


@pytest.mark.parametrize("case", [0, 1])
def test_filter_is_golden(case: int) -> None:
    values = golden(f"neuron_{case}")
    close(filtered(values["spikes"], values["tau_s"].item()), values["psp"])


@both
def test_gradients_equal_the_fast_networks(precision: str) -> None:
    torch.manual_seed(0)
    fast = alexnet(10, time_steps=5, neuron=TsslBpNeuron(), width=1 / 16, dropout=0.0).double()
    with torch.no_grad():
        for i in (1, 2, 3):  # with their initial weights the linear layers are all but silent
            fast.get_submodule(f"fc{i}").weight.mul_(8)  # type: ignore[operator]
    plain = PlainTsslBp(full_size(width=1 / 16), dropout=0, dtype=torch.float64)
    plain.load_state_dict(fast.state_dict())
    step = PlainTsslBpStep(plain, precision)
    prepare(fast, precision)
    latents = {
        name: (latent, quantiser.values)
        for name, (latent, quantiser) in prepared_layers(fast).items()
    }
    multipliers = Multipliers(latents, lr=1e-4)
    for name, multiplier in multipliers.multipliers.items():
        multiplier.copy_(step.multipliers[name].detach())
        assert multiplier.any()

    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    labels = torch.tensor([3, 0, 7])
    output = fast(images)
    assert output.any()
    close(output.movedim(0, -1), plain(images))
    target = target_train(labels, 10, 5, 3.0, dtype=torch.float64)
    spike_kernel_loss(output, target, 3.0).backward()
    task_alone = latents["conv3"][0].grad.clone()
    multipliers.add_slopes_()
    expected = step.gradients(images, labels)
    for name, parameter in fast.named_parameters():
        close(parameter.grad, expected[name.replace("parametrizations.weight.original", "weight")])
        assert parameter.grad.any()
    assert not torch.allclose(task_alone, expected["conv3.weight"])


def test_a_step_trains_the_quantised_weights_alone() -> None:
    torch.manual_seed(0)
    network = PlainTsslBp(full_size(width=1 / 16))
    step = PlainTsslBpStep(network, "binary")
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    step.step(torch.randn(2, 3, 32, 32), torch.tensor([1, 2]))
    after = network.state_dict()
    moved = {name.removesuffix(".weight") for name in before if (before[name] != after[name]).any()}
    assert moved == set(network.quantised())
    norm = sum(p.grad.square().sum() for p in network.parameters() if p.grad is not None)
    assert norm <= 1 + 1e-5


def test_dropout_is_the_same_at_every_step_and_for_training_only() -> None:
    network = PlainTsslBp(full_size(width=1 / 16))
    dropped = network._drop(torch.ones(9, 8, 6, 6, 5))
    assert torch.equal(dropped, dropped[..., :1, :1].expand_as(dropped))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.8])
    images = torch.randn(2, 3, 32, 32)
    network.eval()
    assert torch.equal(network(images), network(images))
