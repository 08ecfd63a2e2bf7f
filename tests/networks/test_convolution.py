"""The unfolded convolution against the library's own."""

import pytest
import torch
from torch import nn

from repro.networks.convolution import UnfoldedConv2d, to_channels_last_
from repro.networks.sew_resnet import sew_resnet
from repro.products.dense import weight_gradient
from repro.products.geometry import Geometry


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


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("channels", [3, 6, 12])
def test_narrow_strided_layers_of_one_pixel_learn_what_they_should(
    channels: int, threads: int
) -> None:
    """Without AVX-512, torch 2.11's own gradient is wrong here, or the process ends."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        maps = torch.randn(16, channels, 16, 16).to(memory_format=torch.channels_last)
        grad = torch.randn(16, 16, 8, 8).to(memory_format=torch.channels_last)
        walk, shape = Geometry(stride=(2, 2)), (16, channels, 1, 1)
        expected = torch.einsum("nohw,nchw->oc", grad, maps[..., ::2, ::2])[..., None, None]
        found = weight_gradient(grad, maps, walk, shape)
        layer = UnfoldedConv2d(channels, 16, 1, 2, bias=False)
        to_channels_last_(layer)
        layer(maps).backward(grad)
    finally:
        torch.set_num_threads(before)
    for gradient in (found, layer.weight.grad):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-3)


def test_shortcuts_that_take_steps_are_of_that_kind() -> None:
    network = sew_resnet("sew_resnet18", 10, time_steps=2, width=1 / 16)
    strided = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride[0] > 1
    ]
    assert [type(module) for module in strided] == [UnfoldedConv2d] * 3
