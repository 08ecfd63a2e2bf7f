"""Tell early whether a training can learn: silent layers, dead gradients, a loss that stands."""

import sys
from collections import Counter
from contextlib import ExitStack
from typing import Any, Final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from repro.errors import UserError
from repro.methods.distributed import total
from repro.neurons.observe import observed

STEPS: Final = 200  # after which it is told
STANDS: Final = 1e-3  # a loss has moved if its mean over a tenth of the steps falls by this part


class Health(Callback):
    """Look at step `STEPS` of a training, and say what keeps it from learning.

    Attributes:
        strict: Whether a network that cannot learn ends the run; else it is a line on stderr.
    """

    def __init__(self, strict: bool) -> None:
        """Start with nothing seen."""
        self.strict = strict
        self._fired = Counter[str]()
        self._observed = ExitStack()
        self._losses: list[Tensor] = []
        self._dead: list[str] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Count the spikes of step `STEPS`."""
        if trainer.global_step == STEPS - 1:
            self._observed.enter_context(observed(pl_module, self._see))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Find weights without any gradient, on no process."""
        if trainer.global_step == STEPS - 1:
            weights = {n: p for n, p in pl_module.named_parameters() if p.requires_grad}
            zero = torch.zeros((), device=pl_module.device)
            sums = [zero if p.grad is None else p.grad.abs().sum() for p in weights.values()]
            found = total(torch.stack(sums)).tolist()
            self._dead = [
                name.removeprefix("network.")
                for (name, weight), there in zip(weights.items(), found, strict=True)
                if weight.dim() > 1 and not there
            ]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401  (Lightning's signature)
        *_: Any,  # noqa: ANN401
    ) -> None:
        """Note the loss; say what is wrong.

        Raises:
            UserError: The network cannot learn, and the training is ``strict``.
        """
        self._observed.close()
        step = trainer.global_step
        if step <= STEPS:
            self._losses.append(outputs["loss"].detach())
        if step == STEPS and (wrong := self._wrong()):
            if self.strict:
                raise UserError(
                    f"after {STEPS} steps {wrong}: it does not learn. Change the initial weights "
                    "(gain), the threshold or the learning rate; --tier paper_short has a gain "
                    "that lets every layer fire"
                )
            if trainer.is_global_zero:
                print(f"cbp-qsnn: after {STEPS} steps {wrong}", file=sys.stderr, flush=True)

    def _see(self, name: str, spikes: Tensor, states: int) -> None:
        """Count the spikes behind a module."""
        self._fired[name.removeprefix("network.")] += int(spikes.sum(dtype=torch.float64))

    def _wrong(self) -> str:
        """Return in words what keeps the network from learning; empty if nothing."""
        counts = total(torch.tensor([*self._fired.values()], device=self._losses[0].device))
        silent = [
            name for name, count in zip(self._fired, counts.tolist(), strict=True) if not count
        ]
        tenth = max(1, len(self._losses) // 10)
        losses = total(torch.stack(self._losses).double())
        first, last = (float(part.mean()) for part in (losses[:tenth], losses[-tenth:]))
        said = [f"no neuron fires behind {', '.join(silent)}"] if silent else []
        said += [f"no gradient reaches {', '.join(self._dead)}"] if self._dead else []
        if said and last > (1 - STANDS) * first:
            said.append(f"the loss stands at {last:.4g}")
        return "; ".join(said)
