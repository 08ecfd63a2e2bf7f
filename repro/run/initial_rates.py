"""Initial weights under which every layer fires: scaled layer by layer, on one batch of images."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from repro.errors import UserError
from repro.neurons.observe import observed

LOWEST: Final = 0.02  # spikes per neuron and step with which a training may begin
HIGHEST: Final = 0.4
REACH: Final = 64.0  # the factor of a layer is from 1 / REACH to this
HALVINGS: Final = 10  # of the range of its logarithm


def firing_rates(network: nn.Module, images: Tensor) -> dict[str, float]:
    """Return spikes per neuron and step behind each layer, in the order of the forward pass.

    Args:
        network: Any network whose neurons are seen by `repro.neurons.observe`.
        images: A batch.
    """
    found: dict[str, float] = {}

    def see(name: str, spikes: Tensor, states: int) -> None:
        found[name] = float(spikes.float().mean())

    with torch.no_grad(), observed(network, see):
        network(images)
    return found


def scale_to_rate_(network: nn.Module, images: Tensor, rate: float) -> dict[str, float]:
    """Scale each layer's weights, from the first to the last, until neurons behind it fire so.

    A rate grows with the factor of its layer, so the factor is found by bisection; biases stay.
    The dropout of training is off meanwhile.

    Args:
        network: Layers with weights, neurons behind each; changed in place.
        images: A batch of training images, normalised.
        rate: Wanted spikes per neuron and step.

    Returns:
        The rates then.

    Raises:
        UserError: A layer does not fire at `LOWEST` to `HIGHEST`.

    References:
        Mishkin and Matas, "All you need is a good init", ICLR 2016: layer by layer on one batch,
        there to unit variance.
    """
    training = network.training
    network.eval()
    for name in firing_rates(network, images):
        weight = network.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        with torch.no_grad():
            published = weight.clone()
            low, high = 1 / REACH, REACH
            for _ in range(HALVINGS):
                factor = (low * high) ** 0.5
                weight.copy_(published * factor)
                if firing_rates(network, images)[name] < rate:
                    low = factor
                else:
                    high = factor
    rates = firing_rates(network, images)
    network.train(training)
    require_rates(rates)
    return rates


def require_rates(rates: Mapping[str, float]) -> None:
    """Raise a UserError that names the layers behind which neurons fire too little or too much.

    >>> require_rates({"conv1": 0.1, "conv2": 0.0})
    Traceback (most recent call last):
    repro.errors.UserError: initial weights: neurons behind conv2 fire at 0.0 % of all steps...
    """
    wrong = {name: rate for name, rate in rates.items() if not LOWEST <= rate <= HIGHEST}
    if wrong:
        said = ", ".join(f"{name} fire at {100 * rate:.1f} %" for name, rate in wrong.items())
        raise UserError(
            f"initial weights: neurons behind {said} of all steps, outside {100 * LOWEST:.0f} to "
            f"{100 * HIGHEST:.0f} %: choose another initial_rate, threshold or decay"
        )
