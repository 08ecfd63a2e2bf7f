"""A training step of 7B-Net without CBP: spikingjelly's and snntorch's neurons beside ours.

``python -m benchmarks.peers_sew`` trains the same FP32 weights with every library that is
installed, interleaved in one run, and prints for each the median seconds of a step, its ratio to
ours at the same precision (median of the rounds' ratios), and peak memory. A library gives the
neurons, multi-step where it has such; convolution, normalisation and pooling are PyTorch's and see
all time steps in one call, in every form. spikingjelly computes what ours does. snntorch's leaky
neuron does not scale its input by the leak, so it fires more often; the work is the same.

In bfloat16 the libraries run under ``torch.autocast``. Ours has its bfloat16 form for quantised
layers alone, so that step does more than theirs: it is the one with CBP.
"""

import argparse
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.cases import CASES, batch
from benchmarks.measure import environment, interleaved, paired_ratio, peak_memory
from benchmarks.plain_sew import PlainSew
from benchmarks.train_step import OurStep, our_module
from repro.cbp.settings import Arithmetic
from repro.errors import UserError
from repro.networks.sew_resnet import Layer, SewNet

Form = Literal["float32", "bfloat16"]
NETWORK: Final = "surrogate"
OURS: Final[dict[Form, Arithmetic | None]] = {"float32": None, "bfloat16": "spikes_bf16"}
INSTALL: Final = "pip install -c constraints.txt '.[peers]'"


class SpikingJellyNeurons(nn.Module):
    """spikingjelly's multi-step PLIF neurons, torch backend."""

    def __init__(self) -> None:
        """Take the numbers of SEW-ResNet."""
        from spikingjelly.activation_based import neuron, surrogate

        super().__init__()
        self.neurons = neuron.ParametricLIFNode(
            init_tau=2.0,
            v_threshold=1.0,
            v_reset=0.0,
            surrogate_function=surrogate.ATan(alpha=2.0),
            detach_reset=True,
            step_mode="m",
        )

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes ``[T, ...]`` of a current ``[T, ...]``, from a potential of 0."""
        self.neurons.reset()
        spikes: Tensor = self.neurons(current)
        return spikes


class SnnTorchNeurons(nn.Module):
    """snntorch's leaky neurons with a learnt leak and a reset to 0, which it calls step by step."""

    def __init__(self) -> None:
        """Take the numbers of SEW-ResNet."""
        import snntorch

        super().__init__()
        self.neurons = snntorch.Leaky(
            beta=0.5,
            threshold=1.0,
            spike_grad=snntorch.surrogate.atan(alpha=2.0),
            learn_beta=True,
            reset_mechanism="zero",
        )

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes ``[T, ...]`` of a current ``[T, ...]``, from a potential of 0."""
        potential, train = torch.zeros_like(current[0]), []
        for now in current:
            spikes, potential = self.neurons(now, potential)
            train.append(spikes)
        return torch.stack(train)


PEERS: Final[dict[str, Callable[[], nn.Module]]] = {
    "spikingjelly": SpikingJellyNeurons,
    "snntorch": SnnTorchNeurons,
}


def installed() -> list[str]:
    """Return the libraries that are there."""
    return [peer for peer in PEERS if find_spec(peer) is not None]


class PeerSew(PlainSew):
    """7B-Net with the neurons of another library."""

    def __init__(self, network: SewNet | PlainSew, neurons: Callable[[], nn.Module]) -> None:
        """Take the modules of a network, and new neurons for each of its layers."""
        super().__init__(network)
        for layer in self.modules():
            if isinstance(layer, Layer):
                layer.add_module("neuron", neurons())

    def neurons(self, layer: Layer, current: Tensor) -> Tensor:
        """Return the spikes of a layer's neurons ``[T, B, C, H, W]``."""
        spikes: Tensor = layer.neuron(current)
        return spikes


class PeerStep:
    """Cross-entropy and SGD around the network of a library.

    Attributes:
        network: Trained in place.
    """

    def __init__(self, peer: str, width: float, form: Form) -> None:
        """Take the weights of ``OurStep``.

        Args:
            peer: A key of ``PEERS``.
            width: Fraction of the paper's channels.
            form: ``bfloat16`` runs the network under ``torch.autocast``.
        """
        torch.set_flush_denormal(True)
        case = CASES[NETWORK]
        plain = case.plain_network(case.recipe.time_steps, width)
        assert isinstance(plain, PlainSew)
        ours = our_module(NETWORK, case.recipe.time_steps, width, "fp32_control")
        plain.load_state_dict(ours.network.state_dict())
        self.network = PeerSew(plain, PEERS[peer])
        self._in_bfloat16 = form == "bfloat16"
        self._optimiser = torch.optim.SGD(
            self.network.parameters(), lr=case.recipe.cbp.lr, momentum=case.recipe.cbp.momentum
        )

    def step(self, events: Tensor, labels: Tensor) -> float:
        """Take one step and return the loss."""
        self._optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self._in_bfloat16):
            logits = self.network(events)
        loss = cross_entropy(logits.float(), labels)
        torch.autograd.backward(loss)
        self._optimiser.step()
        return loss.item()


def peer_steps(peer: str, time_steps: int, width: float, size: int, form: Form) -> None:
    """Take two steps: what ``peak_memory`` measures of a library."""
    step = PeerStep(peer, width, form)
    for _ in range(2):
        step.step(*batch(NETWORK, time_steps, size))


def peaks(peers: list[str], time_steps: int, width: float, size: int, form: Form) -> dict[str, int]:
    """Return the peak memory of ours and of every library in bytes, each in its own process."""
    common = {"time_steps": time_steps, "width": width, "size": size}
    ours = {**common, "network": NETWORK, "arithmetic": OURS[form]}
    found = {"ours": peak_memory("benchmarks.train_step:our_steps", ours)}
    for peer in peers:
        theirs = {**common, "peer": peer, "form": form}
        found[peer] = peak_memory("benchmarks.peers_sew:peer_steps", theirs)
    return found


def measure(
    peers: list[str], time_steps: int, width: float, size: int, form: Form, repeats: int
) -> dict[str, object]:
    """Return everything about one precision.

    Args:
        peers: Keys of ``PEERS``.
        time_steps: T.
        width: Fraction of the paper's channels.
        size: Recordings a step.
        form: Precision.
        repeats: Rounds.
    """
    events, labels = batch(NETWORK, time_steps, size)
    ours = OurStep(NETWORK, time_steps, width, OURS[form])
    candidates: dict[str, Callable[[], object]] = {"ours": lambda: ours.step(events, labels)}
    for peer in peers:
        theirs = PeerStep(peer, width, form)
        candidates[peer] = lambda theirs=theirs: theirs.step(events, labels)  # type: ignore[misc]
    seconds = interleaved(candidates, repeats=repeats)
    return {
        "form": form,
        "batch": size,
        "time_steps": time_steps,
        "width": width,
        "seconds": {name: sorted(rounds)[len(rounds) // 2] for name, rounds in seconds.items()},
        "times the seconds of ours": {
            peer: paired_ratio(seconds[peer], seconds["ours"])._asdict() for peer in peers
        },
        "peak memory, bytes above the imports": peaks(peers, time_steps, width, size, form),
    }


def arguments() -> argparse.Namespace:
    """Return the command line's choices; batch and T are the network's own where none is given."""
    case = CASES[NETWORK]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=case.batch, help="recordings a step")
    parser.add_argument("--time-steps", type=int, default=case.recipe.time_steps)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--form", choices=OURS, nargs="+", default=list(OURS))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def require_peers() -> list[str]:
    """Return the libraries that are there; say on standard error which are not.

    Raises:
        UserError: None is there.
    """
    peers = installed()
    if missing := " and ".join(peer for peer in PEERS if peer not in peers):
        words = f"{missing} not installed: {INSTALL}"
        if not peers:
            raise UserError(words)
        print(words, file=sys.stderr)
    return peers


def main() -> int:
    """Measure, print and write the result."""
    chosen = arguments()
    try:
        peers = require_peers()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    size = (chosen.time_steps, chosen.width, chosen.batch)
    result = {
        "environment": environment(),
        "network": NETWORK,
        "versions": {peer: version(peer) for peer in peers},
        "peers": [measure(peers, *size, form, chosen.repeats) for form in chosen.form],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
