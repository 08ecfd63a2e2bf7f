"""AutoAugment on a batch: torchvision's own functions, image by image, given the same draws."""

import time

import pytest
import torch
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

from datamodules.augmentation import SIDE
from datamodules.auto_augment import (
    BINS,
    _blend,
    _concerned,
    _equalise,
    _invert,
    _move,
    _stretch,
    _tables,
    auto_augment,
    draw_operations,
    magnitude,
    policy,
)
from datamodules.loaders import random_stream

GREY = [128.0] * 3  # as the reference fills
OPERATIONS = policy().operations
TRANSFORM = AutoAugment(AutoAugmentPolicy.CIFAR10)


def draw_images(count: int) -> Tensor:
    """Noise, ramps with few values, and flat images, whose channels nothing can stretch."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    ramp = torch.arange(SIDE).repeat(SIDE, 1)
    images[1::5] = (ramp * 3 + 40).to(torch.uint8)
    images[2::5] = images[2::5] // 64 * 50 + 7
    images[3::5] = torch.tensor([0, 130, 255], dtype=torch.uint8).view(3, 1, 1)
    images[4::5, :, 4:] = 90
    return images


def one_by_one(images: Tensor, drawn: Tensor) -> Tensor:
    """Torchvision's functions."""
    results = []
    for image, numbers in zip(images, drawn.tolist(), strict=True):
        for number in numbers:
            name, size = OPERATIONS[number]
            image = _apply_op(image, name, size, InterpolationMode.NEAREST, GREY)
        results.append(image)
    return torch.stack(results)


@pytest.mark.parametrize(
    "number", range(len(OPERATIONS)), ids=lambda n: "{} {:.2f}".format(*OPERATIONS[n])
)
def test_every_operation_equals_torchvisions(number: int) -> None:
    images = draw_images(40)
    drawn = torch.tensor([[number, 0], [0, number]]).repeat(20, 1)
    found, expected = auto_augment(images, drawn), one_by_one(images, drawn)
    assert torch.equal(found, expected)
    assert found.dtype == torch.uint8
    assert torch.equal(found, images) == (OPERATIONS[number] in (("Identity", 0.0), ("Color", 0.0)))


def test_what_is_drawn_equals_torchvisions() -> None:
    images = draw_images(400)
    drawn = draw_operations(400, random_stream(0, 0, 3))
    found = auto_augment(images, drawn)
    assert torch.equal(found, one_by_one(images, drawn))
    assert not torch.equal(found, one_by_one(images, drawn.flip(0)))
    mixed = torch.randperm(400)
    assert torch.equal(auto_augment(images[mixed], drawn[mixed]), found[mixed])


@pytest.mark.parametrize("name", sorted({o.name for o in OPERATIONS} - {"Identity"}))
def test_magnitudes_are_torchvisions(name: str) -> None:
    magnitudes, signed = TRANSFORM._augmentation_space(BINS, (SIDE, SIDE))[name]
    sizes = {abs(o.magnitude) for o in OPERATIONS if o.name == name}
    if magnitudes.dim() == 0:
        assert sizes == {0.0}
        return
    assert [magnitude(name, level) for level in range(BINS)] == magnitudes.tolist()
    assert sizes <= set(magnitudes.tolist())
    both = {o.magnitude for o in OPERATIONS if o.name == name}
    assert any(-size in both for size in both if size) == signed


def test_the_draw_follows_the_policy() -> None:
    """Expected counts of every operation from torchvision's table, within five deviations."""
    count = 40_000
    drawn = draw_operations(count, random_stream(1, 2, 3))
    assert torch.equal(drawn, draw_operations(count, random_stream(1, 2, 3)))
    assert not torch.equal(drawn, draw_operations(count, random_stream(1, 2, 4)))
    space = TRANSFORM._augmentation_space(BINS, (SIDE, SIDE))
    share = torch.zeros(2, len(OPERATIONS), dtype=torch.float64)
    for pair in TRANSFORM.policies:
        for position, (name, probability, level) in enumerate(pair):
            size = 0.0 if level is None else float(space[name][0][level])
            signs = (size, -size if space[name][1] else size)
            for one in signs:
                number = OPERATIONS.index((name, one))
                share[position, number] += probability / len(TRANSFORM.policies) / 2
    share[:, 0] = 1 - share[:, 1:].sum(1)
    for position in (0, 1):
        found = drawn[:, position].bincount(minlength=len(OPERATIONS)).double()
        expected = share[position] * count
        assert bool(((found - expected).abs() <= 5 * expected.sqrt() + 1e-9).all())
    assert bool((share.sum(0)[1:] > 0).all())


@pytest.mark.slow
def test_a_batch_is_faster_than_its_images() -> None:
    images, drawn = draw_images(128), draw_operations(128, random_stream(0, 0, 1))
    seconds = []
    for function in (auto_augment, one_by_one, auto_augment, one_by_one):
        start = time.perf_counter()
        function(images, drawn)
        seconds.append(time.perf_counter() - start)
    print(f"batch {1e3 * seconds[2]:.1f} ms, one by one {1e3 * seconds[3]:.1f} ms")
    assert seconds[2] < seconds[3]


@pytest.mark.gpu
def test_a_gpu_gives_the_images_of_the_cpu() -> None:
    images, drawn = draw_images(400), draw_operations(400, random_stream(0, 0, 3))
    found = auto_augment(images.cuda(), drawn.cuda()).cpu()
    assert torch.equal(found, auto_augment(images, drawn))


def test_operations_that_do_not_concern_an_image_leave_it() -> None:
    """What a GPU relies on: it sends every image through every function."""
    images = draw_images(40)
    for number, (name, _) in enumerate(OPERATIONS):
        numbers = torch.full((40,), number)
        for function in (_move, _blend, _invert, _stretch, _equalise):
            changed = not torch.equal(function(images, numbers, _tables(images.device)), images)
            concerned = bool(_concerned()[function.__name__][number])
            assert changed == (concerned and (name, _) != ("Color", 0.0)), (name, function)
