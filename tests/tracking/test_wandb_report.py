"""A W&B report: what it shows of a project's runs, saved to the stand-in."""

import json
import shutil

import pytest
from test_wandb_tables import ENTITY, RESULTS, put
from wandb_cli import WandbCli
from wandb_standin import Standin

from repro.results.rows import read_rows


@pytest.mark.slow
def test_a_report_has_tables_ablations_and_histograms(server: Standin, cli: WandbCli) -> None:
    rows = read_rows(RESULTS / "rows")
    for number, row in enumerate(rows):
        put(server, row, f"run{number}")
    for lr in (0.1, 0.2):
        config = {"ablation": {"value": "lr"}, "recipe": {"value": {"cbp": {"lr": lr}, "width": 1}}}
        put(server, rows[0], f"lr{lr}", config=config)
    put(server, None, "latent", summary={"latent/conv2": {"_type": "histogram"}})
    (cli.folder / "results").mkdir()
    shutil.copy(RESULTS / "paper.csv", cli.folder / "results")
    printed = cli.start("repro", "wandb-report", f"{ENTITY}/cbp-qsnn").finish()
    assert f"Report of {ENTITY}/cbp-qsnn, " in printed
    assert server.url in printed
    (view,) = server.state.views
    assert view["entityName"], view["projectName"] == (ENTITY, "cbp-qsnn")
    spec = view["spec"]
    json.loads(spec)
    accuracy = (RESULTS / "accuracy_desk.md").read_text("utf-8")
    line = next(line for line in accuracy.splitlines() if line.startswith("| stbp/cifar10 "))
    assert json.dumps(line, ensure_ascii=False)[1:-1] in spec or json.dumps(line)[1:-1] in spec
    for shown in ("config:recipe.value.cbp.lr", "summary:test/accuracy", "latent/conv2", "cbp/g"):
        assert shown in spec
    assert "recipe.value.width" not in spec  # the same in all runs


@pytest.mark.slow
def test_a_project_without_rows_is_one_clear_line(server: Standin, cli: WandbCli) -> None:
    put(server, None, "failed", state="failed")
    (cli.folder / "results").mkdir()
    shutil.copy(RESULTS / "paper.csv", cli.folder / "results")
    process = cli.start("repro", "wandb-report", f"{ENTITY}/cbp-qsnn")
    assert "no run of the tables is finished" in process.finish(2)
    assert "Traceback" not in process.printed


@pytest.mark.slow
def test_histograms_reach_the_server_on_request_only(server: Standin, cli: WandbCli) -> None:
    words = ("run", "--method=stbp", "--dataset=cifar10", "--tier=smoke", "--train_images=40")
    cli.start("repro", *words).finish()
    for precision, asked in (("ternary", []), ("binary", ["--wandb-media"])):
        cli.start("repro", *words, f"--precision={precision}", "--wandb=online", *asked).finish()
    told = {
        run.about["jobType"] + run.about["tags"][1]: [
            key for line in run.history for key, value in line.items() if "histogram" in str(value)
        ]
        for run in server.state.runs.values()
        if run.history
    }
    assert told["cbpternary"] == []
    assert len(told["cbpbinary"]) > len(set(told["cbpbinary"])) >= 8  # layers, before CBP and after
    assert all(key.startswith("latent/") for key in told["cbpbinary"])
