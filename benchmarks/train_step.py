"""One training step of CBP, ours beside the plain way, interleaved in one run.

``python -m benchmarks.train_step --network NETWORK`` takes the full-size network of a method with
the paper's recipe, binary, and prints for every form the median seconds of a step, its ratio to the
plain way (median of the rounds' ratios), what the CBP phase adds to the same step without it, and
peak memory. The gradients of the float32 form are compared with the plain way's in the same run.
Weights are random, with a gain that lets every layer fire. TSSL-BP has dropout 0 on both sides,
because two random masks would make two gradients; 7B-Net sees all T frames of a recording.

With ``--device cuda`` both ways run on the GPU, the plain one as PyTorch comes (TF32 convolutions),
and there is more: the step without CBP in TF32 and bfloat16, the share of the device's peak, and
the seconds that the host alone takes. Memory is then the GPU's.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks import device as devices
from benchmarks.cases import CASES, CPU, batch
from benchmarks.measure import environment, interleaved, paired_ratio, peak_memory
from benchmarks.plain_stbp import PlainCbpStep
from repro.cbp.layers import LATENT, choose_layers, prepare
from repro.cbp.loop import CbpLoop, freeze_but
from repro.cbp.settings import Arithmetic
from repro.cells import Precision, RunKey, find_cell
from repro.errors import UserError
from repro.methods.base import SpikingModule
from repro.recipes.fields import Matmul
from repro.recipes.spec import RunSpec
from repro.run.arithmetic import allow_tf32
from repro.run.training import make_module, quiet_lightning

FORMS: Final[dict[str, Arithmetic | None]] = {
    "float32 without CBP": None,
    "float32": "float32",
    "spikes_bf16": "spikes_bf16",
}
ON_GPU: Final[dict[str, Matmul]] = {"tf32 without CBP": "tf32", "bf16 without CBP": "bf16"}


def our_module(
    network: str,
    time_steps: int,
    width: float,
    precision: Precision,
    matmul: Matmul = "float32",
) -> SpikingModule:
    """Return the module of a run with live random weights, the same at every call.

    Args:
        network: A key of ``CASES``.
        time_steps: T.
        width: Fraction of the paper's channels.
        precision: Of the run.
        matmul: See the recipe.
    """
    case = CASES[network]
    recipe = replace(case.recipe, time_steps=time_steps, width=width)
    if matmul != "float32":
        amp: dict[str, Any] = {"amp": False} if hasattr(recipe, "amp") else {}
        recipe = replace(recipe, matmul=matmul, **amp)
    key = RunKey(find_cell(network, case.dataset), precision, seed=0, tier="paper")
    module = make_module(RunSpec(key, recipe), case.classes, parent=None)
    case.enliven_(module.network)
    return module


class OurStep:
    """A run's own module and optimiser, CBP around its steps as its callback calls it.

    Attributes:
        module: Prepared where ``arithmetic`` is given.
        cbp: What is called around the steps.
    """

    def __init__(
        self,
        network: str,
        time_steps: int,
        width: float,
        arithmetic: Arithmetic | None,
        device: torch.device = CPU,
        matmul: Matmul = "float32",
    ) -> None:
        """Do what a run does before its first batch.

        Args:
            network: A key of ``CASES``.
            time_steps: T.
            width: Fraction of the paper's channels.
            arithmetic: Of the quantised layers; None trains the same weights in FP32 and leaves
                out all that belongs to CBP: constraint, quantiser, clip and clamp.
            device: Where it trains.
            matmul: See the recipe.
        """
        torch.set_flush_denormal(True)
        quiet_lightning()
        precision: Precision = "binary" if arithmetic else "fp32_control"
        self.matmul = matmul
        self.module = our_module(network, time_steps, width, precision, matmul)
        settings = replace(CASES[network].recipe.cbp, arithmetic=arithmetic or "float32")
        if arithmetic:
            prepare(self.module, arithmetic=settings.arithmetic)
        self.module.to(device)
        self._optimiser = self.module.configure_optimizers()[0][0]
        self.cbp: CbpLoop | None = None
        weights: list[Tensor] = [layer.weight for layer in choose_layers(self.module).values()]
        if arithmetic:
            self.cbp = CbpLoop(self.module, settings, self._optimiser)
            weights = list(self.cbp.weights.values())
        if settings.train == "quantised":
            freeze_but(self.module, weights)

    def backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Leave the gradients of the loss on the parameters; return the loss."""
        allow_tf32(self.matmul == "tf32")
        loss = self.module.training_step((images, labels), 0)
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        return loss

    def gradients(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the Lagrangian's gradient by plain name of the weights that train, unclipped."""
        self.backward(images, labels)
        assert self.cbp is not None
        self.cbp.rule.add_slopes_()
        return {
            name.replace(LATENT, ".weight"): parameter.grad
            for name, parameter in self.module.network.named_parameters()
            if parameter.grad is not None
        }

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take one step."""
        loss = self.backward(images, labels)
        if self.cbp is None:
            self._optimiser.step()
            return
        self.cbp.before_step()
        self._optimiser.step()
        self.cbp.after_step(loss)


def plain_step(
    network: str, time_steps: int, width: float, device: torch.device = CPU
) -> PlainCbpStep:
    """Return the plain way with the weights of ``OurStep``."""
    torch.set_flush_denormal(True)
    case = CASES[network]
    plain = case.plain_network(time_steps, width)
    plain.load_state_dict(our_module(network, time_steps, width, "binary").network.state_dict())
    plain.to(device)
    numbers = case.recipe.cbp
    return case.plain_step(plain, "binary", lr=numbers.lr, multiplier_lr=numbers.multiplier_lr)


def our_steps(
    network: str,
    time_steps: int,
    width: float,
    size: int,
    arithmetic: Arithmetic | None,
    device: torch.device = CPU,
    matmul: Matmul = "float32",
) -> None:
    """Take two steps: what ``peak_memory`` measures of ours."""
    ours = OurStep(network, time_steps, width, arithmetic, device, matmul)
    for _ in range(2):
        ours.step(*batch(network, time_steps, size, device))


def plain_steps(
    network: str, time_steps: int, width: float, size: int, device: torch.device = CPU
) -> None:
    """Take two steps: what ``peak_memory`` measures of the plain way."""
    plain = plain_step(network, time_steps, width, device)
    for _ in range(2):
        plain.step(*batch(network, time_steps, size, device))


def gradient_difference(
    network: str, time_steps: int, width: float, size: int, device: torch.device = CPU
) -> tuple[float, float]:
    """Return the largest relative difference of a gradient tensor's norm, and the least cosine."""
    one = batch(network, time_steps, size, device)
    ours = OurStep(network, time_steps, width, "float32", device).gradients(*one)
    expected = plain_step(network, time_steps, width, device).gradients(*one)
    worst, cosine = 0.0, 1.0
    for name, gradient in ours.items():
        a, b = gradient.flatten().double(), expected[name].flatten().double()
        worst = max(worst, float((a - b).norm() / b.norm()))
        cosine = min(cosine, float(cosine_similarity(a, b, dim=0)))
    return worst, cosine


def forms(device: torch.device) -> dict[str, tuple[Arithmetic | None, Matmul]]:
    """Return arithmetic and products of every form that is measured on a device."""
    found: dict[str, tuple[Arithmetic | None, Matmul]]
    found = {name: (form, "float32") for name, form in FORMS.items()}
    if device.type == "cuda":
        found |= {name: (None, matmul) for name, matmul in ON_GPU.items()}
    return found


def times(
    which: tuple[str, int, float], size: int, repeats: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of every step, by form and round, plain first; those of the host alone."""
    inputs, labels = batch(which[0], which[1], size, device)
    plain = plain_step(*which, device)

    def as_pytorch_comes() -> None:
        torch.backends.cudnn.allow_tf32 = True
        plain.step(inputs, labels)

    calls: dict[str, Callable[[], object]] = {"plain": as_pytorch_comes}
    for name, (form, matmul) in forms(device).items():
        ours = OurStep(*which, form, device, matmul)
        calls[name] = lambda ours=ours: ours.step(inputs, labels)  # type: ignore[misc]
    waited = {name: devices.waiting(call, device) for name, call in calls.items()}
    seconds = interleaved(waited, repeats=repeats)
    if device.type == "cpu":
        return seconds, {}
    return seconds, {name: devices.seconds_of_host(call, device) for name, call in calls.items()}


def peaks(which: tuple[str, int, float], size: int, device: torch.device) -> dict[str, int]:
    """Return the peak memory of every form in bytes; on the CPU each in a process of its own."""
    network, time_steps, width = which
    if device.type == "cuda":
        on_gpu = {"plain": devices.peak_on_gpu(lambda: plain_steps(*which, size, device))}
        for name, (form, matmul) in forms(device).items():
            on_gpu[name] = devices.peak_on_gpu(
                lambda form=form, matmul=matmul: our_steps(*which, size, form, device, matmul)  # type: ignore[misc]
            )
        return on_gpu
    common = {"network": network, "time_steps": time_steps, "width": width, "size": size}
    found = {"plain": peak_memory("benchmarks.train_step:plain_steps", common)}
    for name, form in FORMS.items():
        target = "benchmarks.train_step:our_steps"
        found[name] = peak_memory(target, {**common, "arithmetic": form})
    return found


def measure(
    which: tuple[str, int, float], size: int, repeats: int, device: torch.device
) -> dict[str, object]:
    """Return everything about one batch size."""
    network, time_steps, width = which
    seconds, of_host = times(which, size, repeats, device)
    medians = {name: sorted(rounds)[len(rounds) // 2] for name, rounds in seconds.items()}
    found: dict[str, object] = {
        "batch": size,
        "time_steps": time_steps,
        "width": width,
        "seconds": medians,
        "times faster than plain": {
            name: paired_ratio(seconds["plain"], seconds[name])._asdict() for name in forms(device)
        },
        "CBP adds": paired_ratio(seconds["float32"], seconds["float32 without CBP"])._asdict(),
        "peak memory, bytes above the imports": peaks(which, size, device),
    }
    if device.type == "cuda":
        one, pair = OurStep(*which, None, device), batch(network, time_steps, 2, device)
        flop = size * devices.operations(lambda: one.backward(*pair)) // 2
        found["FLOP a step"] = flop
        found["share of peak"] = {n: flop / s / devices.PEAK for n, s in medians.items()}
        found["seconds of the host"] = of_host
    return found


def cbp_adds(
    which: tuple[str, int, float], size: int, repeats: int, device: torch.device
) -> dict[str, object]:
    """Return the ratio of the float32 step with CBP to the one without."""
    network, time_steps, width = which
    inputs, labels = batch(network, time_steps, size, device)
    without, with_cbp = (OurStep(*which, form, device) for form in (None, FORMS["float32"]))
    seconds = interleaved(
        {
            "without": devices.waiting(lambda: without.step(inputs, labels), device),
            "with": devices.waiting(lambda: with_cbp.step(inputs, labels), device),
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
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
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
    try:
        device = devices.device_named(chosen.device)
    except UserError as error:
        print(f"train_step: {error}", file=sys.stderr)
        return 2
    result: dict[str, object] = {"environment": environment(), "network": chosen.network}
    if on_gpu := devices.in_words(device):
        result["device"] = on_gpu
    sizes: list[int] = chosen.batch
    if chosen.ours_only:
        result["CBP adds"] = [cbp_adds(which, size, chosen.repeats, device) for size in sizes]
    else:
        worst, cosine = gradient_difference(*which, min(sizes), device)
        found = {"relative": worst, "least cosine": cosine}
        result["gradients, float32 against plain"] = found
        result["steps"] = [measure(which, size, chosen.repeats, device) for size in sizes]
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
