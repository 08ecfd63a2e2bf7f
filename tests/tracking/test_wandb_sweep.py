"""The real ``wandb sweep``, ``wandb agent`` and ``wandb sync`` against a stand-in of the server."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import sweep_smoke
import yaml
from clock import wait_for
from wandb_cli import ROOT, WandbCli
from wandb_standin import Standin, WandbRun, WandbSweep

from repro.cli import main
from repro.results.row import Row
from repro.results.rows import read_rows
from repro.sweep.sweep_file import expand, load

PARENTS, CHILDREN = (ROOT / f"tests/sweeps/tiny_{name}.yaml" for name in ("fp32", "cbp"))
SYNC = re.compile(r"^cbp-qsnn: W&B d.*; later: wandb sync (.*)$", re.MULTILINE)
# Long enough to be killed in the middle.
LONG = {"epochs": 12, "train_images": 1000, "seed": [0]}


def changed(file: Path, folder: Path, **values: Any) -> Path:
    """A copy of a sweep file with other values of some parameters."""
    content = yaml.safe_load(file.read_text())
    for name, value in values.items():
        content["parameters"][name] = {"values" if isinstance(value, list) else "value": value}
    path = folder / f"changed_{file.name}"
    path.write_text(yaml.safe_dump(content))
    return path


def words(cli: WandbCli, file: Path, wandb: str = "off") -> list[str]:
    """Words of the first run of a sweep file."""
    places = {"runs": f"{cli.folder}/runs", "rows": f"{cli.folder}/results/rows"}
    return list(expand(load(file), {**places, "wandb": wandb})[0])


def rows_of(cli: WandbCli) -> dict[str, Row]:
    return {str(row.key): row for row in read_rows(cli.folder / "results/rows")}


def the_sweep(server: Standin, path: str) -> WandbSweep:
    return server.state.sweeps[path.rpartition("/")[2]]


def key_of(run: WandbRun) -> str:
    key: str = run.config["key"]["value"]
    return key


def epochs(run: WandbRun) -> list[int]:
    """Epochs of which the history has an accuracy, in order."""
    return [row["epoch"] for row in run.history if "val/accuracy" in row]


def kill_with_children(process: int) -> None:
    """Kill a process and all below it at once, as a machine that loses its power does."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    for child in {child for task in tasks for child in task.read_text().split()}:
        kill_with_children(int(child))
    os.kill(process, signal.SIGKILL)


def is_training(cli: WandbCli) -> bool:
    return any(cli.folder.glob("runs/*/last.ckpt"))


@pytest.mark.slow
def test_two_agents_make_every_run_of_a_grid_once(server: Standin, cli: WandbCli) -> None:
    assert main(words(cli, PARENTS)) == 0  # of seed 0; seed 2 has no parent
    path = cli.sweep(changed(CHILDREN, cli.folder, precision="binary"))
    printed = [agent.finish() for agent in cli.agents(path)]  # with 0, whatever became of its runs
    assert all("Agent received command: run" in text for text in printed)

    sweep, rows = the_sweep(server, path), rows_of(cli)
    assert sweep.state == "FINISHED"
    points = [tuple(run.config[n]["value"] for n in ("precision", "seed")) for run in sweep.runs]
    assert sorted(points) == [("binary", 0), ("binary", 2)]
    assert [(run.given, run.starts) for run in sweep.runs] == [(1, 1)] * 2
    for run in sweep.runs:
        if run.config["seed"]["value"] == 2:
            assert (run.state, run.exit_code, epochs(run)) == ("failed", 2, [])
            assert key_of(run) not in rows
            continue
        row = rows.pop(key_of(run))
        assert (run.state, run.exit_code, epochs(run)) == ("finished", 0, [0, 1])
        assert run.summary["test/accuracy"] == row.accuracy_file
        assert run.summary["memory/packed_bytes"] == row.file_bytes
        assert run.config["recipe"]["value"] == row.recipe
        assert run.about["jobType"] == "cbp"
        assert run.about["displayName"] == str(row.key)
    assert list(rows) == ["stbp-cifar10-fp32-smoke-s0"]
    assert "seed 2" not in "".join(printed)
    assert "s2 starts from stbp-cifar10-fp32-smoke-s2, missing" in "".join(printed)


@pytest.mark.slow
def test_make_sweep_smoke_comes_out_as_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep_smoke.main() == 0
    shown = capsys.readouterr().out
    assert shown.count("failed (exit code 2), 0 epochs logged\n") == 2
    assert shown.count("finished (exit code 0), 2 epochs logged, test accuracy ") == 4


@pytest.mark.slow
def test_a_server_that_never_answers_makes_the_run_log_offline(
    server: Standin, cli: WandbCli
) -> None:
    of_sweep = {"WANDB_SWEEP_ID": cli.sweep(PARENTS).rpartition("/")[2], "WANDB_RUN_ID": "run12345"}
    server.stop()
    cli.environment |= {"WANDB_INIT_TIMEOUT": "2", **of_sweep}
    command = words(cli, PARENTS, "online")
    printed = cli.start("repro", *command).finish()
    (said,) = SYNC.findall(printed)
    assert "W&B does not take the run" in printed
    (row,) = rows_of(cli).values()

    server.start()
    assert server.state.runs == {}
    cli.wandb("sync", *said.split())
    (run,) = server.state.runs.values()
    assert (run.state, run.exit_code, epochs(run)) == ("finished", 0, [0, 1])
    assert run.summary["test/accuracy"] == row.accuracy_file
    assert (run.sweep, run.name) == tuple(of_sweep.values())


@pytest.mark.slow
def test_a_server_that_dies_delays_the_end_a_little_and_history_comes_later(
    server: Standin, cli: WandbCli
) -> None:
    cli.environment |= {"WANDB_FINISH_TIMEOUT": "3"}
    file = changed(PARENTS, cli.folder, **LONG)
    process = cli.start("repro", *words(cli, file, "online"))
    wait_for(lambda: is_training(cli), "the run has a checkpoint")
    server.stop()
    (run,) = server.state.runs.values()
    assert (run.state, len(epochs(run)) < LONG["epochs"]) == ("running", True)
    printed = process.finish()
    model, history = SYNC.findall(printed)
    assert "W&B did not take everything" in printed
    (row,) = rows_of(cli).values()

    server.start()
    cli.wandb("sync", *history.split())
    cli.wandb("sync", *model.split())
    assert (run.state, run.exit_code) == ("finished", 0)
    assert epochs(run) == list(range(LONG["epochs"]))
    assert run.summary["test/accuracy"] == row.accuracy_file


@pytest.mark.slow
def test_a_stopped_sweep_finishes_its_run_and_starts_no_other(
    server: Standin, cli: WandbCli
) -> None:
    path = cli.sweep(PARENTS)
    (agent,) = cli.agents(path, 1)
    sweep = the_sweep(server, path)
    wait_for(lambda: any(run.state == "running" for run in sweep.runs), "a run runs")
    cli.wandb("sweep", "--stop", path)
    assert sweep.state == "FINISHED"
    agent.finish()
    assert [(run.state, run.exit_code) for run in sweep.runs] == [("finished", 0)]
    assert len(rows_of(cli)) == 1


@pytest.mark.slow
def test_a_killed_agent_leaves_the_rest_to_another_and_its_run_to_the_next_sweep(
    server: Standin, cli: WandbCli
) -> None:
    file = changed(PARENTS, cli.folder, **{**LONG, "seed": [0, 1]})
    path = cli.sweep(file)
    sweep = the_sweep(server, path)
    (agent,) = cli.agents(path, 1)
    wait_for(lambda: is_training(cli), "the first run has a checkpoint")
    kill_with_children(agent.process.pid)
    agent.process.wait()
    server.state.lapse()
    (other,) = cli.agents(path, 1)
    other.finish()
    assert [(run.state, run.exit_code) for run in sweep.runs] == [
        ("crashed", None),
        ("finished", 0),
    ]
    assert list(rows_of(cli)) == ["stbp-cifar10-fp32-smoke-s1"]

    again = cli.sweep(file)
    for started in cli.agents(again):
        started.finish()
    runs = {run.config["seed"]["value"]: run for run in the_sweep(server, again).runs}
    assert {run.state for run in runs.values()} == {"finished"}
    assert 0 < len(epochs(runs[0])) < LONG["epochs"]  # it went on where it was killed
    assert epochs(runs[1]) == []  # there was nothing left to do
    rows = rows_of(cli)
    for seed, run in runs.items():
        assert (
            run.summary["test/accuracy"] == rows[f"stbp-cifar10-fp32-smoke-s{seed}"].accuracy_file
        )


@pytest.mark.slow
def test_a_preempted_run_is_resumed_by_another_agent(server: Standin, cli: WandbCli) -> None:
    path = cli.sweep(changed(PARENTS, cli.folder, **LONG))
    agent = cli.start("wandb", "agent", "--forward-signals", path)
    wait_for(lambda: is_training(cli), "the run has a checkpoint")
    agent.process.send_signal(signal.SIGTERM)
    agent.process.wait(60)
    (run,) = the_sweep(server, path).runs
    assert (run.state, run.exit_code) == ("preempted", 130), agent.printed
    (other,) = cli.agents(path, 1)
    assert "Agent received command: resume" in other.finish()
    assert (run.state, run.exit_code, run.starts) == ("finished", 0, 2)
    assert sorted(set(epochs(run))) == list(range(LONG["epochs"]))
    (row,) = rows_of(cli).values()
    assert run.summary["test/accuracy"] == row.accuracy_file


@pytest.mark.slow
def test_a_run_that_wandb_ends_early_is_not_given_out_again(server: Standin, cli: WandbCli) -> None:
    path = cli.sweep(changed(PARENTS, cli.folder, **{**LONG, "epochs": 100_000}))
    (agent,) = cli.agents(path, 1)
    wait_for(lambda: is_training(cli), "the run has a checkpoint")
    (run,) = the_sweep(server, path).runs
    run.is_stopped = True
    assert "Agent received command: stop" in agent.finish()
    assert (run.state, run.exit_code, run.is_preempting) == ("failed", 130, False), agent.printed
    assert (run.given, the_sweep(server, path).state) == (1, "FINISHED")
