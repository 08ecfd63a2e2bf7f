"""CBP's Triton kernels equal the plain forms: on a GPU, or without one in the interpreter."""

import pytest
import torch
from torch import Tensor

from repro.cbp import constraint as constraints
from repro.cbp import quantiser
from repro.cbp.constraint import constraint
from repro.cbp.levels import LEVELS, nearest_level
from repro.cbp.window import constrained_fraction

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPE = (17, 11, 3, 3)  # more than one block, and no multiple of one


@pytest.fixture
def _triton_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraints, "takes_triton", lambda tensor: True)
    monkeypatch.setattr(quantiser, "takes_triton", lambda tensor: True)


def draw(dtype: torch.dtype, precision: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradient, weights (some at levels and midpoints), multipliers, levels."""
    generator = torch.Generator().manual_seed(3)
    shape = (3, *SHAPE)
    grad, weight, multiplier = torch.randn(shape, generator=generator, dtype=dtype)
    levels = torch.tensor(LEVELS[precision], dtype=dtype) * 0.37
    flat = weight.mul_(0.5).view(-1)
    flat[: len(levels)] = levels
    flat[100 : 99 + len(levels)] = (levels[:-1] + levels[1:]) / 2
    last = torch.channels_last
    placed = [t.contiguous(memory_format=last).to(DEVICE) for t in (grad, weight, multiplier)]
    return placed[0], placed[1], placed[2], levels.to(DEVICE)


def plain(
    grad: Tensor, weight: Tensor, multiplier: Tensor, levels: Tensor, fraction: float, clip: float
) -> tuple[Tensor, Tensor]:
    value, slope = constraint(weight, levels, fraction)
    new = (grad + multiplier * slope).clamp(-clip, clip)
    return new, torch.sum(multiplier.double() * value.double())


def from_triton(
    grad: Tensor, weight: Tensor, multiplier: Tensor, levels: Tensor, fraction: float, clip: float
) -> tuple[Tensor, Tensor]:
    from repro.cbp import gpu as triton_kernels

    assert triton_kernels.fits(weight, grad, multiplier)
    grad = grad.clone(memory_format=torch.preserve_format)
    total = triton_kernels.add_slope_on_gpu_(grad, weight, multiplier, levels, fraction, clip)
    return grad, total


@pytest.mark.parametrize(("g", "clip"), [(1, 0.7), (3, float("inf")), (10, 0.7)])
@pytest.mark.parametrize("precision", sorted(LEVELS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_slopes_equal_the_closed_form(
    dtype: torch.dtype, precision: str, g: int, clip: float
) -> None:
    drawn, fraction = draw(dtype, precision), constrained_fraction(g)
    found, total = from_triton(*drawn, fraction, clip)
    expected, expected_total = plain(*drawn, fraction, clip)
    assert torch.equal(found, expected)
    torch.testing.assert_close(total, expected_total, rtol=1e-12, atol=1e-12)
    assert total.dtype == torch.float64
    assert not torch.equal(found, drawn[0])
    other, other_total = plain(*drawn, constrained_fraction(g + 1), clip)
    assert not torch.equal(other, expected)
    assert float(other_total) != float(expected_total)


def test_what_is_no_number_stays_visible() -> None:
    grad, weight, multiplier, levels = draw(torch.float32, "binary")
    grad[0, 0, 0, :2] = torch.tensor([float("nan"), float("inf")])
    found, _ = from_triton(grad, weight, multiplier, levels, 0.5, 1.0)
    expected, _ = plain(grad, weight, multiplier, levels, 0.5, 1.0)
    assert torch.equal(found.isnan(), expected.isnan())
    assert int(found.isnan().sum()) == 1
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("precision", sorted(LEVELS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_quantised_weights_equal_the_plain_ones(dtype: torch.dtype, precision: str) -> None:
    from repro.cbp import gpu as triton_kernels

    _, weight, _, levels = draw(dtype, precision)
    found = triton_kernels.nearest_on_gpu(weight, levels)
    assert torch.equal(found, nearest_level(weight, levels))
    assert found.stride() == weight.stride()
    assert not torch.equal(found, nearest_level(weight + 0.1, levels))
    gaps = weight[:, ::2]
    assert torch.equal(triton_kernels.nearest_on_gpu(gaps, levels), nearest_level(gaps, levels))
    codes = torch.tensor(LEVELS[precision], dtype=torch.float64, device=DEVICE)
    standing = triton_kernels.nearest_on_gpu(weight, levels, codes.to(dtype))
    assert torch.equal(standing, nearest_level(weight, levels).div(0.37).mul(16).round() / 16)


@pytest.mark.usefixtures("_triton_takes_all")
def test_what_does_not_fit_goes_the_plain_way() -> None:
    from repro.cbp import gpu as triton_kernels

    grad, weight, multiplier, _ = (t.to("meta") for t in draw(torch.float32, "binary"))
    assert triton_kernels.fits(weight, grad, multiplier)
    assert not triton_kernels.fits(weight, grad.contiguous(), multiplier)
    assert not triton_kernels.fits(weight[:, ::2], grad[:, ::2], multiplier[:, ::2])
    assert not triton_kernels.fits(weight.half(), grad.half(), multiplier.half())
