"""The page: rows, tables and figures through a template into one HTML file."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from repro.cells import CELLS, TIERS
from repro.files import write_atomically
from repro.provenance import versions
from repro.report.headline import headline_figure, headline_table
from repro.report.linear_model import linear_models
from repro.report.page.curves import failure_figure
from repro.report.page.figure import CHART, LIGHT, Figure
from repro.report.page.memory_panels import memory_figure
from repro.report.page.run_view import Link, RunView, run_view
from repro.report.page.trace import Trace, read_trace
from repro.report.publish import tier_tables
from repro.report.runs_csv import runs_csv
from repro.report.summary import summary
from repro.report.tier_rows import MARKS, Hashes, TierRows, is_stale
from repro.report.weight_memory import memory_of_cells, memory_table
from repro.report.wording import NOT_RUN, SCALE, SIMULATION, plural, signed_points
from repro.results.published import UNKNOWN, PublishedNumbers
from repro.results.row import Row
from repro.table import Table

HERE: Final = Path(__file__).parent
TITLE: Final = "CBP-QSNN reproduction"
DARK: Final = {
    **{"ink": "#e4e8ec", "paper": "#14171b", "quiet": "#9aa4af", "line": "#343a42"},
    **{"band": "#1c2026", "link": "#79b8f0", "warn": "#e69f3c"},
    **{"binary": "#56b4e9", "ternary": "#f08a4b"},
    **{"binarytint": "#1c3442", "ternarytint": "#40291c"},
}
RUN_HEADER: Final = (
    *("run", "accuracy %", "minus parent, points", "memory, % of FP32", "CFS at the end"),
    *("marks", "run folder"),
)


@dataclass(frozen=True)
class Part:
    """The runs of one tier and group of cells.

    Attributes:
        id: Of its place on the page.
        title: Heading.
        scale: What the tier is.
        findings: Sentences about what its runs show.
        figures: Of all runs together.
        tables: By the names of their files.
        runs: What the page of each run shows, and its line in the list, without its name.
    """

    id: str
    title: str
    scale: str
    findings: tuple[str, ...]
    figures: tuple[Figure, ...]
    tables: tuple[tuple[str, Table], ...]
    runs: tuple[tuple[RunView, tuple[str, ...]], ...]


def write_page(
    tiers: Sequence[TierRows],
    published: PublishedNumbers,
    results: Path,
    runs: Path,
    out: Path,
    study: Mapping[str, TierRows] = MappingProxyType({}),
) -> Path:
    """Write the page; it reads ``linear_*.json`` and ``logs`` in ``results``, and run folders.

    Args:
        tiers: Rows of all tiers.
        published: Numbers beside ours.
        results: Folder of these files.
        runs: Folder of run folders.
        out: The page.
        study: Rows of the headline as a curve (`repro.report.headline.read_headline`).
    """
    rows = [row for tier in tiers for row in tier.rows]
    traces = {str(row.key): read_trace(row, runs, results / "logs") for row in rows}
    parts = [
        _part(
            tier, tier_tables(tier, published, linear_models(results, tier.tier)), published, traces
        )
        for tier in tiers
        if tier.rows
    ]
    without = [tier for tier in TIERS if tier not in {"smoke", *(row.tier for row in rows)}]
    script, style = ((HERE / name).read_text("utf-8") for name in ("script.js", "style.css"))
    script = f"const LIGHT = {json.dumps(LIGHT)};\n{script}"
    styles = [palettes() + style, CHART.read_text("utf-8")]
    text = (
        _environment()
        .get_template("page.html")
        .render(
            title=TITLE,
            lead="Spiking networks with binary and ternary weights by constrained backpropagation: "
            "what was run, beside what is published.",
            policy=_policy(script, styles),
            style=styles[0],
            chart_style=styles[1],
            script=script,
            parts=parts,
            headline=(headline_figure(study), headline_table(study)) if study else (),
            run_header=RUN_HEADER,
            facts=_facts(rows, tiers[0].hashes, traces),
            not_run=[f"Tier {tier} ({SCALE[tier]}): {NOT_RUN}." for tier in without],
            memory=memory_table(published, memory_of_cells()),
            marks=[*MARKS.items(), ("§", "a tier that is not the paper's")],
            runs_csv=runs_csv(rows, tiers[0].hashes),
            footer=f"Made by cbp-qsnn {versions()['cbp_qsnn']} of "
            f"{plural(len(rows), 'row')}. An independent reproduction, not the authors' "
            "code. This file needs no network.",
        )
    )
    return write_atomically(out, text.lstrip())


def _part(
    tier: TierRows,
    tables: Mapping[str, Table],
    published: PublishedNumbers,
    traces: Mapping[str, Trace],
) -> Part:
    """Return one part of the page."""
    name = f"{tier.prefix.replace('_', '-')}{tier.tier}"
    about = f"{SIMULATION} " if tier.prefix == "simulated_" else ""
    return Part(
        id=name,
        title=tier.scope.capitalize(),
        scale=f"{about}Scale: {SCALE[tier.tier]}.",
        findings=() if tier.prefix else tuple(summary(tier)),
        figures=(
            memory_figure(tier, published),
            failure_figure(f"failure-{name}", tier.rows, traces, tier.cells),
        ),
        tables=tuple((f"{table}_{tier.tier}", each) for table, each in tables.items()),
        runs=tuple(
            (run_view(row, tier, trace, traces.keys()), _run_line(row, tier, trace))
            for row in tier.rows
            for trace in [traces[str(row.key)]]
        ),
    )


def _run_line(row: Row, tier: TierRows, trace: Trace) -> tuple[str, ...]:
    """Return the line of a run in the list of runs, without its name."""
    moved = row.difference_from_parent
    return (
        f"{100 * row.accuracy_selected:.2f}",
        "" if moved is None else signed_points(100 * moved),
        f"{100 * row.weights_only_bytes / row.fp32_bytes:.2f}",
        "" if row.cfs_last is None else f"{row.cfs_last:.2g}",
        tier.marks([row]).strip(),
        trace.missing.split(":")[0] or "here",
    )


def _facts(
    rows: Sequence[Row], hashes: Hashes, traces: Mapping[str, Trace]
) -> list[tuple[str, str, str]]:
    """Return the numbers at the top: name, value, explanation."""
    real = {row.key.cell for row in rows if row.tier != "smoke"} & set(CELLS)
    tiers = [tier for tier in TIERS if any(row.tier == tier for row in rows)]
    stale = sum(bool(is_stale(row, hashes)) for row in rows) if hashes else UNKNOWN
    dirty = sum(row.git_dirty for row in rows)
    here = sum(not trace.missing for trace in traces.values())
    trained = sum(not row.key.is_conversion for row in rows)
    return [
        ("Runs", str(len(rows)), f"tiers: {', '.join(tiers) or 'none'}"),
        ("Cells of the paper", f"{len(real)} of {len(CELLS)}", "run, the smoke tier left out"),
        ("Stale", str(stale), "the recipe has changed since †"),
        ("Dirty", str(dirty), "changes that were not committed ‡"),
        ("Curves", f"{here} of {trained}", "trained runs whose epochs are here"),
    ]


def palettes() -> str:
    """Return the colours as CSS: light, dark as the system or the switch says, light on paper."""
    light, dark = (
        "; ".join(f"--{name}: {colour}" for name, colour in palette.items())
        for palette in (LIGHT, DARK)
    )
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        "@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) "
        f"{{ color-scheme: dark; {dark} }} }}\n"
        f":root[data-theme=dark] {{ color-scheme: dark; {dark} }}\n"
        "@media print { :root, :root[data-theme=dark], :root:not([data-theme=light]) "
        f"{{ color-scheme: light; {light} }} }}\n"
    )


def _policy(script: str, styles: Sequence[str]) -> str:
    """Return the content security policy: this script, these styles, and nothing from elsewhere."""
    digests = [hashlib.sha256(text.encode()).digest() for text in (script, *styles)]
    first, *rest = (f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {first}; style-src {' '.join(rest)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _environment() -> Environment:
    """Return the templates' environment: everything is escaped but what is marked as markup."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markup"] = Markup
    environment.tests["quiet"] = lambda text: text in (NOT_RUN, UNKNOWN, "")
    environment.tests["marked"] = lambda note: note.startswith((*MARKS, "§", "≠"))
    environment.tests["link"] = lambda value: isinstance(value, Link)
    return environment
