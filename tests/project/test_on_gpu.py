"""Whole training steps with the Triton kernels: those of the CPU, and never a wait for the GPU.

Without a GPU the kernels run in Triton's interpreter; what is marked ``gpu`` needs one.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.train_step import CASES, OurStep, batch
from repro.cbp import constraint, layers, quantiser
from repro.cbp.settings import Arithmetic
from repro.cells import RunKey, find_cell
from repro.neurons import scan
from repro.recipes.spec import RunSpec
from repro.run import arithmetic
from repro.run.lifecycle import run
from repro.run.places import Places

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NARROW = {
    "stbp": (3, 1 / 32),
    "tssl_bp": (4, 1 / 32),
    "snn_calibration": (4, 1 / 32),
    "surrogate": (2, 1 / 16),
}
USERS = (scan, constraint, quantiser)
SLOW = pytest.mark.slow  # in the interpreter
every_network = pytest.mark.parametrize("network", sorted(NARROW))


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def trained(network: str, device: torch.device, steps: int) -> dict[str, Tensor]:
    """Parameters, and the Lagrangian's sum, after some steps of narrow network."""
    ours = OurStep(network, *NARROW[network], "float32", device)
    for _ in range(steps):
        ours.step(*batch(network, NARROW[network][0], 2, device))
    found = {name: p.detach().cpu() for name, p in ours.module.named_parameters()}
    return {**found, "lagrangian": ours.cbp.state_dict()["sum"].cpu()}


@pytest.mark.parametrize(
    "network",
    [
        "stbp",
        "tssl_bp",
        *(pytest.param(name, marks=SLOW) for name in ("snn_calibration", "surrogate")),
    ],
)
@pytest.mark.usefixtures("float64")
# A slope bounded by 8 is one over 0 before; NumPy, in the interpreter's place, complains.
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:the bound of the latent weights")  # so narrow a network
def test_steps_are_those_of_the_cpu(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained(network, torch.device("cpu"), 2)
    before = trained(network, torch.device("cpu"), 1)
    for module in USERS:
        monkeypatch.setattr(module, "takes_triton", lambda tensor: True)
    found = trained(network, DEVICE, 2)
    assert set(found) == set(expected)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-11)
    assert any(not torch.allclose(found[name], before[name], rtol=1e-6) for name in found)


@pytest.mark.gpu
@pytest.mark.parametrize("arithmetic", [None, "float32", "spikes_bf16"])
@every_network
def test_no_step_waits_for_the_gpu(network: str, arithmetic: Arithmetic | None) -> None:
    ours = OurStep(network, *NARROW[network], arithmetic, DEVICE)
    one = batch(network, NARROW[network][0], 2, DEVICE)
    for _ in range(2):
        ours.step(*one)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours.step(*one)
        with pytest.raises(RuntimeError, match="synchroniz"):
            float(one[0].sum())
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@every_network
def test_spikes_bf16_gives_the_outputs_of_float32(network: str) -> None:
    outputs, gradients = [], []
    for form in ("float32", "spikes_bf16"):
        ours = OurStep(network, *NARROW[network], form, DEVICE)  # type: ignore[arg-type]
        one = batch(network, NARROW[network][0], 4, DEVICE)
        outputs.append(ours.module.network(one[0]).detach())
        ours.backward(*one)
        latents = layers.prepared_layers(ours.module).values()
        gradients.append(torch.cat([latent.grad.flatten() for latent, _ in latents]))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-4)
    assert float(torch.cosine_similarity(*gradients, dim=0)) >= 0.999
    assert not torch.equal(*gradients)


@pytest.mark.gpu
def test_sums_of_spikes_in_bf16_are_exact_until_they_are_rounded() -> None:
    """Whole numbers, summed in float32: no algorithm of the GPU may round on the way."""
    arithmetic.use(torch.nn.Linear(1, 1), "float32")
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> tuple[Tensor, Tensor]:
        numbers = torch.randint(0, 2, shape, generator=generator).to(DEVICE)
        return numbers.double(), numbers.bfloat16()

    last = torch.channels_last
    maps, maps_bf16 = draw(16, 512, 8, 8)
    for units, side, stride in ((512, 3, 1), (1024, 3, 2), (256, 1, 1)):
        codes, codes_bf16 = (2 * drawn - 1 for drawn in draw(units, 512, side, side))
        exact = torch.nn.functional.conv2d(maps, codes, stride=stride, padding=side // 2)
        for layout in (torch.contiguous_format, last):
            there = [t.contiguous(memory_format=layout) for t in (maps_bf16, codes_bf16)]
            found = torch.nn.functional.conv2d(*there, stride=stride, padding=side // 2)
            assert torch.equal(found, exact.bfloat16())
    spikes, spikes_bf16_ = draw(64, 32768)
    codes, codes_bf16 = (2 * drawn - 1 for drawn in draw(1024, 32768))
    exact = spikes @ codes.T
    assert torch.equal(spikes_bf16_ @ codes_bf16.T, exact.bfloat16())
    assert not torch.equal(exact.bfloat16().double(), exact), "some sums are rounded at the end"


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["stbp", "tssl_bp"])
def test_a_smoke_run_and_its_child_train(method: str, tmp_path: Path) -> None:
    cell = find_cell(method, "cifar10")
    places = Places(tmp_path / "runs", tmp_path / "rows")
    start = time.monotonic()
    for precision in ("fp32", "binary"):
        key = RunKey(cell, precision, 0, "smoke")  # type: ignore[arg-type]
        row = run(RunSpec.shipped(key), places)
    assert row.accuracy_last > 0.2, "chance is 0.1"
    assert "NVIDIA" in row.device
    print(f"{method}: {time.monotonic() - start:.0f} s")


def test_the_narrow_networks_are_the_benchmarks() -> None:
    assert set(NARROW) == set(CASES)
