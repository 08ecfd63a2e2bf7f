"""SNN-Calibration: an ANN is trained, converted to a spiking network, and that fine-tuned by CBP.

The conversion itself is ``repro.methods.calibration`` (Li et al., ICML 2021).
"""

from typing import Final

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from repro.cells import Phase
from repro.methods.base import SpikingModule
from repro.networks.vgg import Potentials, spiking_vgg, vgg16
from repro.recipes.fields import Pipeline, SnnCalibrationRecipe

POTENTIALS: Final[dict[Pipeline, Potentials]] = {
    "potential": "neuron",
    "weights": "neuron",
    "qcfs": "layer",
}


class SnnCalibration(SpikingModule):
    """VGG16, as ANN or converted, and the cross-entropy of its outputs summed over T."""

    recipe: SnnCalibrationRecipe

    def __init__(self, recipe: SnnCalibrationRecipe, classes: int, phase: Phase) -> None:
        """Build the network for K classes: the ANN in the phase ``ann``, else the spiking one."""
        network: nn.Module
        if phase == "ann":
            network = vgg16(
                classes, width=recipe.width, batch_norm=recipe.batch_norm, dropout=recipe.dropout
            )
        else:
            network = spiking_vgg(
                classes,
                time_steps=recipe.time_steps,
                width=recipe.width,
                potentials=POTENTIALS.get(recipe.conversion.pipeline),
                dropout=recipe.spike_dropout,
                alpha=recipe.alpha,
            )
        super().__init__(recipe, network, phase)

    def loss(self, train: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of ``[T, B, K]`` summed over T; an ANN's output has T = 1."""
        return cross_entropy(train.sum(0), labels)
