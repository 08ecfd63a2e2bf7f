"""Numbers as bits: there and back, what is refused, sums of squares; against the definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d

from repro.products.dispatch import pack, unpack
from repro.products.spikes import WORDS, PackedSpikes, pack_plain, sum_of_squares, unpack_plain

SHAPES = [(3, 12, 5, 4), (2, 32, 3, 3), (2, 96, 3, 3), (5, 70), (0, 5, 3, 3), (1, 200, 2, 3)]


def numbers(shape: tuple[int, ...], greatest: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + greatest)
    return torch.randint(0, greatest + 1, shape, generator=generator).to(dtype)


def maps(values: Tensor) -> Tensor:
    return values if values.dim() == 4 else values[:, :, None, None]


@pytest.mark.parametrize("bits", list(WORDS))
@pytest.mark.parametrize("greatest", [1, 4, 15])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_there_and_back(shape: tuple[int, ...], greatest: int, bits: int) -> None:
    for dtype in (torch.float32, torch.float64):
        values = numbers(shape, greatest, dtype)
        packed, plain = pack(values, bits=bits), pack_plain(values, bits=bits)
        assert packed is not None
        assert plain is not None
        assert torch.equal(packed.planes, plain.planes)
        assert packed.shape == maps(values).shape
        assert torch.equal(unpack(packed, dtype), maps(values))
        assert torch.equal(unpack_plain(packed, dtype), maps(values))
        if values.numel():
            other = values.clone()
            other.view(-1)[-1] = 1 - other.view(-1)[-1].clamp(max=1)
            changed = pack(other, bits=bits)
            assert changed is not None
            assert not torch.equal(unpack(changed, dtype), maps(values))


@pytest.mark.parametrize("groups", [2, 4, 12])
def test_groups_have_words_of_their_own(groups: int) -> None:
    values = numbers((3, 12, 2, 5), 3)
    packed = pack(values, groups, 16)
    assert packed is not None
    assert packed.planes.shape == (2, 3, 2, 5, groups)
    assert torch.equal(unpack(packed), values)
    assert torch.equal(unpack_plain(packed), values)
    plain = pack_plain(values, groups, 16)
    assert plain is not None
    assert torch.equal(packed.planes, plain.planes)


def test_the_layout_is_the_one_that_is_written_down() -> None:
    values = torch.zeros(1, 70, 1, 2)
    values[0, 0, 0, 0], values[0, 66, 0, 1], values[0, 3, 0, 1] = 1, 2, 3
    packed = pack(values)
    assert packed is not None
    expected = [[[1, 0], [1 << 3, 0]], [[0, 0], [1 << 3, 1 << (66 - 64)]]]
    assert packed.planes[:, 0, 0].tolist() == expected


@pytest.mark.parametrize("shape", [(2, 12, 3, 3), (3, 70)])
@pytest.mark.parametrize("stranger", [0.5, -1.0, 16.0, 1e20, math.nan, math.inf, -math.inf])
def test_other_numbers_are_refused(shape: tuple[int, ...], stranger: float) -> None:
    for place in (0, -1):
        values = numbers(shape, 1)
        values.view(-1)[place] = stranger
        assert pack(values) is None
        assert pack_plain(values) is None
    assert pack(numbers(shape, 1)) is not None
    assert pack(torch.full(shape, -0.0)) is not None
    assert pack(numbers(shape, 1).long()) is None  # no float


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(
        *(st.integers(0, 3), st.integers(1, 140), st.integers(1, 4), st.integers(1, 4))
    ),
    greatest=st.integers(0, 15),
    rate=st.floats(0, 1),
    bits=st.sampled_from(sorted(WORDS)),
)
def test_any_shape_and_rate(shape: tuple[int, ...], greatest: int, rate: float, bits: int) -> None:
    values = numbers(shape, greatest) * (torch.rand(shape) < rate)
    packed, plain = pack(values, bits=bits), pack_plain(values, bits=bits)
    assert packed is not None
    assert plain is not None
    assert torch.equal(packed.planes, plain.planes)
    assert torch.equal(unpack(packed), values)


@pytest.mark.parametrize("channels", [3, 32, 65])
def test_sums_of_squares_are_those_of_the_numbers(channels: int) -> None:
    spikes = numbers((3, channels, 6, 4), 1)
    packed = pack(spikes, bits=32)
    assert packed is not None
    sums = avg_pool2d(spikes, 2, divisor_override=1)
    assert sums.max() == 4, "or carries prove nothing"
    assert torch.equal(unpack(sum_of_squares(packed)), sums)
    whole = pack(2 * spikes)
    assert whole is not None
    with pytest.raises(ValueError, match="above 15"):
        sum_of_squares(whole)


def test_the_type_says_the_width_of_a_word() -> None:
    found = [PackedSpikes(torch.zeros(1, 1, 1, 1, 1, dtype=t), 1).bits for t in WORDS.values()]
    assert found == list(WORDS)
