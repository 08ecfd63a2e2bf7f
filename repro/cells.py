"""Cells of the paper's tables and the names of runs."""

from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from datamodules.catalogue import DATA_SETS
from repro.errors import UserError

Phase = Literal["ann", "pretrain", "cbp"]

Method = Literal["tssl_bp", "stbp", "surrogate", "snn_calibration"]
Precision = Literal["ann", "fp32", "fp32_control", "binary", "ternary"]
Tier = Literal["paper", "paper_short", "desk", "smoke"]

METHODS: Final[tuple[Method, ...]] = get_args(Method)
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
SPIKING: Final[tuple[Precision, ...]] = ("fp32", "fp32_control", "binary", "ternary")
QUANTISED: Final[tuple[Precision, ...]] = ("binary", "ternary")
TIERS: Final[tuple[Tier, ...]] = get_args(Tier)


@dataclass(frozen=True)
class Cell:
    """One line of an accuracy table: a pre-training method on a data set.

    Attributes:
        method: Pre-training method.
        dataset: Data set of the ``paper`` and ``desk`` tiers.
        network: Network of the paper; part of the name only where a method has two on one data set.
        time_steps: T at inference.
    """

    method: Method
    dataset: str
    network: str
    time_steps: int

    def __str__(self) -> str:
        """Return ``method/dataset``, or ``method/dataset/network`` where that names two cells."""
        twins = [c for c in CELLS if (c.method, c.dataset) == (self.method, self.dataset)]
        return "/".join([self.method, self.dataset] + [self.network] * (len(twins) > 1))

    @property
    def simulated(self) -> bool:
        """Whether the data set is a simulation: no cell of the paper, and never in one table."""
        return DATA_SETS[self.dataset].simulated

    @property
    def converted(self) -> bool:
        """Whether the spiking network is made from a trained ANN, not trained itself."""
        return self.method == "snn_calibration"

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Runs of this cell, parents before children; a converted cell has its ANN, too."""
        return PRECISIONS if self.converted else SPIKING


CELLS: Final[tuple[Cell, ...]] = (
    Cell("tssl_bp", "cifar10", "alexnet", 5),
    Cell("stbp", "cifar10", "conv7fc3", 8),
    Cell("stbp", "cifar100", "conv7fc3", 8),
    Cell("surrogate", "dvs128_gesture", "sew_7b", 16),
    Cell("surrogate", "cifar10_dvs", "sew_wide_7b", 16),
    Cell("surrogate", "imagenet", "sew_resnet18", 4),
    Cell("surrogate", "imagenet", "sew_resnet34", 4),
    Cell("snn_calibration", "cifar10", "vgg16", 32),
    Cell("snn_calibration", "cifar100", "vgg16", 32),
)


def _cells_beside(simulated: bool) -> tuple[Cell, ...]:
    """Return the cells that data sets have beside the paper's."""
    return tuple(
        Cell(cast(Method, method), name, network, time_steps)
        for name, found in DATA_SETS.items()
        if found.simulated == simulated
        for method, network, time_steps in found.cells
    )


# Events that the simulator makes stand in for data sets that take a download.
SIMULATED: Final[tuple[Cell, ...]] = _cells_beside(simulated=True)
# Data sets that the paper does not have.
BEYOND: Final[tuple[Cell, ...]] = _cells_beside(simulated=False)
ALL_CELLS: Final = (*CELLS, *SIMULATED, *BEYOND)
# Which cells share tables, by what the names of these tables begin with.
CELLS_BY_PREFIX: Final = {"": CELLS, "simulated_": SIMULATED, "beyond_": BEYOND}


def find_cell(method: str, dataset: str = "", network: str | None = None) -> Cell:
    """Return the cell of that name; ``find_cell(*str(cell).split("/"))`` is the cell.

    Args:
        method: Pre-training method.
        dataset: Data set.
        network: Needed only where a method has two networks on one data set (ImageNet).

    Raises:
        UserError: No such cell, or two of them; the message lists all.

    >>> str(find_cell("stbp", "cifar10"))
    'stbp/cifar10'
    >>> find_cell(*"surrogate/imagenet/sew_resnet34".split("/")).network
    'sew_resnet34'
    """
    found = [
        cell
        for cell in ALL_CELLS
        if (cell.method, cell.dataset) == (method, dataset) and network in (None, cell.network)
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(cell) for cell in CELLS)
    wrong = "/".join(part for part in (method, dataset, network) if part)
    if found:
        raise UserError(f"{wrong} names {len(found)} cells: add --network; the nine are {names}")
    others = ", ".join(str(cell) for cell in ALL_CELLS if cell not in CELLS)
    raise UserError(f"unknown cell {wrong}: the nine are {names}; beside them {others}")


@dataclass(frozen=True)
class RunKey:
    """The only name of a run: folder, W&B name, row file and table cell are made of it.

    Attributes:
        cell: Line of the table.
        precision: ``fp32`` is the pre-trained spiking network; ``binary`` and ``ternary`` are
            quantised from it by CBP; ``fp32_control`` is fine-tuned from it for the same number of
            epochs, with FP32 weights; ``ann`` is the network that a converted cell's ``fp32`` is
            made of.
        seed: Seeds initial weights, order of the data, augmentation. 0 and up.
        tier: Scale of the experiment; tiers are never mixed in one column.
    """

    cell: Cell
    precision: Precision
    seed: int
    tier: Tier

    def __post_init__(self) -> None:
        """Refuse a seed that the random generators do not take, and an ANN that no cell has."""
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed {self.seed}: give 0 or more, below 2^63")
        if self.precision not in self.cell.precisions:
            has = ", ".join(self.cell.precisions)
            raise UserError(f"{self.cell} has no precision {self.precision}: one of {has}")

    def __str__(self) -> str:
        """Return the name, for example ``stbp-cifar10-binary-desk-s0``."""
        parts = [*str(self.cell).split("/"), self.precision, self.tier, f"s{self.seed}"]
        return "-".join(parts)

    @property
    def is_conversion(self) -> bool:
        """Whether the run converts an ANN instead of training."""
        return self.cell.converted and self.precision == "fp32"

    @property
    def has_cbp_phase(self) -> bool:
        """Whether the run fine-tunes a pre-trained spiking network: by CBP, or as its control."""
        return self.precision not in ("ann", "fp32")

    def parent(self) -> "RunKey | None":
        """Return the run whose weights this one starts from: same cell, seed and tier.

        >>> cell = find_cell("snn_calibration", "cifar100")
        >>> parents = [RunKey(cell, precision, 0, "desk").parent() for precision in PRECISIONS]
        >>> [parent.precision if parent else None for parent in parents]
        [None, 'ann', 'fp32', 'fp32', 'fp32']
        """
        if self.precision == self.cell.precisions[0]:
            return None
        before: Precision = "ann" if self.is_conversion else "fp32"
        return RunKey(self.cell, before, self.seed, self.tier)

    def command(self) -> str:
        """Return the command line that makes this run."""
        cell = self.cell
        network = f" --network {cell.network}" if str(cell).count("/") > 1 else ""
        return (
            f"python -m repro run --method {cell.method} --dataset {cell.dataset}{network}"
            f" --precision {self.precision} --tier {self.tier} --seed {self.seed}"
        )


def key_of(name: str) -> RunKey:
    """Return the run of that name.

    Raises:
        UserError: There is none.

    >>> str(key_of("stbp-cifar10-binary-desk-s7"))
    'stbp-cifar10-binary-desk-s7'
    """
    seed = name.rpartition("-s")[2]
    if seed.isdecimal():
        for cell in ALL_CELLS:
            for precision in cell.precisions:
                for tier in TIERS:
                    if str(key := RunKey(cell, precision, int(seed), tier)) == name:
                        return key
    raise UserError(f"invalid run name {name}: see `python -m repro cells`")
