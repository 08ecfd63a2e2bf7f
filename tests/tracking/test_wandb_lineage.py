"""Lineage: models as artifacts, parents used and fetched, and a server that stays away."""

import hashlib
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clock import wait_for
from made_rows import make_row, rewrite, right
from test_wandb_sweep import (
    CHILDREN,
    LONG,
    PARENTS,
    SYNC,
    changed,
    is_training,
    rows_of,
    words,
)
from wandb_artifacts import WandbArtifact, place_of
from wandb_cli import WandbCli
from wandb_standin import Standin, WandbRun

from repro import packing
from repro.cells import RunKey
from repro.cli import main
from repro.errors import UserError
from repro.results.row import Row
from repro.results.rows import row_to_text
from repro.run_folder import RunFolder
from repro.tracking import lineage as wandb_lineage
from repro.tracking.lineage import NoAnswerError, checked, fetch_parent, in_time, log_origin

PARENT, CHILD = "stbp-cifar10-fp32-smoke-s0", "stbp-cifar10-binary-smoke-s0"
END = 120  # s: so long the end of a run may take


class FakeRun:
    """A W&B run that has some artifacts and notes what it is asked for."""

    def __init__(self, *, offline: bool = False, **artifacts: Any) -> None:
        self.offline = offline
        self.artifacts = artifacts
        self.used: list[str] = []
        self.config: dict[str, Any] = {}

    def use_artifact(self, name: str, type: str) -> Any:
        self.used.append(name)
        if name not in self.artifacts:
            raise ValueError(f"{name} not found")
        return self.artifacts[name]


def logger_of(run: FakeRun) -> Any:
    return SimpleNamespace(experiment=run)


@pytest.fixture
def remote(tmp_path: Path) -> tuple[Row, Path]:
    """A parent's row, and the folder of its two files as they are logged."""
    folder = tmp_path / "remote"
    folder.mkdir()
    row = make_row(right(15))
    named = {"run": str(row.key), "recipe_hash": row.recipe_hash}
    size = packing.pack(folder / "model.safetensors", {"w": torch.ones(1000)}, {}, named)
    row = replace(row, file_bytes=size)
    (folder / "row.json").write_text(row_to_text(row))
    return row, folder


def artifact(folder: Path, sha256: str | None = None) -> Any:
    """An artifact whose files lie in a folder."""

    def entry(name: str) -> Any:
        def download(root: str, skip_cache: bool) -> None:
            shutil.copy(folder / name, root)

        return SimpleNamespace(download=download)

    content = (folder / "model.safetensors").read_bytes()
    metadata = {"sha256": sha256 or hashlib.sha256(content).hexdigest()}
    return SimpleNamespace(metadata=metadata, get_entry=entry)


def spec(key: RunKey, recipe_hash: str = make_row(right(15)).recipe_hash) -> Any:
    """A run of the recipe of the remote row."""
    return SimpleNamespace(key=key, hash=recipe_hash)


def test_what_takes_too_long_is_left_behind_and_what_fails_is_told() -> None:
    assert in_time(lambda: 3, 10) == 3
    never = threading.Event()
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.01 s"):
        in_time(never.wait, 0.01)
    never.set()

    def fail() -> None:
        raise RuntimeError("two\nlines")

    with pytest.raises(NoAnswerError, match=r"^two lines$"):
        in_time(fail, 10)


def test_a_parent_is_fetched_once_and_whole(remote: tuple[Row, Path], tmp_path: Path) -> None:
    row, folder = remote
    name = f"{row.key}:recipe-{row.recipe_hash}"
    run = FakeRun(**{name: artifact(folder)})
    runs, rows = tmp_path / "runs", tmp_path / "rows"
    for _ in range(2):
        fetch_parent(logger_of(run), spec(row.key), RunFolder.of(row.key, runs, rows))
        assert [path.name for path in runs.iterdir()] == [str(row.key)]
        assert (rows / f"{row.key}.json").read_text() == row_to_text(row) + "\n"
    assert run.used == [name]
    state, _ = packing.unpack(runs / str(row.key) / "model.safetensors")
    assert torch.equal(state["w"], torch.ones(1000))


def test_a_parent_that_w_and_b_does_not_have_is_said(
    remote: tuple[Row, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = remote[0].key
    place = RunFolder.of(key, tmp_path / "runs", tmp_path / "rows")
    fetch_parent(logger_of(FakeRun()), spec(key), place)
    assert (
        f"W&B has no parent {key}:recipe-{remote[0].recipe_hash} to start from"
        in capsys.readouterr().err
    )
    assert list((tmp_path / "runs").iterdir()) == []
    assert not (tmp_path / "rows").exists()


def test_offline_and_beside_a_run_begun_here_nothing_is_asked(
    remote: tuple[Row, Path], tmp_path: Path
) -> None:
    key, runs = remote[0].key, tmp_path / "runs"
    run, place = FakeRun(offline=True), RunFolder.of(key, runs, tmp_path / "rows")
    fetch_parent(logger_of(run), spec(key), place)
    fetch_parent(False, spec(key), place)
    begun = FakeRun()
    (runs / str(key)).mkdir(parents=True)
    (runs / str(key) / "config.json").write_text("{}")
    fetch_parent(logger_of(begun), spec(key), place)
    assert run.used == begun.used == []


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def swap(field: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        rewrite(folder / "row.json", **{field: value})

    return change


@pytest.mark.parametrize(
    ("damage", "sha256", "expected"),
    [
        (cut, None, "model.safetensors"),
        (lambda folder: None, "0" * 64, "sha256 of the file is"),
        (swap("seed", 1), None, "run of the row is"),
        (swap("recipe_hash", "9f"), None, "recipe_hash is 9f, that of the recipe"),
        (swap("file_bytes", 5000), None, "size of the file is"),
        (swap("tier", 5), None, "tier is 5"),
        (lambda folder: (folder / "row.json").unlink(), None, "row.json"),
    ],
)
def test_what_is_not_what_was_logged_is_refused(
    remote: tuple[Row, Path],
    tmp_path: Path,
    damage: Callable[[Path], None],
    sha256: str | None,
    expected: str,
) -> None:
    row, folder = remote
    damage(folder)
    content = (folder / "model.safetensors").read_bytes()
    given = sha256 or hashlib.sha256(content).hexdigest()
    with pytest.raises(UserError, match=expected) as error:
        checked(folder, spec(row.key), given)
    assert row.key.command() in str(error.value)


def test_the_files_of_another_run_are_refused(remote: tuple[Row, Path]) -> None:
    row, folder = remote
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert checked(folder, spec(row.key), sha256) == row
    other = RunKey(row.key.cell, "fp32", 1, "desk")
    with pytest.raises(UserError, match=r"run of the row is .*s0, expected .*s1"):
        checked(folder, spec(other), sha256)


def test_the_configuration_names_the_parent_and_the_server_is_told_where_there_is_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    origin = {"git_sha": "f" * 40, "parent": PARENT, "parent_file_sha256": "ab" * 32}
    name = f"{PARENT}:sha256-{'ab' * 8}"
    there, absent, offline = FakeRun(**{name: object()}), FakeRun(), FakeRun(offline=True)
    for run in (there, absent, offline):
        run.config = Config()
        log_origin(logger_of(run), origin)
        assert run.config == {"origin": origin}
    assert (there.used, absent.used, offline.used) == ([name], [name], [])
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"cbp-qsnn: W&B does not link the parent {name} ({name} not found): the run's "
        "configuration names it"
    ]


class Config(dict[str, Any]):
    def update(self, values: dict[str, Any], allow_val_change: bool) -> None:  # type: ignore[override]
        super().update(values)


def test_an_ablation_has_artifacts_of_its_own_with_names_that_w_and_b_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = make_row(right(15)).key
    names = {wandb_lineage.artifact_name(key, ablation, "1a") for ablation in (None, "window")}
    assert names == {str(key), f"{key}-window-1a"}
    assert main(["run", "--method=stbp", "--dataset=cifar10", f"--ablation={'a' * 41}"]) == 2
    assert "up to 40" in capsys.readouterr().err


def the_run(server: Standin, key: str) -> WandbRun:
    (found,) = [r for r in server.state.runs.values() if r.about["displayName"] == key]
    return found


def the_artifact(server: Standin, name: str) -> WandbArtifact:
    (found,) = [a for a in server.state.artifacts if a.name == name]
    return found


def run_it(cli: WandbCli, file: Path, exit_code: int = 0, wandb: str = "online") -> str:
    return cli.start("repro", *words(cli, file, wandb)).finish(exit_code)


def forget_everything(cli: WandbCli) -> None:
    """Be another machine: no runs, no rows, no cache of W&B."""
    for name in ("runs", "results", "cache"):
        shutil.rmtree(cli.folder / name, ignore_errors=True)


@pytest.mark.slow
def test_a_machine_without_the_parent_starts_from_its_artifact(
    server: Standin, cli: WandbCli
) -> None:
    run_it(cli, PARENTS)
    run_it(cli, CHILDREN)
    here = rows_of(cli)
    parent, child = the_artifact(server, PARENT), the_artifact(server, CHILD)
    run = the_run(server, CHILD)
    assert parent.used_by == [run.name]
    assert (parent.kind, child.kind, child.made_by) == ("model", "model", run.name)
    for made in (parent, child):
        row = here[made.name]
        assert made.metadata["bytes"] == row.file_bytes
        assert made.aliases > {"latest", f"recipe-{row.recipe_hash}"}
    assert child.metadata["parent_file_sha256"] == parent.metadata["sha256"]
    names = ("git_sha", "git_dirty", "data_checksum", "parent", "parent_file_sha256")
    assert run.config["origin"]["value"] == {n: getattr(here[CHILD], n) for n in names}
    assert (run.about["groupName"], run.about["jobType"]) == ("stbp/cifar10", "cbp")
    assert run.about["tags"] == ["smoke", "binary", "own-recipe"]

    forget_everything(cli)
    printed = run_it(cli, CHILDREN)
    assert f"parent taken from W&B: {PARENT}:recipe-" in printed
    there = rows_of(cli)
    assert there[PARENT] == here[PARENT]
    same = ("parent_file_sha256", "accuracy_parent", "correct", "mcnemar_p", "file_bytes")
    assert [getattr(there[CHILD], n) for n in same] == [getattr(here[CHILD], n) for n in same]
    assert len(parent.used_by) == 2
    assert sorted(path.name for path in (cli.folder / "runs").iterdir()) == [CHILD, PARENT]

    forget_everything(cli)
    place = place_of(server.state, parent, "model.safetensors")
    whole = server.state.files[place]
    server.state.files[place] = whole[:-1] + bytes([whole[-1] ^ 1])
    printed = run_it(cli, CHILDREN, 2)
    assert f"the artifact {PARENT} of W&B is damaged" in printed
    assert not (cli.folder / "results").exists()
    assert sorted(path.name for path in (cli.folder / "runs").iterdir()) == [CHILD]


@pytest.mark.slow
def test_offline_runs_deliver_their_artifacts_later(server: Standin, cli: WandbCli) -> None:
    for file in (PARENTS, CHILDREN):
        run_it(cli, file, wandb="offline")
    assert server.state.artifacts == []
    folders = sorted((cli.folder / "runs").glob("*/wandb/offline-run-*"))
    assert len(folders) == 2
    for folder in folders:
        cli.wandb("sync", str(folder))
    rows = rows_of(cli)
    for key in (PARENT, CHILD):
        made = the_artifact(server, key)
        assert made.committed
        assert made.metadata["bytes"] == rows[key].file_bytes
    run = the_run(server, CHILD)
    sha256 = the_artifact(server, PARENT).metadata["sha256"]
    named = {name: run.config["origin"]["value"][name] for name in ("parent", "parent_file_sha256")}
    assert named == {"parent": PARENT, "parent_file_sha256": sha256}
    assert the_artifact(server, PARENT).used_by == []  # W&B records no use offline

    forget_everything(cli)
    run_it(cli, CHILDREN)  # but what came later can be used
    assert the_artifact(server, PARENT).used_by == [
        r.name for r in server.state.runs.values() if r.about["displayName"] == CHILD and r != run
    ]


@pytest.mark.slow
@pytest.mark.parametrize("end", [Standin.stop, Standin.fall_silent], ids=["dies", "falls silent"])
def test_a_server_that_is_gone_holds_the_end_up_for_two_minutes_at_most(
    server: Standin, cli: WandbCli, end: Callable[[Standin], None]
) -> None:
    """With the limits as they are shipped; the artifact comes with the rest, later."""
    sweep = cli.sweep(PARENTS).rpartition("/")[2]
    cli.environment |= {"WANDB_SWEEP_ID": sweep, "WANDB_RUN_ID": "run12345"}  # as an agent does
    process = cli.start("repro", *words(cli, changed(PARENTS, cli.folder, **LONG), "online"))
    wait_for(lambda: is_training(cli), "the run has a checkpoint")
    end(server)
    wait_for(lambda: bool(rows_of(cli)), "the row is written")
    written = time.monotonic()
    printed = process.finish()
    assert time.monotonic() - written < END
    assert "W&B did not take the model as an artifact" in printed

    server.stop()
    server.start()
    for said in SYNC.findall(printed):
        cli.wandb("sync", *said.split())
    run, beside = server.state.runs.values()
    assert (run.name, run.sweep, beside.sweep) == ("run12345", sweep, None)
    assert (run.state, run.exit_code, beside.config["model_of"]["value"]) == (
        "finished",
        0,
        run.name,
    )
    assert the_artifact(server, PARENT).committed
