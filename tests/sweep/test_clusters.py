"""docs/clusters.md and docs/slurm: the commands parse, and the scripts stop and requeue."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clock import PATIENCE
from pages import commands, parse
from paths import ROOT

from repro.errors import UserError

PAGE = (ROOT / "docs/clusters.md").read_text("utf-8")
SCRIPTS = sorted((ROOT / "docs/slurm").glob("*.sh"))


def plain(line: str) -> str:
    """The command of a line without what a shell does with its output."""
    return re.split(r" (?:>|\|) ", line)[0]


def in_script(name: str, program: str) -> str:
    """The command line of a script that starts with a program, its folded lines joined."""
    text = (ROOT / "docs/slurm" / name).read_text("utf-8").replace("\\\n", " ")
    (found,) = re.findall(rf"(?:^|-- +)({program} .*?)(?: &)?$", text, re.MULTILINE)
    return found.replace('"$@"', "sweeps/12_fp32_stbp.yaml")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash_and_named_in_the_page(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert f"slurm/{script.name})" in PAGE
    lines = script.read_text("utf-8").splitlines()
    assert lines[0] == "#!/bin/bash"
    options = [line for line in lines if line.startswith("#SBATCH")]
    assert lines[1 : 1 + len(options)] == options  # SLURM reads none behind a command
    assert "#SBATCH --requeue" in options


def test_commands_parse() -> None:
    ours = [plain(line) for line in commands(PAGE, "python -m repro")]
    ours.append(in_script("ray.sh", "python -m repro"))
    assert len(ours) == 4
    for command in ours:
        parse(command)
    with pytest.raises(UserError, match="gpu"):
        parse(ours[-1].replace("--gpus-per-run", "--gpus"))


def test_the_agent_takes_these_options() -> None:
    from wandb.cli.cli import agent

    words = shlex.split(in_script("agents.sh", "wandb agent"))
    given = agent.make_context("agent", words[2:]).params
    assert given["count"] == 1
    assert given["forward_signals"]
    assert given["term_timeout"] < 180  # the signal comes so early


def test_ray_takes_these_options() -> None:
    symmetric_run = pytest.importorskip("ray.scripts.symmetric_run").symmetric_run
    command = in_script("ray.sh", "srun").replace('"$head:6379"', "head:6379")
    words = shlex.split(command.replace('"$SLURM_JOB_NUM_NODES"', "2"))
    assert words[:3] == ["srun", "ray", "symmetric-run"]
    given = symmetric_run.make_context("symmetric-run", words[3:]).params
    assert (given["address"], given["min_nodes"]) == ("head:6379", 2)


# Stands for an agent, or a run, that ends well by itself or when it is asked to.
WORK = """\
#!/bin/bash
trap 'echo stopped >> said; exit 130' TERM
echo "$@" >> said
while [ -e wait ]; do sleep 0.05; done
exit 7
"""


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """Environment of an array task in tmp_path, where nothing is real but bash."""
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f"PATH={programs}:$PATH\n")
    for name, text in {
        "wandb": WORK,
        "python": WORK,
        "scontrol": '#!/bin/bash\necho "scontrol $@" >> said\n',
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "runs.txt").write_text("python first\npython -m repro 'a b'\n")
    of_slurm = {"SUBMIT_DIR": str(tmp_path), "CPUS_PER_TASK": "4"}
    of_slurm |= {"JOB_ID": "42", "ARRAY_TASK_ID": "2"}
    return {**os.environ, **{f"SLURM_{name}": value for name, value in of_slurm.items()}}


@pytest.mark.parametrize(
    ("script", "argument", "started"),
    [
        ("agents.sh", "me/cbp-qsnn/x", "agent --forward-signals --term-timeout 150 --count 1 me/"),
        ("lines.sh", "runs.txt", "-m repro a b\n"),
    ],
)
@pytest.mark.parametrize("stop", [False, True])
def test_a_task_that_is_told_to_end_goes_back_to_the_queue(
    node: dict[str, str], tmp_path: Path, script: str, argument: str, started: str, stop: bool
) -> None:
    said = tmp_path / "said"
    if stop:
        (tmp_path / "wait").touch()
    command = ["bash", str(ROOT / "docs/slurm" / script), argument]
    task = subprocess.Popen(command, env=node)
    if stop:
        while not said.exists() or not said.read_text():
            time.sleep(0.02)
        task.send_signal(signal.SIGTERM)
    assert task.wait(PATIENCE) == (0 if stop else 7)  # that of the requeue, or of the work
    text = said.read_text()
    assert text.startswith(started)
    assert text.endswith("stopped\nscontrol requeue 42\n") == stop
    assert ("scontrol" in text) == stop


SCRIPTS = [("agents.sh", "me/cbp-qsnn/x"), ("lines.sh", "runs.txt")]


@pytest.mark.parametrize(("script", "argument"), SCRIPTS)
def test_a_task_told_to_end_before_its_work_begins_goes_back(
    node: dict[str, str], tmp_path: Path, script: str, argument: str
) -> None:
    activate = tmp_path / ".venv/bin/activate"
    activate.write_text(f"kill -TERM $$\n{activate.read_text()}")
    subprocess.run(["bash", str(ROOT / "docs/slurm" / script), argument], env=node, check=True)
    assert (tmp_path / "said").read_text() == "scontrol requeue 42\n"


@pytest.mark.parametrize(("script", "argument"), SCRIPTS)
def test_a_task_whose_work_ends_as_it_is_told_to_goes_back(
    node: dict[str, str], tmp_path: Path, script: str, argument: str
) -> None:
    for name in ("wandb", "python"):
        program = tmp_path / ".venv/bin" / name
        program.write_text("#!/bin/bash\ntrap '' TERM\nkill -TERM $PPID\nexit 7\n")
    subprocess.run(["bash", str(ROOT / "docs/slurm" / script), argument], env=node, check=True)
    assert (tmp_path / "said").read_text() == "scontrol requeue 42\n"


def test_the_lines_of_parents_and_children_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/bash\nexec {shlex.quote(sys.executable)} "$@"\n')
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-ec", "\n".join(line for line in commands(PAGE, "python") if "dry-run" in line)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    parents, children = (
        (tmp_path / name).read_text().splitlines() for name in ("parents.txt", "children.txt")
    )
    assert [line.count("--precision=fp32 ") for line in parents] == [
        1
    ] * 6  # two data sets, three seeds
    assert len(children) == 12
    assert not any("--precision=fp32 " in line for line in children)
    for line in parents + children:
        parse(line)
