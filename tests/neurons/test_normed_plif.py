"""Normalisation, neurons and connection in one kernel against the operations one by one."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repro.neurons.layer import HardResetLayer
from repro.neurons.normed_plif import connect, norm_and_fire_plain
from repro.neurons.scan import norm_and_fire

STEPS = 5
CONNECTIONS = ["add", "and", "iand"]


def layer(tau: float | None, channels: int = 6) -> tuple[nn.BatchNorm2d, HardResetLayer]:
    torch.manual_seed(3)
    norm = nn.BatchNorm2d(channels).double()
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()  # type: ignore[union-attr]
    return norm, HardResetLayer(tau).double()


def inputs(steps: int, channels: int = 6, side: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(steps, 3, channels, side, side, generator=generator).double()
    shortcut = torch.randint(0, 3, (STEPS, *maps.shape[1:]), generator=generator).double()
    grad = torch.randn(shortcut.shape, generator=generator).double()
    return maps, shortcut, grad


def results(
    function: Any,
    given: tuple[Tensor, Tensor, Tensor],
    made: tuple[nn.BatchNorm2d, HardResetLayer],
    connection: str | None,
) -> dict[str, Tensor]:
    norm, neuron = copy.deepcopy(made)
    maps, shortcut = (tensor.clone().requires_grad_() for tensor in given[:2])
    other = (None,) if connection is None else (shortcut, connection)
    out = function(maps, STEPS, norm, neuron.leak(), *other)
    out.backward(given[2])
    named = {**dict(norm.named_parameters()), **dict(neuron.named_parameters())}
    found = {name: parameter.grad for name, parameter in named.items()}
    found |= {"out": out, "maps": maps.grad, **dict(norm.named_buffers())}
    return found | ({} if connection is None else {"shortcut": shortcut.grad})


@pytest.mark.parametrize("steps", [STEPS, 1])
@pytest.mark.parametrize("tau", [2.0, None])
@pytest.mark.parametrize("connection", [*CONNECTIONS, None])
@pytest.mark.parametrize("training", [True, False])
def test_kernel_equals_the_operations_one_by_one(
    steps: int, tau: float | None, connection: str | None, training: bool
) -> None:
    given, made = inputs(steps), layer(tau)
    made[0].train(training)
    plain = results(norm_and_fire_plain, given, made, connection)
    fast = results(norm_and_fire, given, made, connection)
    assert plain.keys() == fast.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(fast[name], expected, rtol=1e-10, atol=1e-12, msg=name)
    assert plain["out"].any()
    assert all(plain[name].any() for name in ("maps", "weight", "bias"))


def test_running_statistics_move_in_training_only() -> None:
    given, made = inputs(STEPS), layer(2.0)
    trained = results(norm_and_fire, given, made, "add")
    made[0].eval()
    evaluated = results(norm_and_fire, given, made, "add")
    assert trained["num_batches_tracked"] == 1
    assert evaluated["num_batches_tracked"] == 0
    torch.testing.assert_close(evaluated["running_mean"], made[0].running_mean)
    assert not torch.allclose(trained["running_mean"], evaluated["running_mean"])


@pytest.mark.parametrize(("channels", "side"), [(1, 40), (3, 33), (300, 3), (5000, 1), (2, 1)])
def test_any_shape(channels: int, side: int) -> None:
    """Chunks of whole pixels, the last of them shorter; more channels than a chunk; one pixel."""
    given, made = inputs(STEPS, channels, side), layer(2.0, channels)
    plain = results(norm_and_fire_plain, given, made, "add")
    for name, found in results(norm_and_fire, given, made, "add").items():
        torch.testing.assert_close(found, plain[name], rtol=1e-9, atol=1e-11, msg=name)


def test_memory_order_makes_no_difference() -> None:
    maps, shortcut, grad = inputs(STEPS)
    last = maps.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    made = layer(2.0)
    first = results(norm_and_fire, (maps, shortcut, grad), made, "iand")
    for name, found in results(norm_and_fire, (last, shortcut, grad), made, "iand").items():
        torch.testing.assert_close(found, first[name], rtol=0, atol=0, msg=name)


def test_float32_differs_by_rounding_alone() -> None:
    given, made = inputs(STEPS), layer(2.0)
    narrow = tuple(tensor.float() for tensor in given)
    made32 = copy.deepcopy(made)
    for module in made32:
        module.float()
    exact = results(norm_and_fire, given, made, "add")
    found = results(norm_and_fire, narrow, made32, "add")  # type: ignore[arg-type]
    torch.testing.assert_close(found["out"].double(), exact["out"], rtol=0, atol=0)
    for name in ("maps", "weight", "bias", "w"):
        torch.testing.assert_close(found[name].double(), exact[name], rtol=1e-4, atol=1e-5)
    assert not torch.equal(found["maps"].double(), exact["maps"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_types_take_the_operations_one_by_one(dtype: torch.dtype) -> None:
    """The kernels have no arithmetic for them: bfloat16 reaches NumPy as its bits."""
    maps, shortcut, _ = inputs(STEPS)
    norm, neuron = (module.to(dtype).eval() for module in layer(2.0))
    given = maps.to(dtype), STEPS, norm, neuron.leak(), shortcut.to(dtype)
    found = norm_and_fire(*given)
    assert torch.equal(found, norm_and_fire_plain(*given))
    assert (found != shortcut.to(dtype)).any()


@pytest.mark.parametrize(
    ("connection", "table"),
    [("add", [0, 1, 1, 2]), ("and", [0, 0, 0, 1]), ("iand", [0, 1, 0, 0])],
)
def test_connections_are_those_of_the_paper(connection: Any, table: list[int]) -> None:
    spikes, shortcut = torch.tensor([0.0, 0, 1, 1]), torch.tensor([0.0, 1, 0, 1])
    assert connect(spikes, shortcut, connection).tolist() == table


def test_bad_shapes_are_refused() -> None:
    norm, neuron = layer(2.0, 4)
    with pytest.raises(ValueError, match="neither 1 nor T = 5"):
        norm_and_fire(torch.zeros(3, 1, 4, 2, 2).double(), 5, norm, neuron.leak())
    with pytest.raises(ValueError, match="no variance"):
        norm_and_fire(torch.zeros(1, 1, 4, 1, 1).double(), 5, norm, neuron.leak())
