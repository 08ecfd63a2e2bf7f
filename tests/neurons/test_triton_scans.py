"""The Triton scans equal the plain ones: on a GPU, or without one in Triton's interpreter."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repro.device import triton_support as gpu
from repro.neurons import integrate_and_fire, normed_plif, plif, scan, stbp, tssl_bp
from repro.neurons.integrate_and_fire import IntegrateAndFire
from repro.neurons.layer import HardResetLayer
from repro.neurons.stbp import StbpNeuron
from repro.neurons.tssl_bp import TsslBpNeuron

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STEPS = 5
# 2 * 5 * 11 * 11 neurons: more than one block of 1024, and no multiple of it.
SHAPE = (2, 5, 11, 11)
STBP, FIRE, TSSL = StbpNeuron(0.3), IntegrateAndFire(alpha=1.7), TsslBpNeuron(4.0, 3.0)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}

Scan = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def _triton_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dispatch to Triton, also for tensors that the interpreter works on."""
    monkeypatch.setattr(scan, "takes_triton", lambda tensor: True)


def scan_of(neuron: str, plain: bool, **changes: Any) -> Scan:
    """A scan of current and more differentiable inputs."""
    kind: Any = {"stbp": STBP, "fire": FIRE, "initial": FIRE, "tssl": TSSL}.get(neuron)
    kind = changes.pop("kind", kind)
    if neuron == "stbp":
        take = stbp.scan_plain if plain else scan.stbp
        return lambda current: take(current, STEPS, kind)
    if neuron in ("fire", "initial"):
        if plain:
            return lambda current, *v: integrate_and_fire.scan_plain(current, STEPS, kind, *v)
        return lambda current, *v: scan.integrate_and_fire(current, STEPS, kind, *v)
    if neuron == "tssl":
        if plain:
            return lambda current: tssl_bp.scan_plain(current, STEPS, kind, gain=1.1)
        return lambda current: scan.tssl_bp(current, STEPS, kind, 1.1)
    from repro.neurons.gpu import plif as triton_plif

    if neuron == "plif":
        take = plif.scan_plain if plain else triton_plif.scan
        return lambda current, leak: take(current, STEPS, leak)
    take = plif.scan_plain if plain else triton_plif.scan
    return lambda current: take(current, STEPS, None)


def inputs(neuron: str, dtype: torch.dtype, constant: bool, layout: str) -> list[Tensor]:
    """Current, and what else has a gradient."""
    generator = torch.Generator().manual_seed(7)
    current = torch.rand(1 if constant else STEPS, *SHAPE, generator=generator, dtype=dtype)
    current = (current * 3.2 - 1.2) if neuron != "stbp" else current * 1.4 - 0.4
    if layout == "channels last":
        flat = current.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        current = flat.unflatten(0, current.shape[:2])
    more = []
    if neuron == "initial":
        more = [torch.rand(1, *SHAPE[1:], generator=generator, dtype=dtype)]
    if neuron == "plif":
        more = [torch.tensor(0.55, dtype=dtype)]
    return [tensor.to(DEVICE).requires_grad_() for tensor in (current, *more)]


def run(fire: Scan, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Spikes, and gradients of a loss that weighs every spike."""
    spikes = fire(*tensors)
    generator = torch.Generator().manual_seed(8)
    weights = torch.randn(spikes.shape, generator=generator, dtype=spikes.dtype).to(DEVICE)
    return spikes, list(torch.autograd.grad((spikes * weights).sum(), tensors))


def close(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Whether gradients agree, measured at the largest of a tensor; the leak's is a long sum."""
    pairs = [(a, b, float(b.abs().max())) for a, b in zip(found, expected, strict=True)]
    return all(
        float((a - b).abs().max()) <= TOLERANCE[b.dtype] * max(1.0, largest) * (10 ** (not b.dim()))
        for a, b, largest in pairs
    )


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("constant", [False, True], ids=["current", "constant"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("neuron", ["stbp", "fire", "initial", "tssl", "plif", "if"])
def test_scans_equal_the_plain_ones(
    neuron: str, dtype: torch.dtype, constant: bool, layout: str
) -> None:
    tensors = inputs(neuron, dtype, constant, layout)
    spikes, gradients = run(scan_of(neuron, plain=False), tensors)
    expected, expected_gradients = run(scan_of(neuron, plain=True), tensors)
    assert torch.equal(spikes, expected)
    assert 0.05 < float(expected.detach().mean()) < 0.9, "proves something"
    assert close(gradients, expected_gradients)
    assert gradients[0].shape == tensors[0].shape
    assert spikes[0].stride() == tensors[0][0].stride()


@pytest.mark.parametrize(
    ("neuron", "other"),
    [
        ("stbp", StbpNeuron(0.31)),
        ("fire", IntegrateAndFire(1.01, 1.7)),
        ("tssl", TsslBpNeuron(4.1, 3.0)),
    ],
)
def test_another_neuron_differs(neuron: str, other: object) -> None:
    tensors = inputs(neuron, torch.float64, False, "contiguous")
    spikes, gradients = run(scan_of(neuron, plain=False), tensors)
    expected, expected_gradients = run(scan_of(neuron, plain=True, kind=other), tensors)
    assert not torch.equal(spikes, expected)
    assert not close(gradients, expected_gradients)


@pytest.mark.parametrize("connection", [None, "add", "and", "iand"])
@pytest.mark.parametrize("tau", [2.0, None], ids=["plif", "if"])
def test_a_sew_layer_equals_the_plain_one(tau: float | None, connection: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(STEPS, *SHAPE, generator=generator, dtype=torch.float64)
    other = torch.randint(0, 3, maps.shape, generator=generator).to(maps.dtype)
    results = []
    for layer in (scan.norm_and_fire, normed_plif.norm_and_fire_plain):
        torch.manual_seed(2)
        norm, neuron = nn.BatchNorm2d(SHAPE[1]), HardResetLayer(tau)
        nn.init.uniform_(norm.weight, 1, 2)
        nn.init.uniform_(norm.bias)
        both = nn.ModuleList([norm, neuron]).double().to(DEVICE)
        tensors = [t.to(DEVICE, copy=True).requires_grad_() for t in (maps, other)]
        shortcut = tensors[1] if connection else None
        out = layer(tensors[0], STEPS, norm, neuron.leak(), shortcut, connection or "add")
        wanted = [*tensors[: 2 if connection else 1], *both.parameters()]
        gradients = torch.autograd.grad((out * maps.to(DEVICE).cos()).sum(), wanted)
        results.append((out, list(gradients), norm.running_mean))
    (out, gradients, mean), (expected, expected_gradients, expected_mean) = results
    assert torch.equal(out, expected)
    assert torch.equal(mean, expected_mean)
    assert close(gradients, expected_gradients)
    assert all(bool(gradient.any()) for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_currents_of_16_bits_give_what_their_float32_values_give(dtype: torch.dtype) -> None:
    for neuron in ("stbp", "fire", "tssl", "plif"):
        wide = inputs(neuron, torch.float32, False, "channels last")
        narrow = [wide[0].detach().to(dtype).requires_grad_(), *wide[1:]]
        same = [narrow[0].detach().float().requires_grad_(), *wide[1:]]
        spikes, gradients = run(scan_of(neuron, plain=False), narrow)
        expected, expected_gradients = run(scan_of(neuron, plain=True), same)
        assert spikes.dtype == gradients[0].dtype == dtype
        assert torch.equal(spikes.float(), expected)
        # The weights of run's loss are drawn in the spikes' type.
        assert expected_gradients[0].shape == gradients[0].shape
        assert bool(gradients[0].isfinite().all())


def test_spikes_in_bfloat16_take_gradients_in_bfloat16() -> None:
    (current,) = inputs("stbp", torch.float32, False, "contiguous")
    spikes = scan.stbp(current, STEPS, STBP, torch.bfloat16)
    weights = torch.randn(spikes.shape, dtype=torch.bfloat16, device=DEVICE)
    (gradient,) = torch.autograd.grad(spikes, current, weights)
    plain = stbp.scan_plain(current, STEPS, STBP)
    (expected,) = torch.autograd.grad(plain, current, weights.float())
    assert torch.equal(spikes.float(), plain)
    assert close([gradient], [expected])
    assert not close([gradient], [2 * expected])


def test_a_current_with_gaps_is_taken() -> None:
    (current,) = inputs("stbp", torch.float64, False, "contiguous")
    strided = current[..., ::2]
    found = scan.stbp(strided, STEPS, STBP)
    assert torch.equal(found, stbp.scan_plain(strided, STEPS, STBP))


def test_tensors_on_the_cpu_are_not_for_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not gpu.takes_triton(torch.zeros(1))
    monkeypatch.setenv(gpu.SWITCH, "0")
    gpu._compiles.cache_clear()
    assert not gpu._compiles(torch.device(DEVICE))
    gpu._compiles.cache_clear()


def test_a_compiler_that_fails_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from repro.device import triton_probe

    def fail(device: torch.device) -> None:
        raise RuntimeError("no C compiler")

    gpu._compiles.cache_clear()
    monkeypatch.setattr(triton_probe, "run", fail)
    with pytest.warns(UserWarning, match="no C compiler"):
        assert not gpu._compiles(torch.device(DEVICE))
    assert not gpu._compiles(torch.device(DEVICE))
    gpu._compiles.cache_clear()
    monkeypatch.undo()
    assert gpu._compiles(torch.device(DEVICE))
    gpu._compiles.cache_clear()
