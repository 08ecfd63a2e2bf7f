"""The plain way of the spiking VGG16 computes what ours computes, gradients included."""

import pytest
import torch
from torch import nn

from benchmarks.plain_vgg import PlainVgg, PlainVggStep, enliven_
from repro.cbp.layers import prepare, prepared_layers
from repro.cbp.multiplier import Multipliers
from repro.errors import UserError
from repro.networks.vgg import SpikingVgg, spiking_vgg

NARROW, STEPS = 1 / 16, 6
EXACT = {"rtol": 1e-9, "atol": 1e-10}
LATENT = ".parametrizations.weight.original"


def both() -> tuple[SpikingVgg, PlainVgg]:
    ours = spiking_vgg(10, time_steps=STEPS, width=NARROW).double()
    enliven_(ours)
    plain = PlainVgg(time_steps=STEPS, width=NARROW).double()
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.mark.parametrize("precision", ["binary", "ternary"])
def test_output_and_lagrangian_gradients_equal_ours(precision: str) -> None:
    ours, plain = both()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.arange(4)
    unquantised = plain(images)
    torch.testing.assert_close(ours(images).sum(0), unquantised, **EXACT)
    step = PlainVggStep(plain, precision)
    prepare(ours, precision)
    pairs = {n: (latent, q.values) for n, (latent, q) in prepared_layers(ours).items()}
    multipliers = Multipliers(pairs, lr=1e-3)  # type: ignore[arg-type]
    logits = ours(images).sum(0)
    torch.testing.assert_close(logits, plain(images), **EXACT)
    assert not torch.equal(logits, unquantised)

    nn.functional.cross_entropy(logits, labels).backward()
    task = {name: parameter.grad.clone() for name, parameter in ours.named_parameters()}
    multipliers.add_slopes_()
    expected = step.gradients(images, labels)
    moved = set()
    for name, parameter in ours.named_parameters():
        plain_name = name.replace(LATENT, ".weight")
        torch.testing.assert_close(parameter.grad, expected.pop(plain_name), **EXACT)
        assert parameter.grad.abs().max() > 1e-9, f"{name} proves nothing"
        moved |= set() if torch.equal(parameter.grad, task[name]) else {plain_name}
    assert not expected
    assert moved == {f"{name}.weight" for name in step.multipliers}
    assert len(moved) == 12


def test_weights_decay_and_biases_do_not() -> None:
    step = PlainVggStep(both()[1], "binary")
    decays = [group["weight_decay"] for group in step._optimiser.param_groups]
    assert decays == [1e-4, 0]
    sizes = [len(group["params"]) for group in step._optimiser.param_groups]
    assert sizes == [14, 14]


def test_a_wrong_precision_names_the_remedy() -> None:
    with pytest.raises(UserError, match="precision fp32: choose one of"):
        both()[1].quantise_("fp32")
