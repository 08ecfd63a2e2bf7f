"""The threshold search of a conversion, one pass over memory against one candidate after another.

``python -m benchmarks.threshold_search`` takes activations of the size of VGG16's layers at a batch
of images (half of the neurons silent), T 32, and prints for both ways the median seconds over all
layers and their ratio (median of the rounds' ratios). Both must find the same thresholds.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import environment, interleaved, paired_ratio
from repro.errors import UserError
from repro.methods.calibration import find_threshold, find_threshold_plain
from repro.networks.vgg import AVERAGE, CHANNELS, SIDE


def activations(size: int, width: float) -> list[Tensor]:
    """Return one random activation ``[B, C, H, W]`` behind a ReLU per layer of VGG16."""
    generator = torch.Generator().manual_seed(0)
    side, channels, found = SIDE, 0, []
    for units in CHANNELS:
        if units == AVERAGE:
            side //= 2
        else:
            channels = max(1, round(units * width))
        found.append(torch.randn(size, channels, side, side, generator=generator).relu_())
    return found


def measure(size: int, time_steps: int, width: float, repeats: int) -> dict[str, object]:
    """Return seconds of both ways and their ratio.

    Raises:
        UserError: The two ways find different thresholds.
    """
    layers = activations(size, width)
    ways: dict[str, Callable[[Tensor, int], float]] = {
        "one candidate after another": find_threshold_plain,
        "one pass": find_threshold,
    }
    found: dict[str, list[float]] = {}

    def search(name: str) -> None:
        found[name] = [ways[name](layer, time_steps) for layer in layers]

    seconds = interleaved({name: lambda n=name: search(n) for name in ways}, repeats=repeats)  # type: ignore[misc]
    slow, fast = ways
    if found[slow] != found[fast]:
        raise UserError(f"different thresholds, {found}: time nothing before this is mended")
    return {
        "batch": size,
        "time_steps": time_steps,
        "width": width,
        "values": sum(layer.numel() for layer in layers),
        "seconds": {name: sorted(times)[len(times) // 2] for name, times in seconds.items()},
        "times faster": paired_ratio(seconds[slow], seconds[fast])._asdict(),
    }


def main() -> int:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--time-steps", type=int, default=32)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    search = measure(chosen.batch, chosen.time_steps, chosen.width, chosen.repeats)
    text = json.dumps({"environment": environment(), "threshold search": search}, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
