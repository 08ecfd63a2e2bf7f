"""What the page of one run says: where its numbers come from, and what weakens them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from repro.cells import QUANTISED
from repro.report.page.curves import curves_figure
from repro.report.page.figure import Figure
from repro.report.page.firing import firing_figure
from repro.report.page.gathering import gathering_figures
from repro.report.page.trace import Trace
from repro.report.tier_rows import Hashes, TierRows, difference, is_stale
from repro.report.wording import (
    CHANCE,
    NAMES,
    SCALE,
    SIMULATION,
    STEP_NAMES,
    steps_in_order,
    with_interval,
)
from repro.results.published import UNKNOWN
from repro.results.row import Row, unpack_correct
from repro.results.statistics import pair

WEAK: Final = {
    "†": "stale: the recipe has changed since",
    "‡": "dirty: the tree had changes that were not committed",
    "¶": "its parent's row, or the ANN's above that, is missing or has changed since",
}
Pairs = list[tuple[str, "str | Link"]]


@dataclass(frozen=True)
class Link:
    """The name of another run, and what stands behind it."""

    key: str
    rest: str = ""


@dataclass(frozen=True)
class RunView:
    """Everything that the page of one run shows.

    Attributes:
        key: Name of the run.
        lead: One sentence about what it is.
        badges: Kind, empty or ``warn``, and words.
        pairs: Names and values of ``accuracy``, ``paired`` (against parent and control),
            ``memory``, ``origin`` and ``recipe``.
        figures: In their order.
    """

    key: str
    lead: str
    badges: list[tuple[str, str]]
    pairs: dict[str, Pairs]
    figures: list[Figure]


def run_view(row: Row, tier: TierRows, trace: Trace, keys: Collection[str] = ()) -> RunView:
    """Return what the page of a run shows.

    Args:
        row: The run.
        tier: All rows of its tier.
        trace: What its run folder holds.
        keys: Runs that have a page of their own, to link them.
    """
    cell, parent = row.key.cell, tier.parent(row)
    return RunView(
        key=str(row.key),
        lead=f"{NAMES[row.precision]} {cell.network}, {cell}, T {_steps(row)}, seed {row.seed}",
        badges=_badges(row, tier),
        pairs={
            "accuracy": list(_accuracy(row)),
            "paired": list(_paired(row, parent, tier.sibling(row, "fp32_control"), keys)),
            "memory": list(_memory(row)),
            "origin": list(_origin(row, tier.hashes)),
            "recipe": [(name, str(value)) for name, value in flat(row.recipe)],
        },
        figures=[
            curves_figure(row, trace),
            *gathering_figures(row, trace),
            firing_figure(row, parent),
        ],
    )


def _steps(row: Row) -> str:
    """Return T of the run, and of the paper where that is another one."""
    ours, theirs = row.recipe.get("time_steps", row.key.cell.time_steps), row.key.cell.time_steps
    return str(ours) if ours == theirs else f"{ours} (the paper's {theirs})"


def _badges(row: Row, tier: TierRows) -> list[tuple[str, str]]:
    """Return the tier, and what weakens the run's numbers."""
    badges = [("", f"tier {row.tier}: {SCALE[row.tier]}")]
    if row.key.cell.simulated:
        badges.append(("warn", SIMULATION))
    elif row.tier != "paper":
        badges.append(("warn", "§ not comparable with published numbers"))
    if row.data != row.key.cell.dataset:
        badges.append(("warn", f"read {row.data}, not {row.key.cell.dataset}"))
    found = tier.marks([row])
    return badges + [("warn", f"{mark} {words}") for mark, words in WEAK.items() if mark in found]


def _accuracy(row: Row) -> Iterator[tuple[str, str]]:
    """Yield the accuracy three ways, that of the file, and the CFS."""
    if row.conversion is not None:
        for step in steps_in_order(row.conversion):
            yield STEP_NAMES[step], _percent(row.conversion[step])
    else:
        done = row.epochs_done
        yield (
            "picked on validation",
            f"{_percent(row.accuracy_selected)}, epoch {row.epoch_selected + 1} of {done}",
        )
        yield "last epoch", f"{_percent(row.accuracy_last)}, epoch {done}"
        yield (
            "best test epoch",
            f"{_percent(row.accuracy_best_test)}, epoch {row.epoch_best_test + 1}; optimistic: "
            "the test images picked it",
        )
    yield "validation images then", _percent(row.accuracy_val_selected)
    yield "saved file", f"{_percent(row.accuracy_file)}, loaded into a fresh network"
    yield "test images", f"{row.test_images:,}"
    if row.cfs_first is not None and row.cfs_last is not None:
        yield "constraint failure score", f"{row.cfs_first:.3g} -> {row.cfs_last:.3g}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _paired(
    row: Row, parent: Row | None, control: Row | None, keys: Collection[str]
) -> Iterator[tuple[str, str | Link]]:
    """Yield the paired test against the parent, and against the control."""
    if row.parent is None:
        yield "parent", "none: it starts from fresh weights"
        return
    yield "parent", Link(row.parent) if row.parent in keys else f"{row.parent}, not on this page"
    if row.difference_from_parent is not None and row.mcnemar_p is not None:
        # The interval requires the parent's own images; the counts stand in the row.
        here = (row.data_checksum, row.accuracy_parent, row.test_images)
        if parent and (parent.data_checksum, parent.accuracy_file, parent.test_images) == here:
            yield "this run minus parent", f"{with_interval(difference([parent], [row]))} points"
        else:
            points = f"{100 * row.difference_from_parent:+.2f} points"
            yield "this run minus parent", f"{points}; interval n/a without the parent's row"
        yield "only the parent right", f"{row.parent_only_right:,} images"
        yield "only this run right", f"{row.child_only_right:,} images"
        yield "McNemar p, exact, two-sided", f"{row.mcnemar_p:.2g}: {_verdict(row.mcnemar_p)}"
    if row.precision not in QUANTISED:
        return
    if control is None:
        yield "FP32 control", "not run"
    elif (control.data_checksum, control.test_images) != (row.data_checksum, row.test_images):
        yield "FP32 control", Link(str(control.key), " read other images: not compared")
    else:
        yield "FP32 control", Link(str(control.key))
        images = [unpack_correct(each.correct, each.test_images) for each in (control, row)]
        counts = pair(images[0], images[1])
        yield (
            "this run minus control",
            f"{with_interval(difference([control], [row]))} points; only the control right "
            f"{counts.parent_only_right:,}, only this run {counts.child_only_right:,}; "
            f"p {counts.mcnemar_p:.2g}: {_verdict(counts.mcnemar_p)}",
        )


def _verdict(p: float) -> str:
    return f"{'more' if p < CHANCE else 'no more'} than chance explains"


def _memory(row: Row) -> Iterator[tuple[str, str]]:
    """Yield weights and bytes."""
    share = 100 * row.weights_only_bytes / row.fp32_bytes
    yield "weights", f"{row.weights:,}, {row.quantised_weights:,} of them quantised"
    yield "weights in FP32", f"{row.fp32_bytes:,.0f} bytes"
    yield "weights as they are", f"{row.weights_only_bytes:,.0f} bytes, {share:.2f} % of FP32"
    yield "with everything else", f"{row.everything_bytes:,.0f} bytes, computed"
    yield "saved file", f"{row.file_bytes:,} bytes, measured"


def _origin(row: Row, hashes: Hashes) -> Iterator[tuple[str, str]]:
    """Yield commit, recipe, versions, device and data."""
    state = {None: "not checked", False: "today's", True: "stale"}[is_stale(row, hashes)]
    yield "command", row.key.command()
    yield "commit", f"{row.git_sha}, {'tree with changes' if row.git_dirty else 'clean tree'}"
    yield "recipe", f"hash {row.recipe_hash}, {state}"
    yield "versions", ", ".join(f"{name} {found}" for name, found in row.versions.items())
    yield "device", row.device
    yield "wall time", f"{row.wall_seconds:,.1f} s"
    yield "epochs", f"{row.epochs_done} of {row.epochs}"
    counts = f"{row.train_images:,} / {row.val_images:,} / {row.test_images:,}"
    yield "data", f"{row.data}, {counts} training / validation / test"
    yield "data checksum", row.data_checksum
    yield "parent's file, sha256", row.parent_file_sha256 or UNKNOWN
    drop = row.epoch_lr_drop
    if row.key.has_cbp_phase:
        said = "never, or not known" if drop is None else f"in epoch {drop + 1}"
        yield "learning rate dropped", said


def flat(recipe: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    """Yield every number of a recipe by its dotted name.

    >>> list(flat({"lr": 1, "cbp": {"epochs": 2}}))
    [('lr', 1), ('cbp.epochs', 2)]
    """
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
