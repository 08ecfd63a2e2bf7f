"""TSSL-BP's AlexNet: its weights, pooling, dropout, and spike-exact bfloat16."""

import pytest
import torch
from torch import Tensor, nn

from repro.cbp.layers import prepare, prepared_layers
from repro.cbp.settings import Arithmetic
from repro.networks.alexnet import SumPool, TsslBpNetwork, alexnet
from repro.neurons.observe import observed
from repro.neurons.tssl_bp import TsslBpNeuron, spike_kernel_loss, target_train

NEURON = TsslBpNeuron()
LOUDER = 8.0


def narrow(dropout: float = 0.0, width: float = 1 / 8) -> TsslBpNetwork:
    """With its initial weights the linear layers are all but silent: here they are larger."""
    torch.manual_seed(0)
    network = alexnet(10, time_steps=5, neuron=NEURON, width=width, dropout=dropout)
    with torch.no_grad():
        for i in (1, 2, 3):
            network.get_submodule(f"fc{i}").weight.mul_(LOUDER)  # type: ignore[operator]
    return network


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_weights_are_counted_as_in_the_paper() -> None:
    with torch.device("meta"):
        sizes = {
            name: parameter.numel()
            for name, parameter in alexnet(10, time_steps=5, neuron=NEURON).named_parameters()
        }
    assert sum(sizes.values()) == 21_156_384
    assert next(iter(sizes)) == "conv1.weight"
    assert list(sizes)[-1] == "fc3.weight"
    assert sum(sizes.values()) - sizes["conv1.weight"] - sizes["fc3.weight"] == 21_143_552


def test_initial_weights() -> None:
    """PyTorch's: uniform in +-1/sqrt(fan in), times 5; Kaiming normal: std sqrt(2 / fan in)."""
    torch.manual_seed(0)
    network = alexnet(10, time_steps=5, neuron=NEURON, width=1 / 2)
    bound = 5 / (128 * 9) ** 0.5
    assert bound * 0.99 < network.conv3.weight.abs().max() <= bound
    assert network.fc2.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.01)
    assert network.fc2.weight.abs().max() > 3 * (2 / 512) ** 0.5


def test_output_is_filtered_spikes_and_repeats() -> None:
    network = narrow()
    output = network(images())
    assert output.shape == (5, 4, 10)
    assert output.any()
    assert torch.equal(output, network(images()))
    assert not torch.equal(output, network(images() + 1))


def test_pooling_is_a_sum_and_its_gradient_a_copy() -> None:
    maps = torch.randint(0, 2, (2, 3, 4, 6)).double().requires_grad_()
    sums = SumPool()(maps)
    expected = maps.detach().reshape(2, 3, 2, 2, 3, 2).sum((3, 5))
    assert torch.equal(sums, expected)
    weight = torch.arange(sums.numel()).reshape(sums.shape).double()
    (grad,) = torch.autograd.grad((sums * weight).sum(), maps)
    assert torch.equal(grad, weight.repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_factor_of_the_pooling_is_the_next_layers_current(layout: torch.memory_format) -> None:
    layers = {
        "conv1": nn.Conv2d(3, 4, 3, padding=1, bias=False),
        "pool": SumPool(1.1),
        "conv2": nn.Conv2d(4, 4, 3, padding=1, bias=False),
    }
    network = TsslBpNetwork(layers, 5, NEURON).double()
    with torch.no_grad():
        network.conv1.weight.mul_(5)
        network.conv2.weight.mul_(5)
    network.to(memory_format=layout)
    with_factor = network(images().double())
    network.pool.factor = 1.0
    without = network(images().double())
    with torch.no_grad():
        network.conv2.weight.mul_(1.1)
    assert torch.equal(network(images().double()), with_factor)
    assert not torch.equal(without, with_factor)


def test_dropout_drops_whole_rows_at_every_step_alike() -> None:
    network = narrow(dropout=0.2)
    torch.manual_seed(2)
    kept = network._drop(torch.ones(5 * 40, 16, 8, 8)).unflatten(0, (5, 40))
    assert torch.equal(kept, kept[:1, ..., :1].expand_as(kept))
    assert kept.unique().tolist() == [0.0, 1.0]
    deviation = (0.2 * 0.8 / (40 * 16 * 8)) ** 0.5
    assert abs(kept.mean().item() - 0.8) < 4 * deviation
    units = network._drop(torch.ones(5 * 40, 50)).unflatten(0, (5, 40))
    assert torch.equal(units, units[:1].expand_as(units))
    assert 0 < units[:, :, 0].mean() < 1


def test_dropout_is_for_training_only_and_keeps_the_mean_current() -> None:
    network = narrow(dropout=0.2)
    gains: list[float] = []
    network.fire.register_forward_pre_hook(
        lambda _, given, named: gains.append(named.get("gain", 1)), with_kwargs=True
    )
    trained = [network(images()) for _ in range(2)]
    assert not torch.equal(*trained)
    assert gains[:8] == pytest.approx([1, 1 / 0.8, 1.1 / 0.8, 1.1 / 0.8, *[1 / 0.8] * 4])
    gains.clear()
    network.eval()
    assert torch.equal(network(images()), network(images()))
    assert torch.equal(network(images()), narrow(dropout=0.0)(images()))
    assert gains[:8] == pytest.approx([1, 1, 1.1, 1.1, 1, 1, 1, 1])


def test_a_bias_or_a_pooling_at_an_end_is_refused() -> None:
    conv = nn.Conv2d(3, 4, 3, bias=False)
    with pytest.raises(ValueError, match="fc has a bias"):
        TsslBpNetwork({"conv": conv, "fc": nn.Linear(4, 2)}, 5, NEURON)
    with pytest.raises(ValueError, match="not first or last"):
        TsslBpNetwork({"conv": conv, "pool": SumPool()}, 5, NEURON)


def spikes_and_gradients(arithmetic: Arithmetic, precision: str) -> tuple[list[Tensor], Tensor]:
    """Spikes of every layer, and the latent weights' gradients in one vector."""
    network, kept = narrow(), list[Tensor]()
    prepare(network, precision, arithmetic=arithmetic)
    with observed(network, lambda name, spikes, states: kept.append(spikes.float())):
        output = network(images(6))
    target = target_train(torch.arange(6), 10, 5, NEURON.tau_s)
    spike_kernel_loss(output, target, NEURON.tau_s).backward()
    gradients = [latent.grad for latent, _ in prepared_layers(network).values()]
    return kept, torch.cat([grad.flatten() for grad in gradients if grad is not None])


@pytest.mark.parametrize("precision", ["binary", "ternary"])
def test_bfloat16_is_spike_exact(precision: str) -> None:
    plain, plain_grad = spikes_and_gradients("float32", precision)
    exact, exact_grad = spikes_and_gradients("spikes_bf16", precision)
    assert len(plain) == 8
    for layer, (a, b) in enumerate(zip(plain, exact, strict=True)):
        assert torch.equal(a, b), f"{int((a != b).sum())} spikes differ in layer {layer}"
        assert 0.01 < a.mean() < 0.9, "a silent network proves nothing"
    cosine = nn.functional.cosine_similarity(plain_grad, exact_grad, dim=0)
    assert cosine >= 0.999
    assert not torch.equal(plain_grad, exact_grad)
