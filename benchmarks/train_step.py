"""One training step of CBP, ours beside the plain way, interleaved in one run.

``python -m benchmarks.train_step`` takes the full-size STBP network (62.1 million weights), T 8,
binary, and prints for every form the median seconds of a step, its ratio to the plain way (median
of the rounds' ratios), what the CBP phase adds to the same step without it, and peak memory. The
gradients of the float32 form are compared with the plain way's in the same run.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.measure import environment, interleaved, paired_ratio, peak_memory
from benchmarks.plain_stbp import PlainCbpStep, PlainStbp, full_size
from repro.cbp.layers import Arithmetic, prepare, prepared_layers
from repro.cbp.multiplier import Multipliers
from repro.networks.conv7fc3 import conv7fc3
from repro.networks.convolution import to_channels_last_
from repro.neurons.stbp import StbpNeuron

GAIN = 3.0  # with random images every layer fires, at 0.2 to 0.4 spikes a step
LR, MOMENTUM, MULTIPLIER_LR = 5e-3, 0.9, 5e-4


def batch(size: int, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Return random images ``[B, 3, 32, 32]`` and labels ``[B]``."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 3, 32, 32, generator=generator), torch.arange(size) % classes


class OurStep:
    """Our training step as ``Cbp`` and the STBP module take it, without Lightning's loop.

    Attributes:
        network: The network; prepared where ``arithmetic`` is given.
    """

    def __init__(self, time_steps: int, width: float, arithmetic: Arithmetic | None) -> None:
        """Build the network of the plain way's weights.

        Args:
            time_steps: T.
            width: Fraction of the paper's channels.
            arithmetic: Of the quantised layers; None trains FP32 weights, without CBP.
        """
        torch.manual_seed(0)
        neuron = StbpNeuron(decay=0.25)
        self.network = conv7fc3(10, time_steps=time_steps, neuron=neuron, width=width, gain=GAIN)
        to_channels_last_(self.network)
        self.multipliers: Multipliers | None = None
        if arithmetic is not None:
            prepare(self.network, "binary", arithmetic=arithmetic)
            latents: dict[str, tuple[Tensor, Tensor]] = {
                name: (latent, quantiser.values)
                for name, (latent, quantiser) in prepared_layers(self.network).items()
            }
            self.multipliers = Multipliers(latents, lr=MULTIPLIER_LR)
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), lr=LR, momentum=MOMENTUM, fused=True
        )

    def backward(self, images: Tensor, labels: Tensor) -> None:
        """Leave the gradients of the loss, and of the constraint, on the parameters."""
        self.optimiser.zero_grad()
        rates = self.network(images).mean(0)
        target = nn.functional.one_hot(labels, rates.shape[1]).to(rates.dtype)
        nn.functional.mse_loss(rates, target).backward()

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take one step."""
        self.backward(images, labels)
        if self.multipliers is not None:
            self.multipliers.add_slopes_(clip=1.0)
            quantised = {id(weight) for weight, _ in self.multipliers.latents.values()}
            rest = [p for p in self.network.parameters() if id(p) not in quantised]
            nn.utils.clip_grad_value_(rest, 1.0)
        self.optimiser.step()
        if self.multipliers is not None:
            with torch.no_grad():
                for weight, _ in self.multipliers.latents.values():
                    weight.clamp_(-1, 1)


def plain_step(time_steps: int, width: float) -> PlainCbpStep:
    """Return the plain way with the weights of ``OurStep``."""
    network = PlainStbp(full_size(width=width), time_steps=time_steps)
    ours = OurStep(time_steps, width, None).network
    network.load_state_dict(ours.state_dict())
    return PlainCbpStep(network, "binary", lr=LR, momentum=MOMENTUM, multiplier_lr=MULTIPLIER_LR)


def our_steps(size: int, time_steps: int, width: float, arithmetic: Arithmetic | None) -> None:
    """Take two steps: what ``peak_memory`` measures of ours."""
    torch.set_flush_denormal(True)
    ours = OurStep(time_steps, width, arithmetic)
    for _ in range(2):
        ours.step(*batch(size))


def plain_steps(size: int, time_steps: int, width: float) -> None:
    """Take two steps: what ``peak_memory`` measures of the plain way."""
    plain = plain_step(time_steps, width)
    for _ in range(2):
        plain.step(*batch(size))


def gradient_difference(time_steps: int, width: float, size: int) -> tuple[float, float]:
    """Return the largest relative difference of a gradient tensor's norm, and the least cosine."""
    images, labels = batch(size)
    ours, plain = OurStep(time_steps, width, "float32"), plain_step(time_steps, width)
    ours.backward(images, labels)
    assert ours.multipliers is not None
    ours.multipliers.add_slopes_()
    expected = plain.gradients(images, labels)
    worst, cosine = 0.0, 1.0
    for name, parameter in ours.network.named_parameters():
        assert parameter.grad is not None
        a = parameter.grad.flatten().double()
        b = expected[name.replace("parametrizations.weight.original", "weight")].flatten().double()
        worst = max(worst, float((a - b).norm() / b.norm()))
        cosine = min(cosine, float(nn.functional.cosine_similarity(a, b, dim=0)))
    return worst, cosine


def measure(size: int, time_steps: int, width: float, repeats: int) -> dict[str, object]:
    """Return everything about one batch size."""
    torch.set_flush_denormal(True)
    images, labels = batch(size)
    plain = plain_step(time_steps, width)
    forms: dict[str, Arithmetic | None] = {
        "float32 without CBP": None,
        "float32": "float32",
        "spikes_bf16": "spikes_bf16",
    }
    ours = {name: OurStep(time_steps, width, form) for name, form in forms.items()}
    candidates: dict[str, Callable[[], object]] = {"plain": lambda: plain.step(images, labels)}
    for name, step in ours.items():
        candidates[name] = lambda step=step: step.step(images, labels)  # type: ignore[misc]
    seconds = interleaved(candidates, repeats=repeats)
    common = {"size": size, "time_steps": time_steps, "width": width}
    memory = {"plain": peak_memory("benchmarks.train_step:plain_steps", common)}
    for name, form in forms.items():
        target = "benchmarks.train_step:our_steps"
        memory[name] = peak_memory(target, {**common, "arithmetic": form})
    return {
        "batch": size,
        "time_steps": time_steps,
        "width": width,
        "seconds": {name: sorted(times)[len(times) // 2] for name, times in seconds.items()},
        "times faster than plain": {
            name: paired_ratio(seconds["plain"], seconds[name])._asdict() for name in forms
        },
        "CBP adds": paired_ratio(seconds["float32"], seconds["float32 without CBP"])._asdict(),
        "peak memory, bytes above the imports": memory,
    }


def cbp_adds(size: int, time_steps: int, width: float, repeats: int) -> dict[str, object]:
    """Return the ratio of the float32 step with CBP to the one without."""
    torch.set_flush_denormal(True)
    images, labels = batch(size)
    without, with_cbp = OurStep(time_steps, width, None), OurStep(time_steps, width, "float32")
    seconds = interleaved(
        {
            "without": lambda: without.step(images, labels),
            "with": lambda: with_cbp.step(images, labels),
        },
        repeats=repeats,
    )
    ratio = paired_ratio(seconds["with"], seconds["without"])._asdict()
    common = {"batch": size, "time_steps": time_steps, "width": width, "rounds": repeats}
    return {**common, "seconds": seconds, "ratio": ratio}


def report(result: dict[str, object], out: Path | None) -> int:
    """Print the result, and write it where it was asked for; return the exit code."""
    text = json.dumps(result, indent=1)
    print(text)
    if out:
        out.write_text(text + "\n", "utf-8")
    return 0


def main() -> int:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[10])
    parser.add_argument("--time-steps", type=int, default=8)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ours-only", action="store_true", help="only what CBP adds to a step")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.ours_only:
        steps = [
            cbp_adds(size, chosen.time_steps, chosen.width, chosen.repeats) for size in chosen.batch
        ]
        return report({"environment": environment(), "CBP adds": steps}, chosen.out)
    worst, cosine = gradient_difference(chosen.time_steps, chosen.width, min(chosen.batch))
    result = {
        "environment": environment(),
        "gradients, float32 against plain": {"relative": worst, "least cosine": cosine},
        "steps": [
            measure(size, chosen.time_steps, chosen.width, chosen.repeats) for size in chosen.batch
        ],
    }
    return report(result, chosen.out)


if __name__ == "__main__":
    sys.exit(main())
