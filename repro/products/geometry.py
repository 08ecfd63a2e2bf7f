"""How a product walks over its input: kernel, stride, padding, dilation, groups."""

from dataclasses import dataclass

from torch import nn

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """A convolution over two axes; one over a single axis and a linear layer are special cases.

    Attributes:
        kernel: Height and width.
        stride: Of both axes, as all that follow.
        padding: Zeros on either side.
        dilation: Distance of neighbouring taps.
        groups: Groups of channels that do not meet.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def outputs(self, height: int, width: int) -> Pair:
        """Return height and width of the output, 0 where the kernel does not fit.

        >>> Geometry((3, 3), stride=(2, 2), padding=(1, 1)).outputs(32, 5)
        (16, 3)
        """
        sizes = zip(
            (height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True
        )
        first, second = (max(0, (n + 2 * p - d * (k - 1) - 1) // s + 1) for n, k, s, p, d in sizes)
        return first, second


def geometry_of(layer: nn.Module) -> Geometry | None:
    """Return the geometry of a convolution over one or two axes or of a linear layer.

    None for other modules, padding that is no zeros, and padding that is not the same on both
    sides (``same`` of an even kernel).

    >>> geometry_of(nn.Conv1d(2, 4, 3, padding="same"))
    Geometry(kernel=(1, 3), stride=(1, 1), padding=(0, 1), dilation=(1, 1), groups=1)
    """
    if isinstance(layer, nn.Linear):
        return Geometry()
    if not isinstance(layer, nn.Conv1d | nn.Conv2d) or layer.padding_mode != "zeros":
        return None
    padding = _padding(layer)
    if padding is None:
        return None
    return Geometry(
        _pair(layer.kernel_size, 1),
        _pair(layer.stride, 1),
        _pair(padding, 0),
        _pair(layer.dilation, 1),
        layer.groups,
    )


def _padding(layer: nn.Conv1d | nn.Conv2d) -> tuple[int, ...] | None:
    """Return the zeros on either side by axis; None where the sides differ."""
    if layer.padding == "valid":
        return (0,) * len(layer.kernel_size)
    if layer.padding != "same":
        assert not isinstance(layer.padding, str)
        return layer.padding
    both = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return None if any(zeros % 2 for zeros in both) else tuple(zeros // 2 for zeros in both)


def _pair(numbers: tuple[int, ...], absent: int) -> Pair:
    """Return two numbers, the first ``absent`` where there is one axis."""
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (absent, numbers[0])
