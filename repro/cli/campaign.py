"""``campaign``: a whole tier in slices."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from repro.cells import RunKey, Tier, find_cell
from repro.cli.parsing import DATA, ROWS, RUNS, TIER, parse
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.campaign.campaign import Campaign


@dataclass(frozen=True)
class CampaignArguments:
    """Run a whole tier in slices: each call continues the most valuable unfinished run.

    Attributes:
        time_budget: Time of this call, for example 9m or 1h30m; by default it ends with the table.
        seeds: Seeds; the first one of every cell comes before the second one of any.
        cells: Cells in order of their value, for example snn_calibration/cifar100; by default the
            five on CIFAR, snn_calibration/cifar100 first; four at the desk tier, without
            stbp/cifar100.
        out: Pack what must travel into this folder, in files of at most 16 MiB.
        limit: MiB of all packed files together. Rows, metrics and packed models come first; FP32
            models and the state of the unfinished run travel if they fit.
        take: Before that, take over what an earlier call packed there.
        kit: Folder that --prepare filled: restore the data from it, and learn the commit.
        prepare: Fill that folder for a machine without network and git, and do nothing else.
        plan: Print what each run that is left will cost on this device, and do nothing else.
    """

    time_budget: str | None = None
    tier: Annotated[Tier, TIER] = "paper"
    seeds: tuple[int, ...] = (0, 1, 2)
    cells: tuple[str, ...] = ()
    out: Path | None = None
    limit: int = 60
    take: Path | None = None
    kit: Path | None = None
    prepare: Path | None = None
    plan: bool = False
    runs: Annotated[Path, RUNS] = Path("runs")
    rows: Annotated[Path, ROWS] = Path("results/rows")
    data_dir: Annotated[Path | None, DATA] = None

    def __post_init__(self) -> None:
        """Refuse a campaign of nothing."""
        if not self.seeds or self.limit < 1:
            raise UserError(
                f"seeds are {self.seeds}, limit is {self.limit}: give 1 or more of both"
            )


def command_campaign(arguments: Sequence[str]) -> int:
    """Continue the table while there is time; pack what travels."""
    started = time.monotonic()
    chosen = parse(CampaignArguments, arguments)
    from datamodules.base import find_folder
    from repro.campaign.campaign import Campaign, by_default
    from repro.campaign.offline_kit import prepare, use
    from repro.campaign.transfer import unpack
    from repro.provenance import ROOT, git_state
    from repro.run.deadline import seconds_in

    budget = None if chosen.time_budget is None else seconds_in(chosen.time_budget)
    cells = tuple(find_cell(*name.split("/", 2)) for name in chosen.cells)
    cells = cells or by_default(chosen.tier)
    data_dir = find_folder(chosen.data_dir)
    if chosen.prepare is not None:
        print("\n".join(map(str, prepare(chosen.prepare, cells, chosen.tier, data_dir))))
        return 0
    if chosen.kit is not None:
        use(chosen.kit, cells, chosen.tier, data_dir)
    if chosen.take is not None:
        for name in unpack(chosen.take, chosen.runs, chosen.rows):
            print(f"taken over: {name}")
    commit = git_state(ROOT)[0]
    campaign = Campaign(cells, chosen.tier, chosen.seeds, chosen.runs, chosen.rows, commit)
    if chosen.plan:
        return plan_campaign(campaign, data_dir)
    return go_on(campaign, data_dir, started, budget, chosen)


def plan_campaign(campaign: "Campaign", data_dir: Path) -> int:
    """Print what each run that is left will cost here."""
    from repro.campaign.estimate import table_of_estimates
    from repro.recipes.spec import RunSpec
    from repro.run.places import Places

    left = [RunSpec.shipped(key) for key in campaign.all_runs() if not campaign.has_row(key)]
    width = shutil.get_terminal_size((100, 24)).columns
    print(table_of_estimates(left, Places(campaign.runs, campaign.rows, data_dir), width))
    return 0


def go_on(
    campaign: "Campaign",
    data_dir: Path,
    started: float,
    budget: float | None,
    chosen: CampaignArguments,
) -> int:
    """Make runs until shortly before the time is up, and pack what travels."""
    from repro.campaign.campaign import packed_in_words, reserve, run_slice, slice_in_words
    from repro.interrupts import ending_like_ctrl_c
    from repro.recipes.spec import RunSpec
    from repro.report.run_summary import run_in_words
    from repro.run.lifecycle import run
    from repro.run.places import Places

    places = Places(campaign.runs, campaign.rows, data_dir)

    def make(key: RunKey, deadline: float | None) -> None:
        row = run(RunSpec.shipped(key), replace(places, deadline=deadline))
        print(run_in_words(row), flush=True)

    deadline = None if budget is None else started + budget - reserve(budget)
    with ending_like_ctrl_c():
        found = run_slice(campaign, make, deadline)
    if chosen.out is not None:
        print(packed_in_words(campaign, found, chosen.out, chosen.limit))
    print(slice_in_words(campaign, found))
    return int(bool(found.failed or found.without_data))
