"""STBP: spatio-temporal backpropagation with a rectangular surrogate (Wu et al., 2018)."""

from torch import Tensor
from torch.nn.functional import mse_loss, one_hot

from repro.cells import Phase
from repro.methods.base import SpikingModule
from repro.networks.conv7fc3 import conv7fc3
from repro.neurons.stbp import StbpNeuron
from repro.recipes.fields import StbpRecipe


class Stbp(SpikingModule):
    """The 7Conv-3FC network, mean squared error of spike rates to the one-hot label."""

    def __init__(self, recipe: StbpRecipe, classes: int, phase: Phase) -> None:
        """Build the network for K classes."""
        neuron = StbpNeuron(recipe.decay, recipe.threshold, recipe.window)
        network = conv7fc3(
            classes,
            time_steps=recipe.time_steps,
            neuron=neuron,
            width=recipe.width,
            gain=recipe.gain,
        )
        super().__init__(recipe, network, phase)

    def loss(self, train: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error between spike rates ``[B, K]`` and one-hot labels."""
        rates = train.mean(0)
        return mse_loss(rates, one_hot(labels, rates.shape[1]).to(rates.dtype))
