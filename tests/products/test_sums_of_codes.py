"""Sums of codes by counting bits: bit for bit those of a convolution, whatever its shape."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from repro.cbp.levels import LEVELS
from repro.products.codes import level_codes, product_plain, shifts_of
from repro.products.dispatch import pack, pack_codes, product, unpack_codes
from repro.products.geometry import Geometry, geometry_of
from repro.products.spikes import word_bits

OWN = (-64.0, -3.0, 0.0, 50.0)
SETS = {**LEVELS, "own": OWN}


def codes_like(shape: tuple[int, ...], levels: tuple[float, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Random codes of a level set, and the set's codes."""
    found = level_codes(levels)
    assert found is not None
    known = found[0]
    return torch.tensor(known, dtype=torch.float32)[torch.randint(len(known), shape)], known


def both(
    numbers: Tensor,
    codes: Tensor,
    known: tuple[int, ...],
    geometry: Geometry,
    dtype: torch.dtype = torch.float32,
    bias: bool = True,
) -> tuple[Tensor, Tensor]:
    """The product by counting bits, and by PyTorch."""
    outputs, inner, *kernel = codes.shape
    scale = (torch.rand(outputs) + 0.01).to(dtype)
    added = torch.randn(outputs).to(dtype) if bias else None
    bits = word_bits(inner, kernel[0] * kernel[1])
    spikes = pack(numbers, geometry.groups, bits)
    assert spikes is not None
    packed = pack_codes(codes - min(known), known, geometry.groups, bits)
    assert torch.equal(unpack_codes(packed), codes)
    counted = product(spikes, packed, geometry, scale, added)
    given = (numbers.to(dtype), codes.to(dtype), geometry, scale, added)
    return counted, product_plain(*given)


def sum_by_hand(numbers: Tensor, codes: Tensor, geometry: Geometry) -> Tensor:
    """The definition of a convolution, one place after another."""
    n, _, height, width = numbers.shape
    outputs, inner, rows, taps = codes.shape
    out_height, out_width = geometry.outputs(height, width)
    sums = torch.zeros(n, outputs, out_height, out_width)
    for o, y, x, c, i, j in np.ndindex(outputs, out_height, out_width, inner, rows, taps):
        at_y = y * geometry.stride[0] - geometry.padding[0] + i * geometry.dilation[0]
        at_x = x * geometry.stride[1] - geometry.padding[1] + j * geometry.dilation[1]
        if 0 <= at_y < height and 0 <= at_x < width:
            channel = o // (outputs // geometry.groups) * inner + c
            sums[:, o, y, x] += codes[o, c, i, j] * numbers[:, channel, at_y, at_x]
    return sums


def test_the_definition_is_the_sum() -> None:
    torch.manual_seed(0)
    geometry = Geometry((3, 2), (2, 1), (1, 2), (1, 2), groups=2)
    numbers = torch.randint(0, 3, (2, 6, 5, 4)).float()
    codes, known = codes_like((4, 3, 3, 2), LEVELS["shift2"])
    expected = sum_by_hand(numbers, codes, geometry)
    one = torch.ones(())
    assert torch.equal(product_plain(numbers, codes, geometry, one, None), expected)
    counted, plain = both(numbers, codes, known, geometry)
    assert torch.equal(counted, plain)
    assert expected.unique().numel() > 5


@pytest.mark.parametrize("levels", list(SETS))
@pytest.mark.parametrize("greatest", [1, 4, 15])
def test_every_level_set_and_height_of_input(levels: str, greatest: int) -> None:
    torch.manual_seed(greatest)
    codes, known = codes_like((35, 70, 3, 3), SETS[levels])
    numbers = torch.randint(0, greatest + 1, (3, 70, 6, 5)).float()
    for dtype in (torch.float32, torch.float64):
        counted, plain = both(numbers, codes, known, Geometry((3, 3), padding=(1, 1)), dtype)
        assert torch.equal(counted, plain)
        assert counted.dtype == dtype
    codes[0, 0, 0, 0] = known[0] if codes[0, 0, 0, 0] != known[0] else known[1]
    numbers[:, 0] = greatest
    changed, _ = both(numbers, codes, known, Geometry((3, 3), padding=(1, 1)))
    assert not torch.equal(changed, counted)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_walk_over_any_maps(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    inner, outputs = data.draw(st.integers(1, 130)), data.draw(st.integers(1, 70))
    geometry = Geometry(pair(1, 4), pair(1, 3), pair(0, 3), pair(1, 3), groups)
    height, width = pair(1, 9)
    if min(geometry.outputs(height, width)) == 0:
        return
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    images, rate = data.draw(st.integers(0, 3)), data.draw(st.floats(0, 1))
    shape = (images, groups * inner, height, width)
    numbers = (torch.rand(shape) < rate).float() * data.draw(st.integers(1, 15))
    levels = SETS[data.draw(st.sampled_from(sorted(SETS)))]
    codes, known = codes_like((groups * outputs, inner, *geometry.kernel), levels)
    bias = data.draw(st.booleans())
    counted, plain = both(numbers, codes, known, geometry, bias=bias)
    assert torch.equal(counted, plain)
    assert counted.is_contiguous(memory_format=torch.channels_last) or counted.numel() == 0


def test_one_rounding_of_the_product_and_one_of_the_sum() -> None:
    """A fused multiply-add would round once: 1/3 * 3 - 1 is then not 0."""
    third = torch.tensor([1 / 3], dtype=torch.float32)
    codes = torch.ones(1, 3, 1, 1)
    spikes = pack(torch.ones(1, 3, 1, 1), bits=16)
    assert spikes is not None
    packed = pack_codes(codes + 1, (-1, 1), 1, 16)
    counted = product(spikes, packed, Geometry(), third, torch.tensor([-1.0]))
    assert float(counted) == 0.0
    assert float(third.double() * 3 - 1) != 0.0


def test_long_sums_fit_the_lanes() -> None:
    """5,000 taps of 16 channels are more than 16 bits can count."""
    numbers, codes = torch.ones(1, 16, 50, 100), torch.ones(3, 16, 50, 100)
    counted, plain = both(numbers, codes, (-1, 1), Geometry((50, 100)))
    assert torch.equal(counted, plain)


def test_what_is_packed_differently_does_not_meet() -> None:
    spikes = pack(torch.ones(1, 20, 2, 2), bits=64)
    packed = pack_codes(torch.ones(4, 20, 1, 1), (0, 1), 1, 32)
    assert spikes is not None
    with pytest.raises(ValueError, match="pack both alike"):
        product(spikes, packed, Geometry(), torch.ones(()), None)


def test_level_codes_are_whole_numbers() -> None:
    assert level_codes(LEVELS["ternary"]) == ((-1, 0, 1), 1)
    assert level_codes(LEVELS["shift2"]) == ((-4, -2, -1, 0, 1, 2, 4), 4)
    assert level_codes((-1.0, 0.3)) is None
    assert level_codes((-1.0, 65.0)) is None
    assert shifts_of((-64, -3, 0, 50)) == tuple(range(7))


@pytest.mark.parametrize(
    ("layer", "geometry"),
    [
        (nn.Linear(3, 4), Geometry()),
        (nn.Conv1d(2, 4, 3, 2, 1), Geometry((1, 3), (1, 2), (0, 1))),
        (nn.Conv2d(2, 4, (3, 1), padding="same"), Geometry((3, 1), padding=(1, 0))),
        (nn.Conv2d(2, 4, 3, padding="valid", groups=2), Geometry((3, 3), groups=2)),
        (nn.Conv2d(2, 4, 2, padding="same"), None),
        (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), None),
        (nn.Conv3d(2, 4, 3), None),
        (nn.ReLU(), None),
    ],
)
def test_geometries_of_layers(layer: nn.Module, geometry: Geometry | None) -> None:
    assert geometry_of(layer) == geometry
    if isinstance(layer, nn.Conv2d) and geometry is not None:
        assert layer(torch.ones(1, 2, 7, 6)).shape[2:] == geometry.outputs(7, 6)
