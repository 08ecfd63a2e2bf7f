"""AutoAugment's CIFAR-10 policy on a whole batch, on any device: each image with its own draw.

Every image goes through two operations, one after the other, or is left as it is. On a GPU a whole
batch goes through all of them: an image that an operation does not concern meets it with numbers
that change nothing, so nothing depends on values on the device, which is never waited for.

References: Cubuk et al., *AutoAugment: learning augmentation policies from data*, CVPR 2019;
torchvision's transform, whose policy is read and whose operations on uint8 tensors these equal.
"""

import functools
import math
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.augmentation import SIDE

BINS: Final = 10  # magnitudes of an operation
WHITE: Final = 255
GREY: Final = 128  # what moves in from outside, as in the reference
PIXELS: Final = SIDE * SIDE
NEVER: Final = 256.0  # threshold of Solarize above every pixel
SIGNED: Final = ("Brightness", "Color", "Contrast", "Sharpness")
MOVES: Final = ("ShearY", "TranslateX", "TranslateY", "Rotate")
BLENDED: Final = {name: code for code, name in enumerate(SIGNED)}


class Operation(NamedTuple):
    """What is done to an image.

    Attributes:
        name: As torchvision names it; ``Identity`` leaves the image as it is.
        magnitude: Signed.
    """

    name: str = "Identity"
    magnitude: float = 0.0


class Policy(NamedTuple):
    """The policy as tensors on the CPU.

    Attributes:
        operations: Every operation that can be drawn, the identity first.
        number: ``[policies, 2, 2]``: number of an operation by policy, position and sign.
        probability: ``[policies, 2]``: how probable it is that it is done, float32.
    """

    operations: tuple[Operation, ...]
    number: Tensor
    probability: Tensor


def magnitude(name: str, level: int) -> float:
    """Return the magnitude of an operation's level, 0 to 9, as torchvision has it for 32x32."""
    if name.startswith("Posterize"):
        return float(8 - round(level / ((BINS - 1) / 4)))
    if name == "Solarize":
        return float(torch.linspace(255.0, 0.0, BINS)[level])
    greatest = {"ShearY": 0.3, "Rotate": 30.0}.get(name, 0.9)
    if name.startswith("Translate"):
        greatest = 150.0 / 331.0 * SIDE
    return float(torch.linspace(0.0, greatest, BINS)[level])


@functools.cache
def policy() -> Policy:
    """Return the policy, read from torchvision."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    pairs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    operations = [Operation()]
    number = torch.zeros(len(pairs), 2, 2, dtype=torch.int64)
    for i, pair in enumerate(pairs):
        for j, (name, _, level) in enumerate(pair):
            size = 0.0 if level is None else magnitude(name, level)
            for sign in (0, 1):
                flips = sign == 0 and name in (*SIGNED, *MOVES)
                operation = Operation(name, -size if flips else size)
                if operation not in operations:
                    operations.append(operation)
                number[i, j, sign] = operations.index(operation)
    probability = torch.tensor([[p for _, p, _ in pair] for pair in pairs])
    return Policy(tuple(operations), number, probability)


def draw_operations(count: int, generator: torch.Generator) -> Tensor:
    """Return ``[count, 2]`` int64: numbers of the operations of each image; drawn on the CPU."""
    _, number, probability = policy()
    chosen = torch.randint(len(number), (count,), generator=generator)
    done = torch.rand((count, 2), generator=generator) <= probability[chosen]
    sign = torch.randint(2, (count, 2), generator=generator)
    drawn = number[chosen].gather(2, sign.unsqueeze(2)).squeeze(2)
    return drawn * done


def auto_augment(images: Tensor, drawn: Tensor) -> Tensor:
    """Return the images after the operations drawn for them.

    Args:
        images: ``[B, 3, 32, 32]`` uint8.
        drawn: ``[B, 2]`` of `draw_operations`, on the same device.
    """
    tables = _tables(images.device)
    for numbers in drawn.unbind(1):
        for family in (_move, _blend, _invert, _stretch, _equalise):
            if images.device.type == "cpu":
                concerned = _concerned()[family.__name__][numbers].nonzero().squeeze(1)
                some = family(images[concerned], numbers[concerned], tables)
                images = images.index_copy(0, concerned, some)
            else:
                images = family(images, numbers, tables)
    return images


class _Tables(NamedTuple):
    """Numbers of every operation; of those that it does not concern, such as change nothing.

    Attributes:
        matrix: ``[N, 6]``, from a pixel of the result to one of the image, both from the centre.
        ratio: ``[N, 2]``, shares of the image and of what it is blended with.
        blended: ``[N]``, what that is: an entry of ``BLENDED``.
        mask: ``[N]`` uint8, the bits that stay.
        threshold: ``[N]``, from which pixels are inverted.
        stretched: ``[N]``, whether contrast is stretched.
        equalised: ``[N]``, whether the histogram is equalised.
    """

    matrix: Tensor
    ratio: Tensor
    blended: Tensor
    mask: Tensor
    threshold: Tensor
    stretched: Tensor
    equalised: Tensor


@functools.cache
def _tables(device: torch.device) -> _Tables:
    """Return the tables, moved to a device once."""
    operations = policy().operations
    names = [operation.name for operation in operations]
    ratio = [1.0 + o.magnitude if o.name in BLENDED else 1.0 for o in operations]
    posterised = [int(o.magnitude) if o.name == "Posterize" else 8 for o in operations]
    thresholds = {"Invert": 0.0}
    columns: tuple[Any, ...] = (
        torch.tensor([_matrix(*operation) for operation in operations]),
        torch.tensor([[share, 1.0 - share] for share in ratio]),
        torch.tensor([BLENDED.get(name, 0) for name in names]),
        torch.tensor([256 - 2 ** (8 - bits) for bits in posterised], dtype=torch.uint8),
        torch.tensor(
            [
                o.magnitude if o.name == "Solarize" else thresholds.get(o.name, NEVER)
                for o in operations
            ]
        ),
        torch.tensor([name == "AutoContrast" for name in names]),
        torch.tensor([name == "Equalize" for name in names]),
    )
    return _Tables(*(column.to(device) for column in columns))


@functools.cache
def _concerned() -> dict[str, Tensor]:
    """Return by function of this module which operations ``[N]`` it does, on the CPU."""
    families: dict[str, tuple[str, ...]] = {
        "_move": MOVES,
        "_blend": SIGNED,
        "_invert": ("Posterize", "Solarize", "Invert"),
        "_stretch": ("AutoContrast",),
        "_equalise": ("Equalize",),
    }
    names = [operation.name for operation in policy().operations]
    return {
        function: torch.tensor([name in its for name in names])
        for function, its in families.items()
    }


def _matrix(name: str, size: float) -> tuple[float, ...]:
    """Return ``(a, b, c, d, e, f)``: pixel (x, y) of the result is ``(a x + b y + c, d x + ...)``.

    Coordinates are pixels from the image's centre.
    """
    if name == "ShearY":  # about the upper left corner
        return (1.0, 0.0, 0.0, size, 1.0, size * SIDE / 2)
    if name == "TranslateX":
        return (1.0, 0.0, -float(int(size)), 0.0, 1.0, 0.0)
    if name == "TranslateY":
        return (1.0, 0.0, 0.0, 0.0, 1.0, -float(int(size)))
    angle = math.radians(size) if name == "Rotate" else 0.0
    return (math.cos(angle), -math.sin(angle), 0.0, math.sin(angle), math.cos(angle), 0.0)


def _move(images: Tensor, numbers: Tensor, tables: _Tables) -> Tensor:
    """Return the images seen through the operations' matrices: nearest pixels, grey outside."""
    matrix = tables.matrix[numbers]
    batch, channels = images.shape[:2]
    ramp = torch.arange(SIDE, device=images.device, dtype=torch.float32) - (SIDE - 1) / 2
    a, b, c, d, e, f = (column.view(-1, 1, 1) for column in (matrix / (SIDE / 2)).unbind(1))
    x, y = ramp.view(1, 1, -1), ramp.view(1, -1, 1)
    # Rounded half to even, as grid_sample does; -1 to 1 spans the image there, and here.
    column = ((((x * a + y * b + c) + 1) * SIDE - 1) / 2).round()
    row = ((((x * d + y * e + f) + 1) * SIDE - 1) / 2).round()
    inside = (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE)
    pixels = (row * SIDE + column).masked_fill_(~inside, 0).to(torch.int64).view(batch, 1, PIXELS)
    seen = images.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view_as(images)
    return seen.masked_fill_(~inside.unsqueeze(1), GREY)


def _blend(images: Tensor, numbers: Tensor, tables: _Tables) -> Tensor:
    """Return the images blended with black, grey, their mean grey or themselves blurred."""
    red, green, blue = images.unbind(1)
    grey = (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8).unsqueeze(1).float()
    code = tables.blended[numbers].view(-1, 1, 1, 1)
    other = torch.where(code == BLENDED["Color"], grey, torch.zeros_like(grey))
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    other = torch.where(code == BLENDED["Contrast"], mean, other)
    other = torch.where(code == BLENDED["Sharpness"], _blurred(images), other)
    share, rest = (column.view(-1, 1, 1, 1) for column in tables.ratio[numbers].unbind(1))
    return (share * images + rest * other).clamp_(0, WHITE).to(torch.uint8)


def _blurred(images: Tensor) -> Tensor:
    """Return the mean of 3x3 pixels, the middle one counting five times; the border stays."""
    wide = images.float()
    # Sums of whole numbers, divided by 13, are never half-way between two: rounding is safe.
    total = F.avg_pool2d(wide, 3, stride=1, divisor_override=1) + 4 * wide[..., 1:-1, 1:-1]
    wide[..., 1:-1, 1:-1] = (total / 13).round_()
    return wide


def _invert(images: Tensor, numbers: Tensor, tables: _Tables) -> Tensor:
    """Return the images without their lowest bits, and inverted from a threshold on."""
    images = images & tables.mask[numbers].view(-1, 1, 1, 1)
    threshold = tables.threshold[numbers].view(-1, 1, 1, 1)
    return torch.where(images >= threshold, WHITE - images, images)


def _stretch(images: Tensor, numbers: Tensor, tables: _Tables) -> Tensor:
    """Return the images with every channel stretched to 0..255."""
    least = images.amin(dim=(2, 3), keepdim=True).float()
    greatest = images.amax(dim=(2, 3), keepdim=True).float()
    some = tables.stretched[numbers].view(-1, 1, 1, 1) & (greatest > least)
    scale = torch.where(some, WHITE / (greatest - least), 1.0)
    least = torch.where(some, least, 0.0)
    return ((images - least) * scale).clamp_(0, WHITE).to(torch.uint8)


def _equalise(images: Tensor, numbers: Tensor, tables: _Tables) -> Tensor:
    """Return the images with every channel's histogram equalised."""
    flat = images.flatten(2).to(torch.int64)
    counts = torch.zeros((*flat.shape[:2], WHITE + 1), dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    brightest = counts.gather(2, flat.amax(2, keepdim=True))
    step = (PIXELS - brightest) // WHITE
    table = (counts.cumsum(2) + step // 2) // step.clamp(min=1)
    table = F.pad(table, (1, 0))[..., :-1].clamp_(0, WHITE)
    some = tables.equalised[numbers].view(-1, 1, 1) & (step > 0)
    return torch.where(some, table.gather(2, flat), flat).to(torch.uint8).view_as(images)
