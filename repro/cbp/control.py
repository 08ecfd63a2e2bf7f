"""The FP32 control: what the longer training gains without any constraint."""

from pytorch_lightning import LightningModule
from torch import Tensor

from repro.cbp.callback import Cbp
from repro.cbp.multiplier import AscentRule
from repro.cbp.selection import choose_layers, choose_levels


class Control(Cbp):
    """The FP32 control of a CBP run: the same training with FP32 weights in place of levels.

    Whatever CBP does beside the constraint is done here too: the same weights train, gradients are
    clipped and the weights of the same layers clamped as there, and the learning rate drops when g
    reaches the same value, g following Algorithm 1's rule with the loss in the Lagrangian's place.
    What a CBP run gains beyond its control is CBP's; the rest is the longer training's (departures,
    Q7). Arguments about levels, multipliers and arithmetic have no effect.
    """

    def _choose(self, module: LightningModule) -> list[Tensor]:
        """Return the weights that a CBP run would quantise; they stay as they are."""
        chosen = choose_layers(module, self.keep, self.patterns, self.exclude)
        return [chosen[name].weight for name in choose_levels(list(chosen), self.levels)]

    def _make_rule(self, module: LightningModule) -> AscentRule:
        """Return the rule without multipliers."""
        return AscentRule(self.p_max)

    def _add_slopes(self, bound: float) -> set[int]:
        """Leave every gradient to the clip of the rest."""
        return set()

    def _figures(self, lagrangian: float, ascended: bool) -> dict[str, float]:
        """Return g alone: there is no constraint that could be kept or broken."""
        assert self._rule is not None
        return {"cbp/g": float(self._rule.g), "cbp/ascended": float(ascended)}
