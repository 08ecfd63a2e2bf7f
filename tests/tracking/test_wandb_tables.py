"""Tables out of a W&B project: those of the rows, with doubles, holes and weak rows named."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from made_rows import other_recipe
from test_wandb_sweep import CHILDREN, PARENTS, rows_of
from wandb_cli import ROOT, WandbCli
from wandb_projects import ENTITY
from wandb_standin import Standin, WandbRun

from repro.results.row import Row
from repro.results.rows import read_rows, row_to_text

PROJECT = f"wandb:{ENTITY}/cbp-qsnn"
RESULTS = ROOT / "results"


def put(server: Standin, row: Row | None, name: str, **changes: object) -> None:
    """Let the project have a run with this row in its summary."""
    summary = {} if row is None else {"row": row_to_text(row)}
    about = {"displayName": name if row is None else str(row.key)}
    run = WandbRun(name, "cbp-qsnn", state="finished", summary=summary, about=about)
    server.state.runs[name] = replace(run, **changes)  # type: ignore[arg-type]


def tables(cli: WandbCli, name: str, source: str, rows: Path) -> tuple[Path, str]:
    """Make the tables from a source; return their folder and what was printed."""
    results = cli.folder / name
    results.mkdir()
    for path in [RESULTS / "paper.csv", *RESULTS.glob("linear_*.json")]:
        shutil.copy(path, results)
    places = [f"--results={results}", f"--rows={rows}"]
    return results, cli.start("repro", "tables", f"--from={source}", *places).finish()


def contents(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.slow
def test_a_project_gives_the_committed_tables_and_says_what_it_leaves_out(
    server: Standin, cli: WandbCli
) -> None:
    """More runs than a page of the server has; a double, a failure, an ablation, a hole."""
    rows = read_rows(RESULTS / "rows")
    old = replace(rows[0], wall_seconds=1.0)
    put(server, old, "old", state="finished")
    for number, row in enumerate(rows):
        put(server, row, f"run{number}")
    stale = replace(rows[1], **other_recipe(**rows[1].recipe, more=1))
    put(server, stale, "stale")
    put(server, None, "failed", state="failed")
    put(server, rows[2], "apart", config={"ablation": {"value": "window"}})
    for number in range(50 - len(rows)):
        put(server, None, f"crashed{number}", state="crashed")
    found, printed = tables(cli, "found", PROJECT, cli.folder / "empty")
    assert contents(found) == {
        path: content for path, content in contents(RESULTS).items() if path in contents(found)
    }
    assert "accuracy_desk.md" in map(str, contents(found))
    assert f"{rows[0].key} has run twice: old is left out, run0 is newer." in printed
    assert f"{rows[1].key} has run twice: stale is left out, run1 is of today's recipe." in printed
    assert "failed (failed) is failed and has no row." in printed
    assert f"{rows[2].key} (apart) is of the ablation window: no run of the tables." in printed
    assert "python -m repro run --method stbp --dataset cifar100 --precision fp32" in printed


@pytest.mark.slow
def test_weak_rows_of_a_project_are_marked(server: Standin, cli: WandbCli) -> None:
    rows = [row for row in read_rows(RESULTS / "rows") if row.method == "stbp"][:4]
    for mark in ("‡", "†"):
        server.state.runs.clear()
        for number, row in enumerate(rows):
            weak = {"git_dirty": True} if mark == "‡" else other_recipe(**row.recipe, more=1)
            put(server, replace(row, **weak), f"run{number}")
        found, _ = tables(cli, mark, PROJECT, cli.folder / "empty")
        assert mark in (found / "accuracy_desk.md").read_text()
        assert mark not in (RESULTS / "accuracy_desk.md").read_text()


@pytest.mark.slow
def test_a_project_that_is_not_there_is_one_clear_line(server: Standin, cli: WandbCli) -> None:
    words = [f"--from=wandb:{ENTITY}/absent", f"--results={RESULTS}"]
    process = cli.start("repro", "tables", *words)
    assert "W&B project local/absent cannot be read" in process.finish(2)
    assert "Traceback" not in process.printed


@pytest.mark.slow
def test_a_sweep_that_was_run_gives_the_same_tables_from_the_server(
    server: Standin, cli: WandbCli
) -> None:
    for file in (PARENTS, CHILDREN):
        path = cli.sweep(file)
        for agent in cli.agents(path):
            agent.finish()
    assert len(rows_of(cli)) == 4
    here, _ = tables(cli, "here", "rows", cli.folder / "results/rows")
    there, printed = tables(cli, "there", PROJECT, cli.folder / "empty")
    assert contents(there) == contents(here)
    assert "-binary-smoke-s2 (" in printed  # the child without a parent has no row
    shown = (there / "smoke/accuracy_smoke.md").read_text("utf-8")
    assert "†" in shown  # tiny runs have recipes of their own
