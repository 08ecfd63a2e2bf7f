"""The unfolded convolution against the library's own."""

import pytest
import torch
from torch import nn

from repro.networks.convolution import UnfoldedConv2d


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_the_convolution(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    shape = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}
    plain = nn.Conv2d(5, 7, **shape).double()
    unfolded = UnfoldedConv2d(5, 7, **shape).double()
    unfolded.load_state_dict(plain.state_dict())
    images = torch.randn(3, 5, 9, 8, dtype=torch.float64).contiguous(memory_format=layout)
    results = []
    for layer in (plain, unfolded):
        inputs = images.clone().requires_grad_()
        maps = layer(inputs)
        maps.square().sum().backward()
        results.append((maps, inputs.grad, layer.weight.grad, layer.bias.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert results[0][0].abs().sum() > 0
