"""One training step of CBP, ours beside the plain way, interleaved in one run.

``python -m benchmarks.train_step --network NETWORK`` takes the full-size network of a method with
the paper's recipe, binary, and prints for every form the median seconds of a step, its ratio to the
plain way (median of the rounds' ratios), what the CBP phase adds to the same step without it, and
peak memory. The gradients of the float32 form are compared with the plain way's in the same run.
Weights are random, with a gain that lets every layer fire. TSSL-BP has dropout 0 on both sides,
because two random masks would make two gradients; 7B-Net sees all T frames of a recording.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks import plain_stbp, plain_tssl_bp
from benchmarks.measure import environment, interleaved, paired_ratio, peak_memory
from benchmarks.plain_sew import PlainSew, PlainSewStep
from benchmarks.plain_stbp import PlainCbpStep, PlainNetwork, PlainStbp
from benchmarks.plain_tssl_bp import PlainTsslBp, PlainTsslBpStep
from benchmarks.plain_vgg import PlainVgg, PlainVggStep, enliven_
from repro.cbp.layers import LATENT, Arithmetic
from repro.cells import Precision, RunKey, find_cell
from repro.methods.base import SpikingModule
from repro.networks.sew_resnet import sew_net
from repro.recipe_fields import Recipe
from repro.recipes import (
    SNN_CALIBRATION_CIFAR10,
    STBP_CIFAR10,
    SURROGATE_DVS128_GESTURE,
    TSSL_BP_CIFAR10,
)
from repro.run import make_cbp, make_module, quiet_lightning

CLASSES: Final = 10
GESTURES: Final = 11
FORMS: Final[dict[str, Arithmetic | None]] = {
    "float32 without CBP": None,
    "float32": "float32",
    "spikes_bf16": "spikes_bf16",
}


def as_initialised_(network: object) -> None:
    """Leave a network's weights as they are."""


def images(size: int, time_steps: int) -> Tensor:
    """Return static images of normal noise ``[B, 3, 32, 32]``."""
    return torch.randn(size, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def events(size: int, time_steps: int) -> Tensor:
    """Return frames ``[B, T, 2, 128, 128]`` of random numbers of events, half an event a pixel."""
    mean = torch.full((size, time_steps, 2, 128, 128), 0.5)
    return torch.poisson(mean, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Case:
    """What is measured of a method.

    Attributes:
        batch: Images, or recordings of events, a step, unless another number is asked for.
        recipe: The paper's, but for what lets every layer fire and both ways be compared.
        plain_network: Makes the plain network of T and width.
        plain_step: Makes its step, from network, precision and learning rates.
        enliven_: Gives our network the weights that a gain in the recipe cannot.
        dataset: Of the cell.
        classes: K.
        noise: Makes the input, from batch and T.
    """

    batch: int
    recipe: Recipe
    plain_network: Callable[[int, float], PlainNetwork]
    plain_step: Callable[..., PlainCbpStep]
    enliven_: Callable[[Any], None] = as_initialised_
    dataset: str = "cifar10"
    classes: int = CLASSES
    noise: Callable[[int, int], Tensor] = images


CASES: Final[dict[str, Case]] = {
    "stbp": Case(
        batch=10,
        recipe=replace(STBP_CIFAR10, gain=3.0),  # 0.2 to 0.4 spikes a neuron and step everywhere
        plain_network=lambda steps, width: PlainStbp(
            plain_stbp.full_size(CLASSES, width), time_steps=steps
        ),
        plain_step=PlainCbpStep,
    ),
    "tssl_bp": Case(
        batch=10,
        # With gain 1 the linear layers are all but silent; dropout: see the top of this file.
        recipe=replace(TSSL_BP_CIFAR10, linear_gain=8.0, dropout=0.0),
        plain_network=lambda steps, width: PlainTsslBp(
            plain_tssl_bp.full_size(CLASSES, width), time_steps=steps, dropout=0.0
        ),
        plain_step=PlainTsslBpStep,
    ),
    "snn_calibration": Case(
        batch=4,
        recipe=SNN_CALIBRATION_CIFAR10,
        plain_network=lambda steps, width: PlainVgg(CLASSES, time_steps=steps, width=width),
        plain_step=PlainVggStep,
        enliven_=enliven_,
    ),
    "surrogate": Case(
        batch=2,
        recipe=replace(SURROGATE_DVS128_GESTURE, train_steps=0),  # all T frames, none left out
        plain_network=lambda steps, width: PlainSew(sew_net("sew_7b", GESTURES, width=width)),
        plain_step=PlainSewStep,
        dataset="dvs128_gesture",
        classes=GESTURES,
        noise=events,
    ),
}


def batch(network: str, time_steps: int, size: int) -> tuple[Tensor, Tensor]:
    """Return random images or events of a network's case, and labels ``[B]``."""
    case = CASES[network]
    return case.noise(size, time_steps), torch.arange(size) % case.classes


def our_module(network: str, time_steps: int, width: float, precision: Precision) -> SpikingModule:
    """Return the module of a run with live random weights, the same at every call.

    Args:
        network: A key of ``CASES``.
        time_steps: T.
        width: Fraction of the paper's channels.
        precision: Of the run.
    """
    case = CASES[network]
    recipe = replace(case.recipe, time_steps=time_steps, width=width)
    key = RunKey(find_cell(network, case.dataset), precision, seed=0, tier="paper")
    module = make_module(key, recipe, case.classes, parent=None)
    case.enliven_(module.network)
    return module


class OurStep:
    """A run's own module, optimiser and callback, called in Lightning's order without its loop.

    The Trainer is there for the callback to read its settings; it never fits.

    Attributes:
        module: Prepared where ``arithmetic`` is given.
        cbp: The run's callback.
    """

    def __init__(
        self, network: str, time_steps: int, width: float, arithmetic: Arithmetic | None
    ) -> None:
        """Do what a run does before its first batch.

        Args:
            network: A key of ``CASES``.
            time_steps: T.
            width: Fraction of the paper's channels.
            arithmetic: Of the quantised layers; None trains the same weights in FP32 and leaves
                out all that belongs to CBP: constraint, quantiser, clip and clamp.
        """
        torch.set_flush_denormal(True)
        quiet_lightning()
        precision: Precision = "binary" if arithmetic else "fp32_control"
        self.with_cbp = arithmetic is not None
        self.module = our_module(network, time_steps, width, precision)
        numbers = replace(CASES[network].recipe.cbp, arithmetic=arithmetic or "float32")
        self.cbp = make_cbp(precision, numbers)
        self._trainer = Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False
        )
        self.cbp.setup(self._trainer, self.module, "fit")
        self._optimiser = self.module.configure_optimizers()
        self._trainer.optimizers = [self._optimiser]
        self.cbp.on_fit_start(self._trainer, self.module)
        self.cbp.on_train_epoch_start(self._trainer, self.module)

    def backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Leave the gradients of the loss on the parameters; return the loss."""
        loss = self.module.training_step((images, labels), 0)
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        return loss

    def gradients(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the Lagrangian's gradient by plain name of the weights that train, unclipped."""
        self.backward(images, labels)
        self.cbp.multipliers.add_slopes_()
        return {
            name.replace(LATENT, ".weight"): parameter.grad
            for name, parameter in self.module.network.named_parameters()
            if parameter.grad is not None
        }

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take one step."""
        loss = self.backward(images, labels)
        if not self.with_cbp:
            self._optimiser.step()
            return
        self.cbp.on_before_optimizer_step(self._trainer, self.module, self._optimiser)
        self._optimiser.step()
        self.cbp.on_train_batch_end(self._trainer, self.module, {"loss": loss}, None, 0)


def plain_step(network: str, time_steps: int, width: float) -> PlainCbpStep:
    """Return the plain way with the weights of ``OurStep``."""
    torch.set_flush_denormal(True)
    case = CASES[network]
    plain = case.plain_network(time_steps, width)
    plain.load_state_dict(our_module(network, time_steps, width, "binary").network.state_dict())
    numbers = case.recipe.cbp
    return case.plain_step(plain, "binary", lr=numbers.lr, multiplier_lr=numbers.multiplier_lr)


def our_steps(
    network: str, time_steps: int, width: float, size: int, arithmetic: Arithmetic | None
) -> None:
    """Take two steps: what ``peak_memory`` measures of ours."""
    ours = OurStep(network, time_steps, width, arithmetic)
    for _ in range(2):
        ours.step(*batch(network, time_steps, size))


def plain_steps(network: str, time_steps: int, width: float, size: int) -> None:
    """Take two steps: what ``peak_memory`` measures of the plain way."""
    plain = plain_step(network, time_steps, width)
    for _ in range(2):
        plain.step(*batch(network, time_steps, size))


def gradient_difference(
    network: str, time_steps: int, width: float, size: int
) -> tuple[float, float]:
    """Return the largest relative difference of a gradient tensor's norm, and the least cosine."""
    one = batch(network, time_steps, size)
    ours = OurStep(network, time_steps, width, "float32").gradients(*one)
    expected = plain_step(network, time_steps, width).gradients(*one)
    worst, cosine = 0.0, 1.0
    for name, gradient in ours.items():
        a, b = gradient.flatten().double(), expected[name].flatten().double()
        worst = max(worst, float((a - b).norm() / b.norm()))
        cosine = min(cosine, float(cosine_similarity(a, b, dim=0)))
    return worst, cosine


def times(
    network: str, time_steps: int, width: float, size: int, repeats: int
) -> dict[str, list[float]]:
    """Return the seconds of every step, by form and round, the plain way first."""
    inputs, labels = batch(network, time_steps, size)
    plain = plain_step(network, time_steps, width)
    candidates: dict[str, Callable[[], object]] = {"plain": lambda: plain.step(inputs, labels)}
    for name, form in FORMS.items():
        ours = OurStep(network, time_steps, width, form)
        candidates[name] = lambda ours=ours: ours.step(inputs, labels)  # type: ignore[misc]
    return interleaved(candidates, repeats=repeats)


def peaks(network: str, time_steps: int, width: float, size: int) -> dict[str, int]:
    """Return the peak memory of every form in bytes, each in a process of its own."""
    common = {"network": network, "time_steps": time_steps, "width": width, "size": size}
    found = {"plain": peak_memory("benchmarks.train_step:plain_steps", common)}
    for name, form in FORMS.items():
        target = "benchmarks.train_step:our_steps"
        found[name] = peak_memory(target, {**common, "arithmetic": form})
    return found


def measure(
    network: str, time_steps: int, width: float, size: int, repeats: int
) -> dict[str, object]:
    """Return everything about one batch size."""
    seconds = times(network, time_steps, width, size, repeats)
    return {
        "batch": size,
        "time_steps": time_steps,
        "width": width,
        "seconds": {name: sorted(rounds)[len(rounds) // 2] for name, rounds in seconds.items()},
        "times faster than plain": {
            name: paired_ratio(seconds["plain"], seconds[name])._asdict() for name in FORMS
        },
        "CBP adds": paired_ratio(seconds["float32"], seconds["float32 without CBP"])._asdict(),
        "peak memory, bytes above the imports": peaks(network, time_steps, width, size),
    }


def cbp_adds(
    network: str, time_steps: int, width: float, size: int, repeats: int
) -> dict[str, object]:
    """Return the ratio of the float32 step with CBP to the one without."""
    inputs, labels = batch(network, time_steps, size)
    without = OurStep(network, time_steps, width, None)
    with_cbp = OurStep(network, time_steps, width, "float32")
    seconds = interleaved(
        {
            "without": lambda: without.step(inputs, labels),
            "with": lambda: with_cbp.step(inputs, labels),
        },
        repeats=repeats,
    )
    ratio = paired_ratio(seconds["with"], seconds["without"])._asdict()
    common = {"batch": size, "time_steps": time_steps, "width": width, "rounds": repeats}
    return {**common, "seconds": seconds, "ratio": ratio}


def arguments() -> argparse.Namespace:
    """Return the command line's choices; batch and T are the network's own where none is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=CASES, default="stbp")
    parser.add_argument("--batch", type=int, nargs="+", help="images a step, one or more numbers")
    parser.add_argument("--time-steps", type=int)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ours-only", action="store_true", help="only what CBP adds to a step")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    case = CASES[chosen.network]
    chosen.batch = chosen.batch or [case.batch]
    chosen.time_steps = chosen.time_steps or case.recipe.time_steps
    return chosen


def main() -> int:
    """Measure, print and write the result."""
    chosen = arguments()
    which = (chosen.network, chosen.time_steps, chosen.width)
    result: dict[str, object] = {"environment": environment(), "network": chosen.network}
    if chosen.ours_only:
        result["CBP adds"] = [cbp_adds(*which, size, chosen.repeats) for size in chosen.batch]
    else:
        worst, cosine = gradient_difference(*which, min(chosen.batch))
        found = {"relative": worst, "least cosine": cosine}
        result["gradients, float32 against plain"] = found
        result["steps"] = [measure(*which, size, chosen.repeats) for size in chosen.batch]
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
