"""Products by events: those of PyTorch but for the order of sums, for any shape and rate."""

import json
from typing import Any

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from repro.products import choice
from repro.products.choice import OUTPUTS, choose, entry, rates
from repro.products.dense import weight_gradient
from repro.products.dispatch import pack, sum_of_events, weight_gradient_of_events
from repro.products.geometry import Geometry
from repro.products.layer import EventLayer, event_kind, like
from repro.products.spikes import PackedSpikes, word_bits

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def packed(numbers: Tensor, weight: Tensor, geometry: Geometry) -> PackedSpikes:
    bits = word_bits(weight.shape[1], weight.shape[2] * weight.shape[3])
    found = pack(numbers, geometry.groups, bits)
    assert found is not None
    return found


def require_close(found: Tensor, expected: Tensor, dtype: torch.dtype, size: float) -> None:
    """Equal to a fraction of the sum of what was added up, which bounds what sums may round."""
    assert found.shape == expected.shape
    assert found.dtype == dtype
    if found.numel():
        assert float((found - expected).abs().max()) <= TOLERANCE[dtype] * max(size, 1e-30)


def check(numbers: Tensor, weight: Tensor, geometry: Geometry) -> None:
    dtype, spikes = weight.dtype, packed(numbers, weight, geometry)
    walk = (geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    bias = torch.randn(len(weight), dtype=dtype)
    output = torch.conv2d(numbers, weight, bias, *walk)
    added = torch.conv2d(numbers, weight.abs(), bias.abs(), *walk)
    size = float(added.amax()) if len(numbers) else 0.0
    require_close(sum_of_events(spikes, weight, geometry, bias), output, dtype, size)
    grad, shape = torch.randn_like(output), tuple(weight.shape)
    found = weight_gradient_of_events(grad, spikes, geometry, shape)
    if not len(numbers):
        assert not found.any()
        return
    expected = weight_gradient(grad, numbers, geometry, shape)
    size = float(weight_gradient(grad.abs(), numbers, geometry, shape).amax())
    require_close(found, expected, dtype, size)


@pytest.mark.parametrize("every_word", [False, pytest.param(True, marks=pytest.mark.slow)])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_walk_over_any_maps(every_word: bool, data: st.DataObject) -> None:
    """In float64, words of every size are left to the slow test: each is compiled."""

    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    inner, outputs = data.draw(st.integers(1, 130)), data.draw(st.integers(1, 70))
    geometry = Geometry(pair(1, 4), pair(1, 3), pair(0, 3), pair(1, 3), groups)
    height, width = pair(1, 9)
    if min(geometry.outputs(height, width)) == 0:
        return
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    narrow = word_bits(inner, geometry.kernel[0] * geometry.kernel[1]) < 64 and not every_word
    dtype = torch.float32 if narrow else data.draw(st.sampled_from(list(TOLERANCE)))
    images, rate = data.draw(st.integers(0, 3)), data.draw(st.floats(0, 1))
    shape = (images, groups * inner, height, width)
    numbers = (torch.rand(shape) < rate).to(dtype) * data.draw(st.integers(1, 15))
    weight = torch.randn(groups * outputs, inner, *geometry.kernel, dtype=dtype)
    check(numbers, weight, geometry)


def test_images_of_many_chunks() -> None:
    torch.manual_seed(0)
    for side, images in ((30, 3), (4, 70)):
        numbers = (torch.rand(images, 20, side, side) < 0.2).double()
        weight = torch.randn(70, 20, 3, 3, dtype=torch.float64)
        check(numbers, weight, Geometry((3, 3), padding=(1, 1)))


def test_threads_do_not_change_a_bit() -> None:
    torch.manual_seed(0)
    geometry = Geometry((3, 3), (2, 2), (1, 1))
    numbers, weight = (torch.rand(50, 40, 8, 8) < 0.3).float(), torch.randn(70, 40, 3, 3)
    spikes, found = packed(numbers, weight, geometry), []
    grad = torch.randn(50, 70, 4, 4)
    before = numba.get_num_threads()
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            found.append(
                (
                    sum_of_events(spikes, weight, geometry, None),
                    weight_gradient_of_events(grad, spikes, geometry, tuple(weight.shape)),
                )
            )
    finally:
        numba.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_spikes_of_other_groups_are_refused() -> None:
    numbers, weight = torch.ones(1, 4, 2, 2), torch.ones(2, 2, 1, 1)
    spikes = packed(numbers, torch.ones(2, 4, 1, 1), Geometry())
    with pytest.raises(ValueError, match="by the groups of the layer"):
        sum_of_events(spikes, weight, Geometry(groups=2), None)


def test_the_table_has_a_rate_for_every_layer() -> None:
    for product in ("forward", "weight gradient"):
        for side in (1, 3):
            for stride in (1, 2):
                for outputs in OUTPUTS:
                    name = entry(Geometry((side, side), (stride, stride)), outputs)
                    assert 0 <= rates()[product][name] <= 1
    assert json.loads(choice.TABLE.read_text())["environment"]["commit"]


def test_the_rate_alone_decides_between_two_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"forward": {"3x3, stride 1, 64 outputs": 0.1, "1x1, stride 1, 16 outputs": 0.5}}
    monkeypatch.setattr(choice, "rates", lambda: table)
    wide, linear = Geometry((3, 3)), Geometry()
    assert choose("forward", wide, 100, 0.09) == "events"
    assert choose("forward", wide, 100, 0.1) == "dense"
    assert choose("forward", linear, 10, 0.49) == "events"


def stepped(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    inputs = inputs.clone().requires_grad_()
    output = network(inputs)
    generator = torch.Generator().manual_seed(1)
    output.backward(torch.randn(output.shape, generator=generator, dtype=output.dtype))
    assert inputs.grad is not None
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return [output.detach(), inputs.grad, *gradients]


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "convolution": (nn.Conv2d(20, 24, 3, 2, padding=1), (5, 20, 9, 7)),
    "groups": (nn.Conv2d(8, 12, 3, groups=4, bias=False), (2, 8, 11, 9)),
    "one axis": (nn.Conv1d(8, 40, 3, padding="same"), (3, 8, 9)),
    "linear": (nn.Linear(300, 17), (4, 3, 300)),
}


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("way", ["dense", "events"])
@pytest.mark.parametrize("name", list(LAYERS))
def test_a_layer_is_the_plain_one_in_either_way(
    name: str, way: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.products.layer.choose", lambda *_: way)
    plain, shape = LAYERS[name]
    plain = plain.to(dtype)
    kind = event_kind(plain)
    assert kind is not None
    layer: Any = like(plain, kind)
    layer._parameters = {
        key: None if value is None else nn.Parameter(value.detach().clone())
        for key, value in plain._parameters.items()
    }
    spikes = (torch.rand(shape) < 0.3).to(dtype)
    plain.zero_grad()
    for mine, other in zip(stepped(layer, spikes), stepped(plain, spikes), strict=True):
        largest = float(other.abs().max())
        assert largest > 0
        assert float((mine - other).abs().max()) <= TOLERANCE[dtype] * 4 * largest
    assert isinstance(layer, EventLayer)
    assert layer.chosen == {("forward", way): 1, ("weight gradient", way): 1}
    again = stepped(layer, spikes)
    assert torch.equal(again[0], stepped(layer, spikes)[0])
    real = torch.randn(shape, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(layer(real), plain(real))
        dense = plain(spikes)
        assert float((layer(spikes) - dense).abs().max()) <= TOLERANCE[dtype] * 4
