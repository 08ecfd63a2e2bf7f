"""What part of a quantised network's gain longer training explains, and what part is CBP's."""

from dataclasses import dataclass

from repro.cells import Cell, Precision
from repro.report.wording import NAMES, moved, seeds_compared
from repro.results.statistics import Difference


@dataclass(frozen=True)
class Parts:
    """How a quantised network differs from its parent, and which part its control has too.

    Attributes:
        cell: Its cell.
        precision: ``binary`` or ``ternary``.
        whole: Quantised minus parent.
        training: Control minus parent, what longer training does; None without a control.
        cbp: Quantised minus control, what CBP does; None without a control.
        seeds: The seeds of all three.
        rows: Rows of this cell and precision, also of seeds that could not be compared.
        drops_differ: Whether the learning rate fell at another epoch than in the control.
    """

    cell: Cell
    precision: Precision
    whole: Difference
    training: Difference | None
    cbp: Difference | None
    seeds: tuple[int, ...]
    rows: int
    drops_differ: bool

    @property
    def mark(self) -> str:
        """Return a blank and the mark of quantised minus control, or nothing, see `MARKS`."""
        return " △" * self.drops_differ

    @property
    def n(self) -> str:
        """Return the number of seeds that were compared, and of how many where some are missing."""
        return seeds_compared(len(self.seeds), self.rows)

    def in_words(self) -> str:
        """Return one sentence."""
        name = NAMES[self.precision]
        whole = moved(
            self.whole, "is {} above its parent", "is {} below its parent", "equals its parent"
        )
        said = f"{self.cell}: {name} {whole}"
        if self.training is None or self.cbp is None:
            return (
                f"{said} (n {self.n}); no FP32 control of the same seeds and recipe has run, so "
                "which part of that longer training explains is unknown."
            )
        training = moved(self.training, "gains {}", "loses {}", "neither gains nor loses")
        cbp = moved(self.cbp, "adds {}", "costs {}", "changes nothing")
        return (
            f"{said}; the control, fine-tuned for the same number of epochs with FP32 weights, "
            f"{training}; CBP itself {cbp}{self.mark} (n {self.n})."
        )
