"""How many weights the nonzero inputs of a layer meet: padding, stride, dilation, groups exact."""

from torch import Tensor, nn
from torch.nn.functional import pad

from repro.cbp.selection import WeightLayer


def tap_counts(layer: WeightLayer, counts: Tensor) -> Tensor:
    """Return how many nonzero inputs each weight of an output channel meets, ``[C, *kernel]``.

    Args:
        layer: Convolution or linear layer; its weights are not read.
        counts: Nonzero inputs by place, summed over samples, ``[C, *space]``, or ``[C]``.
    """
    if isinstance(layer, nn.Linear):
        return counts
    dims = len(layer.kernel_size)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    windows = pad(counts[None], _padding(layer), mode=mode)[0]
    for axis in range(dims):
        size, step = layer.kernel_size[axis], layer.dilation[axis]
        reach = step * (size - 1) + 1
        windows = windows.unfold(1 + axis, reach, layer.stride[axis])[..., ::step]
    return windows.sum(tuple(range(1, 1 + dims)))


def _padding(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> list[int]:
    """Return the padding before and behind, last axis first, as ``pad`` takes it."""
    both = []
    for axis in reversed(range(len(layer.kernel_size))):
        total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        if layer.padding == "same":
            both += [total // 2, total - total // 2]
        else:
            size = 0 if isinstance(layer.padding, str) else int(layer.padding[axis])
            both += [size, size]
    return both


def operations(layer: WeightLayer, counts: Tensor) -> tuple[float, float]:
    """Return synaptic operations, and those whose weight is not 0."""
    taps = tap_counts(layer, counts)
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    kept = layer.weight.detach() != 0  # [O, C / groups, *kernel]
    fan_out = kept.shape[0] // groups
    by_tap = kept.reshape(groups, fan_out, *kept.shape[1:]).sum(1).reshape(taps.shape)
    return float(taps.sum()) * fan_out, float((taps * by_tap).sum())
