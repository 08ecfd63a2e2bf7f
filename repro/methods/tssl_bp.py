"""TSSL-BP: temporal spike sequence learning (Zhang & Li, NeurIPS 2020)."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from repro.cells import Phase
from repro.methods.base import SpikingModule
from repro.networks.alexnet import alexnet
from repro.neurons.tssl_bp import TsslBpNeuron, spike_kernel_loss, target_train
from repro.recipes.fields import TsslBpRecipe


class TsslBp(SpikingModule):
    """AlexNet and the spike-kernel loss; weights stay within a bound while it is pre-trained."""

    recipe: TsslBpRecipe
    reduction: ClassVar[Literal["mean", "sum"]] = "sum"

    def __init__(self, recipe: TsslBpRecipe, classes: int, phase: Phase) -> None:
        """Build the network for K classes."""
        network = alexnet(
            classes,
            time_steps=recipe.time_steps,
            neuron=TsslBpNeuron(recipe.tau_m, recipe.tau_s, recipe.threshold),
            width=recipe.width,
            pooling_factor=recipe.pooling_factor,
            dropout=recipe.dropout,
            conv_gain=recipe.conv_gain,
        )
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, nn.Linear):
                    layer.weight.mul_(recipe.linear_gain)
        super().__init__(recipe, network, phase)

    def loss(self, train: Tensor, labels: Tensor) -> Tensor:
        """Return half the squared distance of filtered outputs ``[T, B, K]`` to their target.

        Summed over the batch, as in the reference: with the clip by norm and AdamW, a mean instead
        of the sum would be another training.
        """
        steps, _, classes = train.shape
        recipe = self.recipe
        target = target_train(
            labels, classes, steps, recipe.tau_s, recipe.silent_steps, dtype=train.dtype
        )
        return spike_kernel_loss(train, target, recipe.tau_s)

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Clamp the weights in pre-training; in the CBP phase ``Cbp`` does."""
        if self.phase == "pretrain":
            for parameter in self.network.parameters():
                parameter.clamp_(-self.recipe.weight_bound, self.recipe.weight_bound)
