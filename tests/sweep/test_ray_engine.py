"""Sweeps on a Ray cluster: what a node does, what is said, and a real cluster of two nodes."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clock import PATIENCE, wait_for
from filelock import FileLock
from paths import ROOT
from test_sweep import CHILD, PARENT, parameters, quick, write

from repro.cli import main
from repro.errors import UserError
from repro.provenance import code_checksum
from repro.results.rows import read_rows
from repro.sweep import ray_engine, ray_node
from repro.sweep.plan import Run
from repro.sweep.ray_engine import RayEngine, connect, require_answer, trouble_of_ray
from repro.sweep.ray_node import Ended, Job, make_on_node

NODE = "0123456789abcdef"
# Stands for a run: says what it was given, and waits to be stopped if it was told to.
STAND_IN = f"""\
import os, pathlib, sys, time
sys.path.insert(0, {str(ROOT)!r})
from datamodules.processes import PARENT, end_with
end_with(int(os.environ[PARENT]))
print(*sys.argv[1:], os.environ["OMP_NUM_THREADS"], os.environ.get("HOME"))
pathlib.Path("started").write_text(str(os.getpid()))
try:
    time.sleep(600 if "wait" in sys.argv else 0)
except KeyboardInterrupt:
    pathlib.Path("interrupted").touch()
    sys.exit(130)
sys.exit("bad" in sys.argv and "it is bad")
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job for the stand-in, in a folder that looks like the checkout to ``python -m``."""
    (tmp_path / "repro").mkdir()
    (tmp_path / "repro/__init__.py").touch()
    (tmp_path / "repro/__main__.py").write_text(STAND_IN)
    variables = {"OMP_NUM_THREADS": "3"}
    return Job(("good", "word"), tmp_path, Path("runs/one"), code_checksum(ROOT), variables)


def test_a_node_makes_a_run_and_keeps_what_it_printed(job: Job) -> None:
    ended = make_on_node(job, NODE)
    assert ended.trouble == ""
    assert ended.node == f"{socket.gethostname()}, node 01234567"
    assert 0 < ended.seconds < 60
    log = job.root / "runs/one/log.txt"
    assert log.read_text() == f"good word 3 {os.environ.get('HOME')}\n"
    bad = make_on_node(replace(job, words=("bad",)), NODE)
    assert bad.trouble == f"exit code 1, it is bad; see {log}"
    assert log.read_text().startswith("good word 3")  # appended


def test_a_node_with_other_code_or_without_the_folder_makes_nothing(job: Job) -> None:
    other = make_on_node(replace(job, code="0"), NODE)
    assert "has other code than the sweep was started with: all nodes need" in other.trouble
    absent = make_on_node(replace(job, root=job.root / "absent"), NODE)
    assert absent.trouble.startswith(f"{job.root / 'absent'} is not there: all nodes need")
    assert {entry.name for entry in job.root.iterdir()} == {"repro"}


def on_another_process(job: Job) -> "subprocess.Popen[bytes]":
    """A process that makes the run, as Ray's worker does, once the run has started."""
    program = (
        f"from repro.sweep.ray_node import *; from pathlib import *; make_on_node({job!r}, '')"
    )
    program = program.replace("PosixPath", "Path")
    worker = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (job.root / "started").exists() or not (job.root / "started").read_text():
        assert worker.poll() is None
        time.sleep(0.05)
    return worker


def is_alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_ends_with_its_worker_and_hears_of_ctrl_c(job: Job, number: signal.Signals) -> None:
    worker = on_another_process(replace(job, words=("wait",)))
    run = int((job.root / "started").read_text())
    assert is_alive(run)
    worker.send_signal(number)
    assert worker.wait(PATIENCE) != 0
    wait_for(lambda: not is_alive(run), "the run has ended")
    assert (job.root / "interrupted").exists() == (number == signal.SIGINT)


def test_a_node_waits_for_the_lock_of_one_that_died(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = job.root / job.folder
    folder.mkdir(parents=True)
    monkeypatch.setattr(ray_node, "LEASE", 0.3)
    with FileLock(folder / ".lock"):
        started = time.monotonic()
        ray_node.wait_until_free(folder)
        assert time.monotonic() - started >= 0.3
    monkeypatch.setattr(ray_node, "LEASE", 2 * PATIENCE)
    started = time.monotonic()
    ray_node.wait_until_free(folder)
    assert time.monotonic() - started < PATIENCE


class FakeRay:
    """Tasks that have ended, by the run that they are of."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, answers: dict[str, Ended | Exception]) -> None:
        self.answers = answers

    def wait(self, tasks: list[str], **_: Any) -> tuple[list[str], list[str]]:
        ended = [task for task in tasks if task in self.answers]
        return ended, [task for task in tasks if task not in ended]

    def get(self, task: str) -> Ended:
        answer = self.answers[task]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_run_whose_row_does_not_appear_here_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {name: quick(tmp_path, name, "cells") for name in ("here", "late", "lost", "queued")}
    answers: dict[str, Ended | Exception] = {
        name: Ended("node-3, node ab", 7.2, "") for name in ("here", "late", "lost")
    }
    engine = RayEngine(_ray=FakeRay(answers), _under_way=dict(runs))
    leave_row(runs["here"])
    assert [outcome.run.name for outcome in engine.collect()] == ["here"]
    assert engine.collect() == []  # two may still come, one is under way
    leave_row(runs["late"])
    (late,) = engine.collect()
    assert (late.run.name, late.failed, late.remark) == ("late", False, "7 s on node-3, node ab")
    monkeypatch.setattr(ray_engine, "LATE", 0.0)
    (lost,) = engine.collect()
    assert lost.failed
    assert lost.remark.startswith(
        f"it ended well on node-3, node ab, but {tmp_path / 'lost.json'} is"
    )
    assert "shared file system" in lost.remark
    assert engine.collect() == []
    assert list(engine._under_way) == ["queued"]


def leave_row(run: Run) -> None:
    run.place.path.mkdir()
    (run.place.path / "model.safetensors").touch()
    run.place.row.write_text('{"recipe_hash": "0"}')


def test_trouble_is_one_line(tmp_path: Path) -> None:
    runs = {name: quick(tmp_path, name, "cells") for name in ("bad", "dead")}
    answers = {"bad": Ended("n", 1, "exit code 2, x"), "dead": RuntimeError("It crashed.\nID: 1")}
    engine = RayEngine(_ray=FakeRay(answers), _under_way=dict(runs))  # type: ignore[arg-type]
    bad, dead = engine.collect()
    assert (bad.failed, bad.remark) == (True, "on n: exit code 2, x")
    assert (dead.failed, dead.remark) == (
        True,
        "its worker or node died, after 3 retries at most: It crashed.",
    )
    absent = trouble_of_ray(RuntimeError("Traceback\nModuleNotFoundError: No module named 'repro'"))
    assert absent.startswith("a node cannot import repro: all nodes need")


def test_without_ray_it_is_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ray_engine.RAY_VARIABLES:
        monkeypatch.setenv(name, "1")
    assert main(sweep_words(tmp_path, write(tmp_path))) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "no Ray here" in error
    assert "pip install -c constraints.txt -e '.[ray]'" in error
    assert {entry.name for entry in tmp_path.iterdir()} == {"two.yaml"}


def sweep_words(folder: Path, file: Path, *more: str) -> list[str]:
    places = [f"--runs={folder / 'runs'}", f"--rows={folder / 'rows'}"]
    return ["sweep", str(file), "--tier=smoke", "--engine=ray", *places, *more]


def test_an_address_where_nothing_listens_is_known_at_once() -> None:
    for place in ("local", "head", "ray://head:10001", "head:port"):
        with pytest.raises(ValueError, match=r"not host:port|would start"):
            require_answer(place)
    with pytest.raises(OSError, match="refused"):
        require_answer("127.0.0.1:1")
    require_answer("auto")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine=ray", "--jobs=2"], "--jobs goes with --engine local"),
        (["--address=head:6379"], "go with --engine ray"),
        (["--gpus-per-run=1"], "go with --engine ray"),
        (["--engine=ray", "--cpus-per-run=0"], "give more than 0 CPUs"),
        (["--engine=ray", "--gpus-per-run=-1"], "no fewer than 0 GPUs"),
        (["--engine=ray", "--cpus-per-run=nan"], "give more than 0 CPUs"),
        (["--engine=slurm"], "slurm"),
    ],
)
def test_arguments_of_the_other_engine_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "x.yaml", *words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert said in error


# A real cluster, all of it on loopback.


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head with a core and a node with another; what is started sees no other cluster."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    node = {"num_cpus": 1}
    cluster = cluster_utils.Cluster(True, head_node_args={**node, "include_dashboard": False})
    cluster.other = cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


def start(cluster: Any, folder: Path, file: Path, *more: str) -> "subprocess.Popen[str]":
    words = sweep_words(folder, file, f"--address={cluster.address}", *more)
    return subprocess.Popen(
        [sys.executable, "-m", "repro", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(sweep: "subprocess.Popen[str]", code: int) -> list[str]:
    """Lines of a sweep that ends with this exit code and says nothing else."""
    out, errors = sweep.communicate(timeout=2 * PATIENCE)
    assert (sweep.returncode, errors) == (code, ""), out + errors
    return out.splitlines()


def seeds(*precisions: str, **changed: Any) -> dict[str, Any]:
    return parameters(precision={"values": list(precisions)}, seed={"values": [0, 1]}, **changed)


@pytest.mark.slow
def test_parents_then_children_on_both_nodes_then_nothing(cluster: Any, tmp_path: Path) -> None:
    file = write(tmp_path, parameters=seeds("binary", "ternary", "fp32"))
    lines = finish(start(cluster, tmp_path, file), 0)
    assert lines[-1] == "6 runs: 6 done"
    names = [line.split()[1].rstrip(":") for line in lines[:-1]]
    assert sorted(names) == sorted(str(row.key) for row in read_rows(tmp_path / "rows"))
    for seed in "01":
        parent = names.index(PARENT[:-1] + seed)
        assert names.index(CHILD[:-1] + seed) > parent
    nodes = {line.partition(" s on ")[2].rstrip(")") for line in lines[:-1]}
    print(*lines, sep="\n")
    assert len(nodes) == 2
    assert {node.partition(", node ")[2] for node in nodes} == {
        node.node_id[:8] for node in cluster.list_all_nodes()
    }
    assert "images right" in (tmp_path / "runs" / CHILD / "log.txt").read_text()
    cluster.shutdown()
    assert finish(start(cluster, tmp_path, file), 0)[-1] == "6 runs: 6 there already"


@pytest.mark.slow
def test_a_failed_run_is_shown_and_not_repeated(cluster: Any, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / PARENT
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    file = write(tmp_path, parameters=seeds("binary", "fp32"))
    lines = finish(start(cluster, tmp_path, file), 1)
    assert lines[-1] == "4 runs: 1 failed, 1 skipped, 2 done"
    (failed,) = (line for line in lines if ": failed (" in line)
    assert f"{PARENT}: failed (on " in failed
    assert "exit code 2, cbp-qsnn: " in failed
    assert failed.endswith(f"see {folder / 'log.txt'})")
    assert (folder / "log.txt").read_text().count("was started with another recipe") == 1


def wait_for_checkpoints(sweep: "subprocess.Popen[str]", folder: Path, count: int) -> list[Path]:
    while len(found := list(folder.glob("runs/*/last.ckpt"))) < count:
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.1)
    return [path.parent for path in found]


@pytest.mark.slow
def test_a_node_killed_in_the_middle_costs_nothing_but_time(cluster: Any, tmp_path: Path) -> None:
    file = write(tmp_path, parameters=seeds("binary", "fp32", epochs=40))
    sweep = start(cluster, tmp_path, file)
    folders = wait_for_checkpoints(sweep, tmp_path, 2)
    time.sleep(2)
    cluster.remove_node(cluster.other, allow_graceful=False)
    before = {folder: (folder / "metrics.csv").read_text() for folder in folders}
    said = finish(sweep, 0)  # Ray, too, has something to say, of the node
    lines = [line for line in said if re.match(r"\[\d/4\] |4 runs: ", line)]
    print(*lines, sep="\n")
    assert lines[-1] == "4 runs: 4 done"
    assert len(read_rows(tmp_path / "rows")) == 4
    assert len({line.partition(" s on ")[2] for line in lines[1:-1]}) == 1
    for folder, text in before.items():  # it went on, it did not begin again
        assert len(text.splitlines()) < 1 + 40
        assert (folder / "metrics.csv").read_text().startswith(text)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_runs_and_frees_the_nodes(
    cluster: Any, tmp_path: Path, number: signal.Signals
) -> None:
    file = write(tmp_path, parameters=seeds("binary", "fp32", epochs=100_000))
    sweep = start(cluster, tmp_path, file)
    folders = wait_for_checkpoints(sweep, tmp_path, 2)
    sweep.send_signal(number)
    _, errors = sweep.communicate(timeout=PATIENCE)
    assert (sweep.returncode, errors) == (
        130,
        "cbp-qsnn: interrupted; the same command continues\n",
    )
    for folder in folders:
        with FileLock(folder / ".lock").acquire(timeout=0):
            assert (folder / "last.ckpt").exists()


@pytest.mark.slow
def test_nodes_that_do_not_have_the_checkout_are_named(cluster: Any, tmp_path: Path) -> None:
    """The sweep is started elsewhere, with our code on its path; the nodes have none."""
    file = write(tmp_path, parameters=parameters(precision="fp32"))
    words = sweep_words(tmp_path, file, f"--address={cluster.address}")
    done = subprocess.run(
        [sys.executable, "-m", "repro", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{PARENT}: failed (a node cannot import repro: all nodes need" in done.stdout


@pytest.mark.slow
def test_no_cluster_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    with pytest.raises(UserError, match=r"found at 127\.0\.0\.1:1 .*refused.*give --address"):
        connect("127.0.0.1:1")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(UserError, match=r"ray://head:10001 is not host:port"):
        connect(None)


@pytest.mark.slow
def test_runs_that_fit_no_node_wait_and_that_is_said(cluster: Any, tmp_path: Path) -> None:
    sweep = start(cluster, tmp_path, write(tmp_path), "--cpus-per-run=64")
    assert sweep.stderr is not None
    line = sweep.stderr.readline()
    assert "no node has the 64 CPUs and 0 GPUs of a run (there are 1 and 0, 1 and 0)" in line
    sweep.send_signal(signal.SIGINT)
    sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 130
