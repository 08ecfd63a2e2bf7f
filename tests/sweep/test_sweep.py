"""Sweeps: the files in sweeps/, W&B's expansion of them, and running them on this machine."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import yaml
from clock import PATIENCE
from paths import ROOT

from repro import run_folder
from repro.cells import CELLS, SIMULATED, RunKey
from repro.cli import main
from repro.cli.parsing import plain_flag
from repro.cli.run import parse_known, parse_run
from repro.cli.sweep import resolve as resolve_anew
from repro.errors import UserError
from repro.recipes.shipped import RECIPES
from repro.results.rows import read_rows
from repro.run_folder import RunFolder
from repro.sweep import local_engine, sweep, sweep_file
from repro.sweep.local_engine import LocalEngine
from repro.sweep.plan import Run, plan
from repro.sweep.sweep import Outcome, Sweep
from repro.sweep.sweep_file import SweepFile, expand, load

FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
FIRST, *_ = FILES  # for a new user: no part of the tables
TABLES = [path for path in FILES if "10" <= path.name < "40"]
ABLATIONS = [path for path in FILES if "40" <= path.name < "50"]
SIMULATED_EVENTS = [path for path in FILES if "50" <= path.name < "52"]
HEADLINE = [path for path in FILES if "58" <= path.name < "63"]
SEARCHES = sorted((ROOT / "sweeps/search").glob("*.yaml"))
GOLDEN = json.loads((ROOT / "tests/golden/sweep_expansion.json").read_text("utf-8"))
# One FP32 run and the binary run that starts from it, the child named first.
TWO_RUNS: dict[str, Any] = {
    "project": "cbp-qsnn",
    "method": "grid",
    "command": ["${interpreter}", "-m", "repro", "run", "--wandb=online", "${args}"],
    "parameters": {
        "method": {"value": "stbp"},
        "dataset": {"value": "cifar10"},
        "precision": {"values": ["binary", "fp32"]},
        "tier": {"value": "paper"},
        "data": {"value": "digits"},
        "augment": {"value": False},
        "width": {"value": 1 / 32},
        "time_steps": {"value": 2},
        "train_images": {"value": 200},
        "val_images": {"value": 50},
        "test_images": {"value": 100},
        "epochs": {"value": 1},
        "cbp.epochs": {"value": 1},
    },
}
PARENT = "stbp-cifar10-fp32-smoke-s0"
CHILD = "stbp-cifar10-binary-smoke-s0"


@cache
def known(*words: str) -> Run:
    return resolve_anew(words)


def resolve(words: Sequence[str]) -> Run:
    """As the sweep does; kept, since many tests read the same files."""
    return known(*words)


def write(folder: Path, name: str = "two.yaml", **changed: Any) -> Path:
    """Write the two-run sweep with top keys changed (None: left out)."""
    content = {key: value for key, value in (TWO_RUNS | changed).items() if value is not None}
    path = folder / name
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def parameters(**changed: Any) -> dict[str, Any]:
    return TWO_RUNS["parameters"] | {
        name.replace("__", "."): value if isinstance(value, dict) else {"value": value}
        for name, value in changed.items()
    }


def sweep_words(folder: Path, file: Path, *more: str) -> list[str]:
    places = [f"--runs={folder / 'runs'}", f"--rows={folder / 'rows'}"]
    return ["sweep", str(file), "--tier=smoke", *places, *more]


def names(path: Path) -> list[str]:
    return [resolve(words).name for words in expand(load(path), {})]


def test_the_table_sweeps_are_the_grid_of_the_tables_and_nothing_twice() -> None:
    found = Counter(name for path in TABLES for name in names(path))
    assert found == {
        str(RunKey(cell, precision, seed, "paper")): 1
        for cell in CELLS
        if (cell, "paper") in RECIPES
        for precision in cell.precisions
        for seed in (0, 1, 2)
    }


def test_the_sweeps_of_simulated_events_are_the_grid_of_their_tables() -> None:
    found = Counter(name for path in SIMULATED_EVENTS for name in names(path))
    assert found == {
        str(RunKey(cell, precision, seed, "desk")): 1
        for cell in SIMULATED
        for precision in cell.precisions
        for seed in (0, 1, 2)
    }


def test_ablations_repeat_no_run_of_the_tables_and_start_from_those() -> None:
    tables = plan(map(load, TABLES), {}, resolve)
    everything = plan(map(load, TABLES + ABLATIONS), {}, resolve)
    ablations = [run for run in everything if run not in tables]
    recipes = {(run.place.path.name, run.recipe_hash) for run in everything}
    assert len(recipes) == len(everything) == len({run.place.path for run in everything})
    assert len({path.stem for path in ABLATIONS}) == 5
    assert len(ablations) == 3 * 2 * (1 + 1 + 4 + 4 + 1)  # seeds, precisions, values
    in_tables = {run.place for run in tables}
    assert {run.parent for run in ablations} <= in_tables
    assert not {run.place for run in ablations} & in_tables


def test_the_headline_has_six_parents_of_one_ann() -> None:
    runs = plan(map(load, reversed(HEADLINE)), {}, resolve)
    assert len(runs) == 3 * (1 + 6 + 6 * 2)  # seeds; ANN, parents, control and binary
    assert all(run.name.startswith("headline/") for run in runs)
    assert len({run.place.path for run in runs}) == len(runs)
    children = Counter(run.parent.path for run in runs if run.parent)
    assert sorted(children.values()) == [2] * 18 + [6] * 3
    assert "--ablation=headline --chain=ablation" in runs[-1].parent_command


def test_the_headline_and_the_desk_recipes_of_all_images_decide_twelve_times() -> None:
    """As often as the multipliers must ascend for g to reach 20 with a fifth of the phase to go."""
    runs = [parse_run(words[1:])[1] for path in HEADLINE for words in expand(load(path), {})]
    headline = [run.recipe for run in runs if run.key.has_cbp_phase]
    desk = [recipe for (_, tier), recipe in RECIPES.items() if tier == "desk"]
    images = [recipe for recipe in desk if recipe.data in ("cifar10", "cifar100")]
    for recipe in [*headline, *images]:
        assert recipe.train_images == 0  # all 45,000
        steps = -(-45_000 // (recipe.cbp.batch_size or recipe.batch_size))
        decisions = recipe.cbp.epochs * steps // (recipe.cbp.period or steps)
        assert decisions == 12


def test_the_first_sweep_is_three_runs_of_the_smoke_tier() -> None:
    assert names(FIRST) == [
        f"stbp-cifar10-{precision}-smoke-s0" for precision in ("fp32_control", "binary", "ternary")
    ]


def test_each_file_says_what_it_is_and_what_it_measures() -> None:
    for path in FILES:
        text = path.read_text("utf-8")
        content = yaml.safe_load(text)
        assert text.startswith("# ")
        assert content["name"] == path.stem
        assert content["project"] == "cbp-qsnn"
        assert content["metric"] == {"name": "test/accuracy", "goal": "maximize"}
        assert list(content["parameters"]) == sorted(content["parameters"])


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_a_search_decides_by_validation_images_on_a_seed_without_rows(path: Path) -> None:
    """Every value of a grid, both ends of every range: fields of the cell's recipe, in order."""
    content = yaml.safe_load(path.read_text("utf-8"))
    assert content["name"] == path.stem
    assert content["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    given = content["parameters"]
    assert list(given) == sorted(given)
    assert given["seed"] == {"value": 9}
    assert not list((ROOT / "results/rows").glob("*-s9.json"))
    ends = {
        name: spec.get("values") or [spec[key] for key in ("value", "min", "max") if key in spec]
        for name, spec in given.items()
    }
    command = [word for word in content["command"][4:] if word != "${args}"]
    for number in range(max(map(len, ends.values()))):
        words = [
            f"--{name}={values[min(number, len(values) - 1)]}" for name, values in ends.items()
        ]
        assert "/search/" in str(resolve(("run", *command, *words)).place.path)
    if content["method"] == "grid":
        assert load(path).grid == {name: tuple(values) for name, values in ends.items()}
    else:
        assert content["early_terminate"] == {"type": "hyperband", "min_iter": 2, "eta": 2}
        with pytest.raises(UserError, match=r"only grid names its runs: .* wandb sweep"):
            load(path)


def test_every_trial_is_a_point_of_a_search() -> None:
    """Where a recipe that ships changes, its searches must name the value that they had."""
    grids = [load(path) for path in SEARCHES if "method: grid" in path.read_text("utf-8")]
    named = {(run.recipe_hash, run.place.path.name) for run in plan(grids, {}, resolve)}
    rows = ROOT.glob("results/search/*/*.json")
    assert {(path.parent.name, path.stem) for path in rows} <= named


def test_no_file_names_both_a_run_and_its_parent() -> None:
    """W&B starts the runs of a file in any order, on many machines at once."""
    for path in FILES:
        runs = plan([load(path)], {}, as_if_parents_were_there)
        assert not {run.parent.path for run in map(resolve_again, runs) if run.parent} & {
            run.place.path for run in runs
        }


def as_if_parents_were_there(words: Any) -> Run:
    run = resolve(words)
    return Run(run.name, run.words, run.recipe_hash, run.place)


def resolve_again(run: Run) -> Run:
    return resolve(run.words)


def test_expansion_is_that_of_wandb() -> None:
    """Golden: what W&B's local controller makes of the same parameters."""
    grid = sweep_file._grid(Path("golden"), GOLDEN["parameters"])
    command = ("${interpreter}", "-m", "repro", "run", "${args}")
    ours = expand(SweepFile(Path("golden"), command, grid), {})
    assert ours == [
        ("run", *(f"--{name}={value}" for name, value in run.items())) for run in GOLDEN["runs"]
    ]
    assert len(ours) == 36


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_command_lines_are_those_of_wandbs_agent(path: Path) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    file = load(path)
    at = file.command.index("${args}")
    for words in expand(file, {}):
        given = {}
        for flag in words[at - 3 : len(words) - len(file.command) + at + 1]:
            name, _, value = flag[2:].partition("=")
            typed = {str(known): known for known in file.grid[name]}[value]
            given[name] = {"value": typed}
        flags = create_sweep_command_args({"args": given})["args"]
        assert list(words) == [*file.command[3:at], *flags, *file.command[at + 1 :]]
        assert list(given) == sorted(file.grid)


def test_settings_replace_what_a_file_says() -> None:
    file = load(ROOT / "sweeps/20_cbp_stbp.yaml")
    settings = {"tier": "smoke", "runs": "a b", "wandb": "offline"}
    for words in expand(file, settings):
        assert {"--tier=smoke", "--runs=a b", "--wandb=offline"} <= set(words)
        assert not {"--tier=paper", "--wandb=online"} & set(words)
        assert len({word.partition("=")[0] for word in words}) == len(words)


def test_truth_values_as_wandb_writes_them() -> None:
    name = ["run", "--method=stbp", "--dataset=cifar10", "--tier=smoke"]
    on, off = (resolve([*name, "--precision=binary", f"--cbp.window={v}"]) for v in (True, False))
    assert on.recipe_hash == resolve([*name, "--precision=binary"]).recipe_hash != off.recipe_hash
    assert plain_flag("--runs=True story") == "--runs=True story"


def test_a_run_that_wandb_starts_again_carries_words_of_its_own() -> None:
    words = ["--method=stbp", "--dataset=cifar10", "--width=1", "--_wandb={'sweep': 1}"]
    again = [*words, "--key=stbp-cifar10-fp32-paper-s0", "--recipe={'width': 1, 'keys': 2}"]
    assert parse_known(again) == parse_known(words)
    assert parse_known(again)[1] == ["--width=1"]
    assert parse_known([*words, "--keys=1"])[1] == ["--width=1", "--keys=1"]


def test_parents_come_before_children_else_the_order_of_the_files(tmp_path: Path) -> None:
    files = [load(path) for path in reversed(TABLES)]
    runs = plan(files, {"runs": str(tmp_path)}, resolve)
    folders = [run.place.path for run in runs]
    for number, run in enumerate(runs):
        assert run.parent is None or folders.index(run.parent.path) < number
    assert [run.name for run in runs if run.name.startswith("stbp-")] == [
        name
        for number in ("12_fp32", "30_control", "20_cbp")
        for name in names(ROOT / f"sweeps/{number}_stbp.yaml")
    ]
    assert plan([*files, *files], {"runs": str(tmp_path)}, resolve) == runs


def test_a_missing_parent_is_named_with_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, parameters=parameters(precision="binary"))
    assert main(sweep_words(tmp_path, path)) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"{CHILD} starts from {PARENT}, neither there nor in the sweep" in error
    command = error.partition("in the sweep: python -m repro ")[2].split()
    parent = resolve(command)
    assert parent.name == PARENT
    assert (
        parent.recipe_hash
        == plan([load(write(tmp_path))], {"tier": "smoke"}, resolve)[0].recipe_hash
    )
    assert {entry.name for entry in tmp_path.iterdir()} == {"two.yaml"}


def test_two_recipes_for_one_run_want_an_ablation(tmp_path: Path) -> None:
    grid = parameters(cbp__p_max={"values": [1, 2]}, precision={"values": ["fp32", "binary"]})
    with pytest.raises(UserError, match=r"two recipes for .*binary.*: add --ablation=NAME"):
        plan([load(write(tmp_path, parameters=grid))], {"tier": "smoke"}, resolve)
    command = [*TWO_RUNS["command"], "--ablation=p-max"]
    path = write(tmp_path, parameters=grid, command=command)
    places = {"tier": "smoke", "runs": str(tmp_path / "runs"), "rows": str(tmp_path / "rows")}
    with pytest.raises(UserError, match="neither there nor in the sweep"):
        plan([load(path)], places, resolve)
    runs = plan([load(write(tmp_path, "parent.yaml")), load(path)], places, resolve)
    apart = {run.place.path.parent.relative_to(tmp_path / "runs") for run in runs} - {Path()}
    assert {folder.parts[0] for folder in apart} == {"p-max"}


BAD = {
    "unknown key controller": {"controller": {"type": "local"}},
    "has no project": {"project": None},
    "method is 'random'": {"method": "random"},
    "has no grid": {"parameters": None},
    "parameter seed is {'min': 0}": {"parameters": parameters(seed={"min": 0})},
    "list its values, each once": {"parameters": parameters(seed={"values": [0, 0]})},
    "list its values": {"parameters": parameters(seed={"values": []})},
    "write 1.0e-3": {"parameters": parameters(lr="1e-3")},
    "has None": {"parameters": parameters(lr={"value": None})},
    "command is []": {"command": None},
    "'${program}'": {"command": [*TWO_RUNS["command"], "${program}"]},
    "without other macros": {"command": [*TWO_RUNS["command"], "--runs=${args_json}"]},
    "--name=value for the rest": {"command": [*TWO_RUNS["command"], "--wandb", "off"]},
    "'train.py'": {"command": ["${interpreter}", "train.py", "${args}"]},
    "--leaning_rate": {"parameters": parameters(leaning_rate=0.1)},
    "--cbp.p-max: invalid": {"parameters": parameters(cbp__p_max="many")},
    "stbp/mnist": {"parameters": parameters(dataset="mnist")},
    "command is ['${interpreter}'": {"command": [*TWO_RUNS["command"], ["--runs=x"]]},
    "parameter seed has datetime.date": {"parameters": parameters(seed=date(2026, 1, 1))},
    "is a grid of 1e+06 runs": {
        "parameters": {f"cbp.a{n}": {"values": list(range(10))} for n in range(6)}
    },
    "ablation is '../x'": {"command": [*TWO_RUNS["command"], "--ablation=../x"]},
}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_file_is_one_line(
    said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, **BAD[said])
    assert main(sweep_words(tmp_path, path)) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert said in error
    assert str(path) in error
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\x00"])
def test_no_yaml_and_no_sweep(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=r"x\.yaml: |invalid sweep file .*x\.yaml"):
        load(tmp_path / "x.yaml")


BOMB = "\n".join(
    ["a: &a [x]", *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi"))]
)


@pytest.mark.parametrize(
    "text", ["[" * 10**5, "a: " + "{b: " * 2000, "seed: " + "9" * 5000, BOMB, "a: 2026-99-99"]
)
@pytest.mark.parametrize("where", ["file", "parameters", "command"])
def test_yaml_that_no_one_writes_is_one_line(text: str, where: str, tmp_path: Path) -> None:
    """Nested without end, dates that are none, numbers that Python refuses to print."""
    before = "" if where == "file" else f"project: p\nmethod: grid\n{where}:\n"
    whole = before + indent(text, " ")
    (tmp_path / "x.yaml").write_text(whole)
    with pytest.raises(UserError, match=r"x\.yaml") as caught:
        load(tmp_path / "x.yaml")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "words", [["nonesuch.yaml"], [], [str(FILES[0]), "--jobs=0"], [str(FILES[0]), "--tier=tiny"]]
)
def test_bad_arguments_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_two_runs_parent_first_then_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an ablation, which has folders of its own and the parent of the tables."""
    words = sweep_words(tmp_path, write(tmp_path))
    assert main([*words, "--dry-run"]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert [f"--precision={p}" in line for p, line in zip(("fp32", "binary"), planned, strict=True)]
    assert all(line.startswith("python -m repro run --") for line in planned)
    assert not (tmp_path / "runs").exists()

    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"[1/2] {PARENT}: done (")
    assert lines[1].startswith(f"[2/2] {CHILD}: done (")
    assert lines[2:] == ["2 runs: 2 done"]
    assert {str(row.key) for row in read_rows(tmp_path / "rows")} == {PARENT, CHILD}
    assert "images right" in (tmp_path / "runs" / CHILD / "log.txt").read_text()

    grid = parameters(precision="binary", cbp__window=False)
    command = [*TWO_RUNS["command"], "--ablation=window"]
    window = write(tmp_path, "window.yaml", parameters=grid, command=command)
    capsys.readouterr()
    assert main([*sweep_words(tmp_path, window), "--dry-run"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert main(shlex.split(line)[3:]) == 0  # what the sweep would start, with torch loaded
    assert {str(row.key) for row in read_rows(tmp_path / "rows")} == {PARENT, CHILD}
    (apart,) = (tmp_path / "rows" / "window").iterdir()
    (ablated,) = read_rows(apart)
    assert ablated.recipe_hash == apart.name
    assert ablated.parent == PARENT
    assert (tmp_path / "runs" / "window" / apart.name / CHILD / "model.safetensors").exists()

    capsys.readouterr()
    monkeypatch.setattr(subprocess, "Popen", None)  # nothing is started now
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 runs: 2 there already"
    assert main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out == ""


def test_a_failed_run_takes_its_children_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / PARENT
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert main(sweep_words(tmp_path, write(tmp_path), "--jobs=2")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"[1/2] {PARENT}: failed (exit code 2, cbp-qsnn: ")
    assert "config.json" in lines[0]
    assert lines[0].endswith(f"see {folder / 'log.txt'})")
    assert lines[1:] == [
        f"[2/2] {CHILD}: skipped ({PARENT}, its parent, failed)",
        "2 runs: 1 failed, 1 skipped",
    ]
    assert not (tmp_path / "runs" / CHILD).exists()


def quick(folder: Path, name: str, words: str, parent: Run | None = None) -> Run:
    """A run of the sweep that is a command of no second."""
    place, above = RunFolder.of(name, folder, folder), parent and parent.place
    return Run(name, tuple(words.split()), "0", place, parent=above)


def test_grandchildren_are_skipped_and_others_go_on(tmp_path: Path) -> None:
    root = quick(tmp_path, "root", "nonesuch")
    child = quick(tmp_path, "child", "cells", root)
    runs = [root, child, quick(tmp_path, "grandchild", "cells", child)]
    lines: list[str] = []
    under_way = Sweep([*runs, quick(tmp_path, "other", "cells")], LocalEngine(2), lines.append)
    under_way.run()
    assert list(under_way.ended[run.place.path] for run in runs) == ["failed", "skipped", "skipped"]
    assert under_way.ended[tmp_path / "other"] == "done"
    assert "grandchild: skipped (child, its parent, skipped)" in lines
    assert under_way.in_words().startswith("4 runs: ")


class FakeEngine:
    """Makes one run of a look, in the order of their start; those named ``bad*`` fail.

    Attributes:
        room: Runs at a time.
        said: What was asked of it, in order.
        interrupt: Whether Ctrl-C comes when all there is room for has started.
    """

    def __init__(self, room: int, interrupt: bool = False) -> None:
        self.room, self.interrupt = room, interrupt
        self.said: list[str] = []
        self.under_way: list[Run] = []

    def start(self, run: Run) -> bool:
        if len(self.under_way) == self.room:
            return False
        self.said.append(f"start {run.name}")
        self.under_way.append(run)
        return True

    def collect(self) -> list[Outcome]:
        if self.interrupt:
            raise KeyboardInterrupt
        if not self.under_way:
            return []
        run = self.under_way.pop(0)
        self.said.append(f"end {run.name}")
        return [Outcome(run, run.name.startswith("bad"), "remark")]

    def stop(self) -> None:
        self.said.append(f"stop {len(self.under_way)}")


def test_a_run_starts_when_its_parent_has_ended_and_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "POLL", 0.0)
    first, bad, there = (quick(tmp_path, name, "") for name in ("first", "bad", "there"))
    child, lost, found = (
        quick(tmp_path, name, "", parent)
        for name, parent in (("child", first), ("lost", bad), ("found", there))
    )
    there.place.path.mkdir()
    (there.place.path / "model.safetensors").touch()
    there.place.row.write_text('{"recipe_hash": "0"}')
    runs = [first, bad, there, child, lost, found]
    endless, narrow = FakeEngine(100), FakeEngine(1)
    lines: list[str] = []
    Sweep(runs, endless, lines.append).run()
    assert endless.said == [
        *("start first", "start bad", "start found", "end first"),
        *("start child", "end bad", "end found", "end child", "stop 0"),
    ]
    assert lines == [
        *("there: there already", "first: done (remark)", "bad: failed (remark)"),
        *("lost: skipped (bad, its parent, failed)", "found: done (remark)"),
        "child: done (remark)",
    ]
    under_way = Sweep(runs, narrow, lambda line: None)
    under_way.run()
    assert narrow.said[:4] == ["start first", "end first", "start bad", "end bad"]
    assert under_way.in_words() == "6 runs: 1 there already, 3 done, 1 failed, 1 skipped"


def test_an_interrupt_stops_the_engine(tmp_path: Path) -> None:
    engine = FakeEngine(2, interrupt=True)
    with pytest.raises(KeyboardInterrupt):
        Sweep([quick(tmp_path, name, "") for name in "abc"], engine).run()
    assert engine.said == ["start a", "start b", "stop 2"]


def test_a_second_request_to_end_does_not_disturb_the_ending() -> None:
    before = signal.getsignal(signal.SIGTERM)
    ending = []

    def end_twice() -> None:
        with sweep.ending_like_ctrl_c():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)
                ending.append("undisturbed")

    with pytest.raises(KeyboardInterrupt):
        end_twice()
    assert ending == ["undisturbed"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_no_more_jobs_than_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = []
    engine = LocalEngine(2)
    under_way = Sweep([quick(tmp_path, name, "cells") for name in "abc"], engine, lambda line: None)
    monkeypatch.setattr(time, "sleep", lambda _: most.append(len(engine._under_way)))
    under_way.run()
    assert max(most) == 2
    assert set(under_way.ended.values()) == {"done"}


def test_cores_are_divided_among_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert local_engine.environment(4)["OMP_NUM_THREADS"] == "2"
    assert local_engine.environment(4)["NUMBA_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in local_engine.environment(1)


def test_one_bar_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    runs = [quick(tmp_path, "good", "cells"), quick(tmp_path, "bad", "nonesuch")]
    assert sweep.run_sweep(runs, LocalEngine(2)) == 1
    shown = capsys.readouterr()
    assert "bad: failed (exit code 2, cbp-qsnn: unknown command nonesuch" in shown.err
    assert "good" not in shown.err
    assert "2/2" in shown.err
    assert "1 failed" in shown.err
    assert shown.out.startswith("2 runs: ")


@pytest.fixture
def endless(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A sweep of one run that does not end by itself, in tmp_path."""
    path = write(tmp_path, parameters=parameters(epochs=100_000, precision="fp32"))
    process = subprocess.Popen(
        [sys.executable, "-m", "repro", *sweep_words(tmp_path, path)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in the background with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    yield process
    process.terminate()
    process.communicate()


def wait_for_checkpoint(sweep: "subprocess.Popen[str]", folder: Path) -> None:
    while not (folder / "last.ckpt").exists():
        assert sweep.poll() is None
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupt_stops_the_runs_and_the_sweep_goes_on_later(
    endless: "subprocess.Popen[str]",
    tmp_path: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "runs" / PARENT
    wait_for_checkpoint(endless, folder)
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "RELEASE", 0.1)
        with pytest.raises(UserError, match="in use"), RunFolder(folder).locked():
            pass
    endless.send_signal(number)
    _, errors = endless.communicate(timeout=PATIENCE)
    assert endless.returncode == 130
    assert errors == "cbp-qsnn: interrupted; the same command continues\n"
    with RunFolder(folder).locked():  # no run of it is left
        assert (folder / "last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing there ends a run with its sweep")
def test_a_killed_sweep_takes_its_run_along(
    endless: "subprocess.Popen[str]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / PARENT
    wait_for_checkpoint(endless, folder)
    endless.kill()
    endless.wait()
    monkeypatch.setattr(run_folder, "RELEASE", 60)
    with RunFolder(folder).locked():  # a run has its folder for as long as it lives
        assert (folder / "last.ckpt").exists()
