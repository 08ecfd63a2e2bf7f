"""The plain way of SEW-ResNet: the reference's own numbers, and the gradients of ours.

The benchmark of other libraries, whose network is the plain one with their neurons, runs with a
stand-in for a library.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from sew_golden import EXACT, PRECISIONS, QUANTISED, load, network, theirs
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks import peers_sew, speed_page
from benchmarks.measure import growth_of_call
from benchmarks.peers_sew import PeerStep
from benchmarks.plain_sew import PlainSew, PlainSewStep, fire
from benchmarks.train_step import OurStep
from repro.cbp.layers import LATENT, prepare, prepared_layers
from repro.cbp.multiplier import Multipliers
from repro.errors import UserError
from repro.networks.sew_resnet import SewNet, sew_net
from repro.neurons.layer import HardResetLayer
from repro.neurons.plif import scan_plain

EIGHTH, STEPS, SIDE = 1 / 8, 4, 16
both = pytest.mark.parametrize("precision", PRECISIONS)


@both
def test_output_loss_gradients_and_statistics_are_golden(precision: str) -> None:
    golden = load(precision)
    unquantised = PlainSew(network(golden))(golden["x"])
    step = PlainSewStep(PlainSew(network(golden)), precision)
    assert tuple(step.multipliers) == QUANTISED
    for multiplier in step.multipliers.values():
        assert multiplier.any()
        multiplier.data.zero_()  # the golden gradients are the task's alone
    loss, lagrangian = step.losses(golden["x"], golden["y"])
    torch.testing.assert_close(loss, golden["loss"], **EXACT)
    torch.testing.assert_close(lagrangian, golden["loss"], **EXACT)
    for name, buffer in step.network.named_buffers():
        if "running" in name:
            torch.testing.assert_close(buffer, golden[f"after.{theirs(name)}"], **EXACT)
    output = step.network(golden["x"])
    torch.testing.assert_close(output, golden["out_train"], **EXACT)
    assert not torch.allclose(output, unquantised)
    for name, gradient in step.gradients(golden["x"], golden["y"]).items():
        torch.testing.assert_close(gradient, golden[f"grad.{theirs(name)}"], **EXACT, msg=name)
        assert gradient.any(), f"{name} proves nothing"


def narrow() -> SewNet:
    torch.manual_seed(1)
    return sew_net("sew_wide_7b", 5, width=EIGHTH).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    frames = torch.randn(3, STEPS, 2, SIDE, SIDE, generator=generator)
    return frames.double(), torch.tensor([4, 0, 2])


@both
def test_lagrangian_gradients_equal_ours(precision: str) -> None:
    ours = narrow()
    step = PlainSewStep(PlainSew(narrow()), precision)
    prepare(ours, precision)
    pairs = {n: (latent, q.values) for n, (latent, q) in prepared_layers(ours).items()}
    multipliers = Multipliers(pairs, lr=0.01)  # type: ignore[arg-type]
    events, labels = batch()
    cross_entropy(ours(events)[0], labels).backward()
    task = {name: parameter.grad.clone() for name, parameter in ours.named_parameters()}
    multipliers.add_slopes_()
    expected = step.gradients(events, labels)
    moved = set()
    for name, parameter in ours.named_parameters():
        plain_name = name.replace(LATENT, ".weight")
        torch.testing.assert_close(parameter.grad, expected.pop(plain_name), **EXACT, msg=name)
        assert parameter.grad.abs().max() > 1e-12, f"{name} proves nothing"
        moved |= set() if torch.equal(parameter.grad, task[name]) else {plain_name}
    assert not expected
    assert moved == {f"{name}.weight" for name in step.multipliers}
    assert len(moved) == 2 * 7 + 1  # two a block and the one that changes the channels


def test_neurons_charge_fire_and_reset() -> None:
    current = torch.tensor([[1.0], [1.5], [2.5], [2.0], [0.0]])
    # With a leak of a half: 0.5, 1.0 (fires, reset), 1.25 (fires, reset), 1.0 (fires), 0.
    assert fire(current, torch.tensor(0.0)).flatten().tolist() == [0, 1, 1, 1, 0]
    assert not fire(current / 4, torch.tensor(0.0)).any()


def test_a_step_trains_every_parameter_and_clips_by_value() -> None:
    step = PlainSewStep(PlainSew(narrow()), "binary")
    before = {name: p.detach().clone() for name, p in step.network.named_parameters()}
    step.step(*batch())
    for name, parameter in step.network.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        assert parameter.grad is not None
        assert parameter.grad.abs().max() <= 1
    (group,) = step._optimiser.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 0)


def test_a_wrong_precision_names_the_remedy() -> None:
    with pytest.raises(UserError, match="precision fp32: choose one of"):
        PlainSew(narrow()).quantise_("fp32")


class StandIn(nn.Module):
    """Neurons as a library would have them."""

    def __init__(self) -> None:
        super().__init__()
        self.neurons = HardResetLayer(2.0)

    def forward(self, current: Tensor) -> Tensor:
        return scan_plain(current, len(current), self.neurons.leak())


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_sew, "PEERS", {"stand_in": StandIn})
    monkeypatch.setattr(peers_sew, "find_spec", lambda name: name)
    monkeypatch.setattr(peers_sew, "version", lambda name: "1.2")


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_a_library_trains_the_weights_of_ours() -> None:
    frames = peers_sew.batch("surrogate", 3, 4)
    ours, theirs = OurStep("surrogate", 3, EIGHTH, None), PeerStep("stand_in", EIGHTH, "float32")
    assert theirs.step(*frames) == pytest.approx(ours.backward(*frames).item(), rel=1e-5)
    gradients = {name: p.grad for name, p in theirs.network.named_parameters()}
    for name, parameter in ours.module.network.named_parameters():
        gradient = gradients.pop(name.replace("neuron.w", "neuron.neurons.w"))
        scale = float(gradient.abs().max())
        assert scale > 0, f"{name} proves nothing"
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-4 * scale)
    assert not gradients
    in_bfloat16 = PeerStep("stand_in", EIGHTH, "bfloat16")
    assert in_bfloat16.step(*frames) != ours.backward(*frames).item()


def in_this_process(target: str, kwargs: Mapping[str, object]) -> int:
    return max(1, growth_of_call(target, json.loads(json.dumps(kwargs))))


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_the_benchmark_of_libraries_is_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_sew, "peak_memory", in_this_process)
    words = ["peers_sew", "--time-steps", "2", "--width", "0.03", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", [*words, f"--out={tmp_path / 'peers.json'}"])
    assert peers_sew.main() == 0
    result = json.loads((tmp_path / "peers.json").read_text())
    assert [step["form"] for step in result["peers"]] == ["float32", "bfloat16"]
    for step in result["peers"]:
        assert set(step["seconds"]) == set(step[speed_page.MEMORY]) == {"ours", "stand_in"}
    page = speed_page.figures(tmp_path)
    assert "Other libraries, without CBP, bfloat16, batch 2, T 2" in page
    assert "| stand_in 1.2 | " in page


@pytest.mark.parametrize("there", [[], ["snntorch"]])
def test_a_missing_library_is_one_clear_line(
    there: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers_sew, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr("sys.argv", ["peers_sew"])
    if there:
        assert peers_sew.require_peers() == there
    else:
        assert peers_sew.main() == 1
    missing = "spikingjelly" if there else "spikingjelly and snntorch"
    assert capsys.readouterr().err == f"{missing} not installed: {peers_sew.INSTALL}\n"
