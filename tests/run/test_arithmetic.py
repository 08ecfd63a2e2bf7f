"""Products in bfloat16 keep spikes and gradients close, with the ends of a network in float32."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from benchmarks.train_step import CASES, batch
from repro.cbp import layers
from repro.cells import Precision, RunKey, find_cell
from repro.errors import UserError
from repro.methods.base import SpikingModule
from repro.recipes.fields import Matmul
from repro.recipes.shipped import RECIPES
from repro.recipes.smoke import STBP_DIGITS
from repro.recipes.spec import RunSpec
from repro.run import arithmetic
from repro.run.training import make_cbp, make_module

# T and width of a narrow network.
NARROW = {
    "stbp": (4, 1 / 8),
    "tssl_bp": (5, 1 / 8),
    "snn_calibration": (6, 1 / 8),
    "surrogate": (3, 1 / 4),
}


def narrow_module(network: str, precision: Precision, matmul: Matmul) -> SpikingModule:
    """A narrow network of a method, the same weights at every call."""
    steps, width = NARROW[network]
    case = CASES[network]
    changes: dict[str, Any] = {"time_steps": steps, "width": width, "matmul": matmul}
    changes |= {"amp": False} if network == "surrogate" else {}
    changes |= {"dropout": 0.0} if precision == "ann" else {}
    key = RunKey(find_cell(network, case.dataset), precision, 0, "paper")
    return make_module(RunSpec(key, replace(case.recipe, **changes)), case.classes, None)


def gradients(module: SpikingModule, network: str) -> Tensor:
    """All gradients of the loss in one row."""
    images, labels = batch(network, NARROW[network][0], 6)
    module.loss(module.network(images), labels).backward()
    found = [p.grad.flatten() for p in module.network.parameters() if p.grad is not None]
    return torch.cat(found)


def test_bf16_gradients_of_an_ann_are_close() -> None:
    exact = gradients(narrow_module("snn_calibration", "ann", "float32"), "snn_calibration")
    narrow = gradients(narrow_module("snn_calibration", "ann", "bf16"), "snn_calibration")
    assert float(cosine_similarity(exact, narrow, dim=0)) >= 0.999
    assert float(cosine_similarity(exact, narrow.roll(1), dim=0)) < 0.9
    assert not torch.equal(exact, narrow), "or nothing was computed in bfloat16"


@pytest.mark.parametrize("network", sorted(NARROW))
def test_bf16_disturbs_a_spiking_network_as_rounded_weights_do(network: str) -> None:
    """A few spikes that flip turn all later gradients: no rounding leaves them close.

    So bfloat16 is held against the same network in float32 whose weights are rounded to it.
    """
    found = []
    for matmul, rounds in (("float32", False), ("bf16", False), ("float32", True)):
        module = narrow_module(network, "fp32_control", matmul)
        CASES[network].enliven_(module.network)
        if rounds:
            for layer in layers.choose_layers(module.network).values():
                layer.weight.data = layer.weight.data.bfloat16().float()
        found.append(gradients(module, network))
    exact, narrow, rounded = found
    away = [1 - float(cosine_similarity(exact, other, dim=0)) for other in (narrow, rounded)]
    assert 0.05 < away[0] < 1.5 * away[1] < 1.5
    assert not torch.equal(narrow, rounded)


def test_the_first_and_the_last_layer_stay_float32() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(40, 40) for _ in range(3)))
    seen: dict[int, torch.dtype] = {}
    for i, layer in enumerate(network):
        layer.register_forward_hook(
            lambda module, inputs, out, i=i: seen.__setitem__(i, (inputs[0].dtype, out.dtype))
        )
    images = torch.randn(5, 40)
    before = [network[:n](images) for n in (1, 2, 3)]
    arithmetic.use(network, "bf16")
    after = [network[:n](images) for n in (1, 2, 3)]
    assert seen == dict.fromkeys(range(3), (torch.float32, torch.float32))
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    torch.testing.assert_close(before[1], after[1], rtol=2**-6, atol=2**-6)
    assert torch.equal(network[2](before[1]), before[2])


def test_spikes_bf16_takes_the_place_of_bf16() -> None:
    key = RunKey(find_cell("stbp", "cifar10"), "binary", 0, "smoke")
    outputs = []
    for matmul in ("float32", "bf16"):
        recipe = replace(STBP_DIGITS, matmul=matmul, gain=3.0)
        recipe = replace(recipe, cbp=replace(recipe.cbp, arithmetic="spikes_bf16"))
        spec = RunSpec(key, recipe)
        module, cbp = make_module(spec, 10, None), make_cbp(spec)
        layers.prepare(module, cbp.levels, arithmetic=cbp.settings.arithmetic)
        outputs.append(module.network(torch.randn(8, 3, 32, 32, generator=torch.manual_seed(1))))
    assert torch.equal(*outputs)
    assert bool(outputs[0].any())


@pytest.mark.parametrize(("matmul", "allowed"), [("float32", False), ("tf32", True)])
def test_tf32_is_off_unless_asked_for(matmul: Matmul, allowed: bool) -> None:
    def flags() -> set[bool]:
        return {torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32}

    torch.backends.cudnn.allow_tf32 = not allowed
    arithmetic.use(nn.Linear(2, 2), matmul)
    assert flags() == {allowed}
    with arithmetic.exact():
        assert flags() == {False}
    assert flags() == {allowed}
    assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    arithmetic.use(nn.Linear(2, 2), "float32")


def test_recipes_are_called_what_they_were_before_there_was_a_choice() -> None:
    for (cell, tier), recipe in RECIPES.items():
        if tier == "paper_short" or (cell.method, tier) == ("stbp", "desk"):
            continue  # as young as the choice itself, or younger
        assert recipe.matmul == "float32", (cell, tier)
        spec = RunSpec(RunKey(cell, "binary", 0, tier), recipe)
        assert "matmul" not in spec.values
        other = replace(spec, recipe=replace(recipe, matmul="tf32"))
        assert other.values == spec.values | {"matmul": "tf32"}
        assert other.hash != spec.hash


def test_two_kinds_of_16_bits_are_refused() -> None:
    recipe = RECIPES[find_cell("surrogate", "cifar10_dvs"), "paper"]
    with pytest.raises(UserError, match="give one of them"):
        replace(recipe, amp=True, matmul="bf16")


@pytest.mark.parametrize("network", sorted(NARROW))
def test_events_change_the_order_of_sums_alone(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, where rounding flips no spike."""
    exact = gradients_in_float64(network, "float32")
    monkeypatch.setattr("repro.products.layer.choose", lambda *_: "events")
    module = narrow_module(network, spiking(network), "events").double()
    found = gradients_in_float64(network, "events", module)
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-12)
    assert torch.equal(found, gradients_in_float64(network, "events"))  # a resumed run's, too
    ways = arithmetic.ways_of(module.network)
    assert len(ways) == len(layers.choose_layers(module.network))
    assert all("weight gradient, events" in way for way in ways.values())
    assert not arithmetic.ways_of(narrow_module(network, spiking(network), "float32").network)


def spiking(network: str) -> Precision:
    """A precision in FP32 whose network has neurons: a converted one is an ANN before."""
    return "fp32_control" if network == "snn_calibration" else "fp32"


def gradients_in_float64(
    network: str, matmul: Matmul, module: SpikingModule | None = None
) -> Tensor:
    """All gradients of the loss in one row, of a network in float64."""
    module = module or narrow_module(network, spiking(network), matmul).double()
    images, labels = batch(network, NARROW[network][0], 3)
    module.loss(module.network(images.double()), labels).backward()
    found = [p.grad.flatten() for p in module.network.parameters() if p.grad is not None]
    return torch.cat(found)
