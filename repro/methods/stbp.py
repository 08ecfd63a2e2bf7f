"""STBP: spatio-temporal backpropagation with a rectangular surrogate (Wu et al., 2018)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, one_hot

from repro.methods.base import Phase, SpikingModule
from repro.networks.conv7fc3 import conv7fc3
from repro.neurons.stbp import StbpNeuron
from repro.recipes import StbpRecipe


class Stbp(SpikingModule):
    """The 7Conv-3FC network, mean squared error of spike rates to the one-hot label, SGD."""

    def __init__(self, recipe: StbpRecipe, classes: int, phase: Phase) -> None:
        """Build the network.

        Args:
            recipe: Numbers of the run.
            classes: K.
            phase: ``pretrain`` steps as the recipe says, ``cbp`` as its ``cbp`` part says.
        """
        neuron = StbpNeuron(recipe.decay, recipe.threshold, recipe.window)
        network = conv7fc3(
            classes,
            time_steps=recipe.time_steps,
            neuron=neuron,
            width=recipe.width,
            gain=recipe.gain,
        )
        super().__init__(network, phase)
        self.recipe = recipe

    def loss(self, train: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error between spike rates ``[B, K]`` and one-hot labels."""
        rates = train.mean(0)
        return mse_loss(rates, one_hot(labels, rates.shape[1]).to(rates.dtype))

    def configure_optimizers(self) -> Any:  # noqa: ANN401  (one of many shapes Lightning takes)
        """Return SGD; in pre-training its learning rate falls in steps."""
        recipe = self.recipe
        if self.phase == "cbp":
            return self._sgd(recipe.cbp.lr, recipe.cbp.momentum)
        if recipe.optimiser == "sgd":
            optimiser = self._sgd(recipe.lr, recipe.momentum)
        else:
            optimiser = torch.optim.Adam(self.parameters(), lr=recipe.lr, fused=True)
        steps = torch.optim.lr_scheduler.StepLR(optimiser, recipe.lr_step, recipe.lr_gamma)
        return {"optimizer": optimiser, "lr_scheduler": steps}

    def _sgd(self, lr: float, momentum: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=lr, momentum=momentum, fused=True)
