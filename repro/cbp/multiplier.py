"""Lagrange multipliers, one per quantised weight, and Algorithm 1's rule of when they ascend."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import torch
from torch import Tensor

from repro.cbp.constraint import add_slope_, constraint_failure_score, write_constraint_
from repro.cbp.window import NO_WINDOW, constrained_fraction, next_g

RESET_SUM: Final = 1e10  # Algorithm 1: the "previous sum" after an update
OPTIMISERS: Final = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class AscentRule:
    """Algorithm 1's rule of when the multipliers ascend: window variable g, waiting time p.

    Attributes:
        g: Window variable; the constrained fraction of an interval is ``1 - 1/g``.
        waited: Epochs since the last ascent (p in Algorithm 1).
        previous_sum: Lagrangian summed over the epoch before.
    """

    def __init__(self, p_max: int = 20) -> None:
        """Start at g = 1.

        Args:
            p_max: Epochs after which an ascent is due at the latest.
        """
        self.p_max, self.g, self.waited, self.previous_sum = p_max, 1, 0, RESET_SUM

    def end_epoch(self, lagrangian_sum: float) -> bool:
        """Decide at the end of an epoch whether an ascent is due, and return it.

        Args:
            lagrangian_sum: The Lagrangian summed over the batches of the epoch.

        References:
            Paper, Algorithm 1, the block after the batches.
        """
        self.waited += 1
        if lagrangian_sum < self.previous_sum and self.waited < self.p_max:
            self.previous_sum = lagrangian_sum
            return False
        self.g = next_g(self.g)
        self.waited, self.previous_sum = 0, RESET_SUM
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, as tensors and plain numbers."""
        return {"g": self.g, "waited": self.waited, "previous_sum": self.previous_sum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.g, self.waited = state["g"], state["waited"]
        self.previous_sum = state["previous_sum"]


class Multipliers(AscentRule):
    """State of the constraint: multipliers and their optimiser, moved when the rule says so."""

    def __init__(
        self,
        latents: Mapping[str, tuple[Tensor, Tensor]],
        *,
        lr: float,
        optimiser: Literal["adam", "adamw"] = "adam",
        p_max: int = 20,
        window: bool = True,
    ) -> None:
        """Set every multiplier to 0 and ascend once at g = 1.

        Args:
            latents: Latent weights and scaled levels ``[L]`` by layer name; not copied.
            lr: Learning rate of the multipliers; 0 leaves them at 0.
            optimiser: Optimiser of the multipliers.
            p_max: The multipliers ascend after so many epochs at the latest.
            window: False constrains every weight whatever g is.
        """
        super().__init__(p_max)
        self.latents, self.window = latents, window
        self.multipliers = {name: torch.zeros_like(w.detach()) for name, (w, _) in latents.items()}
        parameters = list(self.multipliers.values())
        self.optimiser = OPTIMISERS[optimiser](parameters, lr=lr, maximize=True, fused=True)
        self.ascend()

    @property
    def fraction(self) -> float:
        """Constrained fraction of each half-interval between levels, 0 to 1."""
        return constrained_fraction(self.g) if self.window else NO_WINDOW

    @torch.no_grad()
    def ascend(self) -> None:
        """Take one ascent step of every multiplier along ``cs(w; g)``, a layer at a time."""
        for name, (weight, levels) in self.latents.items():
            multiplier = self.multipliers[name]
            multiplier.grad = torch.empty_like(multiplier)
            write_constraint_(multiplier.grad, weight, levels, self.fraction)
            self.optimiser.step()
            multiplier.grad = None

    @torch.no_grad()
    def add_slopes_(self, clip: float = float("inf"), loss_scale: float = 1.0) -> float | Tensor:
        """Add ``multiplier * slope`` to the weights' gradients; return ``sum(multiplier * cs)``.

        Args:
            clip: Bound by value of the quantised weights' gradients after the addition.
            loss_scale: Factor that the gradients carry, and the slopes then, too.
        """
        total: float | Tensor = 0.0
        for name, (weight, levels) in self.latents.items():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            elif weight.grad.stride() != weight.stride():  # of permuted inputs, for example
                weight.grad = torch.empty_like(weight).copy_(weight.grad)
            multiplier = self.multipliers[name]
            if loss_scale != 1:
                multiplier = multiplier * loss_scale
            total += add_slope_(weight.grad, weight, multiplier, levels, self.fraction, clip)
        return total / loss_scale

    def end_epoch(self, lagrangian_sum: float) -> bool:
        """Apply the rule at the end of an epoch; return whether the multipliers ascended.

        Args:
            lagrangian_sum: The Lagrangian summed over the batches of the epoch.
        """
        ascends = super().end_epoch(lagrangian_sum)
        if ascends:
            self.ascend()
        return ascends

    def failure_score(self) -> float:
        """Return the constraint failure score (CFS) of the latent weights now."""
        with torch.no_grad():
            return constraint_failure_score(self.latents.values())

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, as tensors and plain numbers."""
        return {
            **super().state_dict(),
            "multipliers": self.multipliers,
            "optimiser": self.optimiser.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            ValueError: The state belongs to other layers.
        """
        if list(state["multipliers"]) != list(self.multipliers):
            raise ValueError(
                f"multipliers of layers {list(state['multipliers'])} do not fit the network's "
                f"{list(self.multipliers)}"
            )
        for name, multiplier in self.multipliers.items():
            multiplier.copy_(state["multipliers"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        super().load_state_dict(state)
