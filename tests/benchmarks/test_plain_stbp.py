"""The plain baseline against the golden run of the reference, and the harness that times it."""

from functools import partial

import numpy as np
import pytest
import torch
from clock import Clock
from paths import GOLDEN
from torch import Tensor
from torch.nn import functional

from benchmarks.measure import environment, interleaved, paired_ratio, peak_memory
from benchmarks.plain_stbp import LayerSpec, PlainCbpStep, PlainStbp, State, full_size
from repro.cbp.constraint import constraint, constraint_failure_score
from repro.cbp.window import constrained_fraction
from repro.errors import UserError

GOLDEN_LAYERS = (
    LayerSpec("conv1", "conv", 6),
    LayerSpec("pool1", "conv", 8, stride=2),
    LayerSpec("conv2", "conv", 8),
    LayerSpec("fc1", "linear", 16),
    LayerSpec("fc3", "linear", 4),
)
BATCH = 16
EPOCHS = 60
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-10)
both = pytest.mark.parametrize("precision", ["binary", "ternary"])


def golden(precision: str) -> dict[str, Tensor]:
    path = GOLDEN / f"stbp_cbp_{precision}.npz"
    with np.load(path, allow_pickle=False) as file:
        return {k: torch.from_numpy(file[k]) for k in file.files if k != "trace_columns"}


def golden_network(values: dict[str, Tensor]) -> PlainStbp:
    network = PlainStbp(GOLDEN_LAYERS, image_size=8, time_steps=4, dtype=torch.float64)
    network.load_state_dict({k: values[f"init.{k}"] for k in network.state_dict()})
    return network


def golden_cbp(values: dict[str, Tensor], precision: str) -> PlainCbpStep:
    return PlainCbpStep(golden_network(values), precision, lr=0.05, multiplier_lr=0.005, p_max=5)


def first_batch(values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return values["images"][:BATCH], values["labels"][:BATCH]


@both
def test_output_and_spikes_are_golden(precision: str) -> None:
    values = golden(precision)
    network = golden_network(values)
    images, _ = first_batch(values)
    unquantised = network(images)
    network.quantise_(precision)
    close(network(images), values["first_output"])
    assert not torch.equal(unquantised, values["first_output"])
    state: State = {}
    for t in range(4):
        state = network.step(images, state)
        for layer in GOLDEN_LAYERS:
            expected = values[f"spikes.t{t}.{layer.name}"].double()
            assert torch.equal(state[layer.name][1], expected), (t, layer.name)


@both
def test_task_gradient_is_golden(precision: str) -> None:
    values = golden(precision)
    network = golden_network(values)
    network.quantise_(precision)
    images, labels = first_batch(values)
    loss = functional.mse_loss(network(images), functional.one_hot(labels, 4).double())
    torch.autograd.backward(loss)
    for name, parameter in network.named_parameters():
        close(parameter.grad, values[f"grads.{name}"])


@both
def test_lagrangian_gradient_is_task_gradient_plus_multiplier_times_slope(precision: str) -> None:
    values = golden(precision)
    cbp = golden_cbp(values, precision)
    before = {k: v.clone() for k, v in cbp.network.state_dict().items()}
    gradients = cbp.gradients(*first_batch(values))
    pulled = set()
    for name, (weight, levels) in cbp.network.quantised().items():
        _, slope = constraint(weight.detach(), levels, constrained_fraction(cbp.g))
        pull = cbp.multipliers[name].detach() * slope
        key = f"{name}.weight"
        close(gradients[key], values[f"grads.{key}"] + pull)
        pulled |= {name} if pull.any() else set()
    assert pulled == {"pool1", "conv2", "fc1"}
    close(gradients["fc3.bias"], values["grads.fc3.bias"])
    assert all(torch.equal(v, before[k]) for k, v in cbp.network.state_dict().items())
    assert all(parameter.grad is None for parameter in cbp.network.parameters())


@both
def test_run_of_algorithm_1_is_golden(precision: str) -> None:
    values = golden(precision)
    cbp = golden_cbp(values, precision)
    rows = []
    for epoch in range(EPOCHS):
        for start in range(0, 3 * BATCH, BATCH):
            batch = slice(start, start + BATCH)
            cbp.step(values["images"][batch], values["labels"][batch])
        sums = [cbp.loss_sum, cbp.lagrangian_sum]
        ascended = cbp.end_epoch()
        layers = cbp.network.quantised().values()
        cfs = constraint_failure_score((weight.detach(), levels) for weight, levels in layers)
        pull = sum(m.abs().sum().item() for m in cbp.multipliers.values())
        window = [cbp.g, constrained_fraction(cbp.g)]
        rows.append([epoch, *sums, ascended, *window, cbp.lr, cfs, pull])
    close(torch.tensor(rows, dtype=torch.float64), values["trace"])
    for name, weight in cbp.network.state_dict().items():
        close(weight, values[f"final.{name}"])
        assert not torch.equal(weight, values[f"init.{name}"])
    for i, multiplier in enumerate(cbp.multipliers.values()):
        close(multiplier.detach(), values[f"lam.lambda{i}"])


def test_full_size_network_has_the_weights_of_the_paper() -> None:
    with torch.device("meta"):
        network = PlainStbp(full_size(classes=10))
    weights = {n: p.numel() for n, p in network.named_parameters() if n.endswith("weight")}
    assert list(weights) == [f"conv{i}.weight" for i in range(1, 8)] + [
        f"fc{i}.weight" for i in range(1, 4)
    ]
    assert sum(weights.values()) == 62_103_936  # memory table of the paper
    assert sum(weights.values()) - weights["conv1.weight"] - weights["fc3.weight"] == 62_095_360


def test_bad_arguments_name_the_remedy() -> None:
    with pytest.raises(UserError, match="three or more"):
        PlainStbp(full_size()[:2])
    with pytest.raises(UserError, match="precision fp32: choose one of"):
        PlainStbp(full_size(width=1 / 128)).quantise_("fp32")


def test_candidates_take_turns_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    clock = Clock()

    def call(name: str, seconds: float) -> None:
        calls.append(name)
        clock.sleep(seconds)

    candidates = {"a": partial(call, "a", 1), "b": partial(call, "b", 2)}
    seconds = interleaved(candidates, repeats=2, warmup=1, clock=clock.perf_counter)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert seconds == {"a": [1, 1], "b": [2, 2]}
    ratio = paired_ratio(seconds["b"], seconds["a"])
    assert ratio.low == 2
    with pytest.raises(UserError, match="measure nothing"):
        interleaved(candidates, repeats=0)
    with pytest.raises(UserError, match="measure both in one call"):
        paired_ratio([1.0], [1.0, 2.0])


def test_peak_memory_counts_the_call_and_not_the_parent() -> None:
    megabyte = 10**6
    held = np.ones(300 * megabyte, dtype=np.uint8)  # the parent's memory is no part of it
    small = peak_memory("numpy:ones", {"shape": 1})
    large = peak_memory("numpy:ones", {"shape": 100 * megabyte, "dtype": "uint8"})
    assert len(held) == 300 * megabyte
    assert small < 10 * megabyte
    assert 95 * megabyte < large < 110 * megabyte


@pytest.mark.parametrize("target", ["numpy", "numpy:no_such_function", "no_such_module:f"])
def test_peak_memory_of_a_wrong_target_is_an_error(target: str) -> None:
    with pytest.raises(UserError, match=r"failed in its own process: .*(numpy|no_such)"):
        peak_memory(target)


def test_environment_says_what_times_depend_on() -> None:
    facts = environment()
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert all(facts[key] for key in ("cpu", "cores", "memory_bytes", "python", "malloc"))
