"""Surrogate gradient on SEW-ResNet (Fang et al., NeurIPS 2021), for events and images."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from repro.cells import Phase
from repro.methods.base import SpikingModule
from repro.networks.sew_resnet import (
    EventNetwork,
    ImageNetwork,
    sew_net,
    sew_resnet,
    zero_init_residual_,
)
from repro.recipes.fields import SurrogateRecipe


class Surrogate(SpikingModule):
    """A SEW-ResNet and the cross-entropy of what its classifier says of the mean over time."""

    recipe: SurrogateRecipe

    def __init__(
        self,
        recipe: SurrogateRecipe,
        classes: int,
        phase: Phase,
        network: EventNetwork | ImageNetwork,
    ) -> None:
        """Build the network for K classes; those for events take frames, the others images."""
        tau = recipe.tau if recipe.neuron == "plif" else None
        built: nn.Module
        if network == "sew_7b" or network == "sew_wide_7b" or network == "sew_5b":
            built = sew_net(
                network, classes, width=recipe.width, connection=recipe.connection, tau=tau
            )
        else:
            built = sew_resnet(
                network,
                classes,
                time_steps=recipe.time_steps,
                width=recipe.width,
                connection=recipe.connection,
                tau=tau,
            )
        if recipe.zero_init_residual:
            zero_init_residual_(built)
        super().__init__(recipe, built, phase)

    def loss(self, train: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of the logits ``[1, B, K]``."""
        return cross_entropy(train.sum(0), labels)
