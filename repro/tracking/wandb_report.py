"""A W&B report of a project: its tables, its ablations, how latent weights gather.

``wandb-workspaces``, the extra ``[wandb-report]``, describes the report; the server keeps it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from repro.errors import UserError
from repro.results.row import flat
from repro.tracking.logger import LATENT
from repro.tracking.project_rows import ABLATION, runs_of

TITLE: Final = "CBP-QSNN: tables, ablations, latent weights"
OUTCOMES: Final = ("val/accuracy", "test/accuracy", "memory/packed_bytes")
CURVES: Final = ("val/accuracy", "cbp/g", "cbp/cfs")


def save_report(project: str, tables: Sequence[str]) -> str:
    """Save a new report in a W&B project; return its address.

    Args:
        project: ``<entity>/<project>``; the server is W&B's own setting (WANDB_BASE_URL).
        tables: What it begins with, as Markdown.

    Raises:
        UserError: The extra is missing, or the server does not take the report.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
    except ImportError as error:
        raise UserError(
            "wandb-report takes an extra: pip install 'cbp-qsnn[wandb-report]'"
        ) from error
    entity, name = project.split("/")
    blocks = [wr.MarkdownBlock(text=table) for table in tables] + panels(runs_of(project))
    report = wr.Report(project=name, entity=entity, title=TITLE, blocks=blocks)
    try:
        return str(report.save().url)
    except Exception as error:  # its failures, and wandb's, are of many types
        said = " ".join(str(error).split())
        raise UserError(f"W&B project {project} does not take the report ({said})") from error


def panels(runs: Sequence[Any]) -> list[Any]:
    """Return blocks of panels: curves of CBP, histograms if runs have them, ablations.

    Args:
        runs: All runs of the project, as W&B's API gives them.
    """
    import wandb_workspaces.reports.v2 as wr

    of_cbp = wr.Runset(name="CBP", filters="Metric('JobType') = 'cbp'")
    curves = [wr.LinePlot(title=name, y=[name]) for name in CURVES]
    blocks = [wr.H1(text="CBP, epoch by epoch"), wr.PanelGrid(runsets=[of_cbp], panels=curves)]
    if layers := latent_layers(runs):
        shown = [wr.LinePlot(title=layer, y=[layer]) for layer in layers]
        blocks.append(wr.H1(text="Latent weights gather at the levels: choose one run"))
        blocks.append(wr.PanelGrid(runsets=[of_cbp], panels=shown))
    for ablation, varied in varied_numbers(runs).items():
        title = f"Ablation {ablation}"
        found = wr.Runset(name=ablation, filters=f"Config('{ABLATION}') = '{ablation}'")
        columns = [wr.Config(number) for number in varied]
        columns += [wr.SummaryMetric(outcome) for outcome in OUTCOMES]
        lines = [wr.ParallelCoordinatesPlotColumn(column) for column in columns]
        drawn = wr.ParallelCoordinatesPlot(title=title, columns=lines)
        blocks += [wr.H1(text=title), wr.PanelGrid(runsets=[found], panels=[drawn])]
    return blocks


def latent_layers(runs: Iterable[Any]) -> list[str]:
    """Return the keys of all histograms that runs have logged, sorted."""
    return sorted({key for run in runs for key in dict(run.summary) if key.startswith(LATENT)})


def varied_numbers(runs: Iterable[Any]) -> dict[str, list[str]]:
    """Return, by ablation, the names of the numbers of the recipe in which its runs differ, sorted.

    >>> class Run:
    ...     def __init__(self, lr):
    ...         self.config = {"ablation": "a", "recipe": {"cbp": {"lr": lr}, "width": 1}}
    >>> varied_numbers([Run(1), Run(2)])
    {'a': ['recipe.cbp.lr']}
    """
    found: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        if (name := run.config.get(ABLATION)) is not None:
            values = found.setdefault(name, {})
            for number, value in flat(run.config.get("recipe", {}), "recipe"):
                values.setdefault(number, set()).add(repr(value))
    return {
        name: sorted(number for number, seen in values.items() if len(seen) > 1)
        for name, values in sorted(found.items())
    }
