"""SEW-ResNet: shapes, time folded into the batch, no state between calls, widths."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, max_pool2d

from repro.cbp.layers import choose_layers, prepare
from repro.networks.sew_resnet import (
    BLOCKS,
    SewBlock,
    SewNet,
    sew_net,
    sew_resnet,
    zero_init_residual_,
)
from repro.neurons import scan
from repro.neurons.normed_plif import norm_and_fire_plain


def frames(steps: int = 8, side: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 3, (3, steps, 2, side, side), generator=generator).float()


@pytest.mark.parametrize(("name", "blocks"), [("sew_7b", 7), ("sew_wide_7b", 7), ("sew_5b", 5)])
def test_layers_are_those_of_the_reference(name: Any, blocks: int) -> None:
    """Stem 3x3; the blocks of two 3x3; the change of channels, if any; a classifier."""
    net = sew_net(name, 11)
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    changes = len(set(BLOCKS[name])) - 1
    assert len(convs) == 1 + 2 * blocks + changes
    assert all(conv.bias is None and conv.kernel_size == (3, 3) for conv in convs)
    assert net.classifier.in_features == BLOCKS[name][-1]
    assert len(choose_layers(net)) == len(convs) - 1


@pytest.mark.parametrize("side", [128, 64, 16, 1])
def test_any_side_up_to_128(side: int) -> None:
    net = sew_net("sew_7b", 11, width=1 / 8)
    assert net(frames(side=side)).shape == (1, 3, 11)


@pytest.mark.parametrize("side", [34, 17, 32, 63])
def test_five_blocks_take_n_mnist_to_one_pixel(side: int) -> None:
    assert sew_net("sew_5b", 10, width=1 / 8)(frames(side=side)).shape == (1, 3, 10)


def test_training_may_see_fewer_frames_than_evaluation() -> None:
    net = sew_net("sew_wide_7b", 10, width=1 / 16)
    assert net(frames(steps=2)).shape == net(frames(steps=6)).shape == (1, 3, 10)


def test_no_state_survives_a_call() -> None:
    torch.manual_seed(0)
    net = sew_net("sew_7b", 11, width=1 / 4)
    first = net(frames())
    net(frames(seed=1))
    assert torch.equal(net(frames()), first)
    assert not torch.equal(net(frames(seed=1)), first)


def test_order_of_the_frames_matters() -> None:
    torch.manual_seed(0)
    net = sew_net("sew_7b", 11, width=1 / 4)
    assert not torch.equal(net(frames()), net(frames().flip(1)))


def test_kernel_and_plain_operations_make_the_same_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gradients() -> list[Tensor]:
        torch.manual_seed(0)
        net = sew_net("sew_7b", 11, width=1 / 4).double()
        prepare(net, "binary")
        cross_entropy(net(frames().double())[0], torch.tensor([0, 5, 10])).backward()
        return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]

    fast = gradients()
    monkeypatch.setattr(scan, "norm_and_fire", norm_and_fire_plain)
    for found, expected in zip(fast, gradients(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        assert expected.any()


@pytest.mark.parametrize("connection", ["add", "and", "iand"])
def test_a_silent_block_is_the_identity_with_add_and_iand(connection: Any) -> None:
    """Fang et al., 2021, Section 3.2: how a SEW block realises the identity."""
    from repro.networks.sew_resnet import NeuronKind

    block = SewBlock(4, 4, 1, NeuronKind(2.0), connection)
    for layer in (block.first, block.second):
        nn.init.zeros_(layer.norm.weight)
    spikes = torch.randint(0, 2, (3, 2, 4, 5, 5)).float()
    expected = torch.zeros_like(spikes) if connection == "and" else spikes
    assert torch.equal(block(spikes, 3), expected)


@pytest.mark.parametrize(("name", "blocks"), [("sew_resnet18", 8), ("sew_resnet34", 16)])
def test_image_networks(name: Any, blocks: int) -> None:
    net = sew_resnet(name, 1000, time_steps=4, width=1 / 16)
    assert len(net.blocks) == blocks
    shortcuts = [block for block in net.blocks if block.shortcut is not None]
    assert len(shortcuts) == 3  # where the side halves
    assert not [name for name, _ in net.named_parameters() if name.endswith("neuron.w")]
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert net(images).shape == (1, 2, 1000)


def test_the_static_image_is_shown_at_every_step() -> None:
    """The stem sees it once; its neurons charge at every step."""
    net = sew_resnet("sew_resnet18", 5, time_steps=3, width=1 / 16).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    repeated = net.stem(images.expand(3, -1, -1, -1, -1), 3)
    assert torch.equal(net.stem(images.unsqueeze(0), 3), repeated)
    spikes = max_pool2d(repeated.flatten(0, 1), 3, stride=2, padding=1).unflatten(0, (3, 2))
    for block in net.blocks:
        spikes = block(spikes, 3)
    expected = net.classifier(spikes.mean((0, 3, 4)))
    torch.testing.assert_close(net(images)[0], expected)


def test_leaks_learn() -> None:
    torch.manual_seed(0)
    net: SewNet = sew_net("sew_7b", 11, width=1 / 4)
    cross_entropy(net(frames())[0], torch.tensor([0, 5, 10])).backward()
    leaks = [p for name, p in net.named_parameters() if name.endswith("neuron.w")]
    assert len(leaks) == 1 + 2 * 7
    assert all(leak.grad is not None and leak.grad != 0 for leak in leaks)


@pytest.mark.parametrize("connection", ["add", "iand"])
def test_blocks_that_begin_as_their_shortcut(connection: Any) -> None:
    net = sew_net("sew_7b", 11, width=1 / 4, connection=connection)
    zero_init_residual_(net)
    block = net.features[1]
    assert isinstance(block, SewBlock)
    spikes = (torch.rand(4, 2, 8, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.8).float()
    assert torch.equal(block(spikes, 4), spikes)
    assert bool((block.first.norm.weight == 1).all())
