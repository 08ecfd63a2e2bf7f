"""The examples run as a stranger runs them, and show what they say they show."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

EXAMPLE = ROOT / "examples" / "quantise_your_own.py"
LINE = re.compile(
    r"(?P<name>.+): (?P<percent>[\d.]+) % of 500 test digits, (?P<bytes>[\d,]+) bytes"
)

INNER = 16 * 32 * 3 * 3 + 512 * 64  # weights between the first and the last layer
OUTER = 1 * 16 * 3 * 3 + 64 * 10
BIASES = 16 + 32 + 64 + 10


def test_quantise_your_own(tmp_path: Path) -> None:
    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}  # the network is tiny
    done = subprocess.run(
        [sys.executable, EXAMPLE],
        cwd=tmp_path,
        env=os.environ | one_thread | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    full, binary = (LINE.fullmatch(line) for line in done.stdout.splitlines())
    assert full is not None
    assert binary is not None
    (file,) = tmp_path.iterdir()  # nothing else is left behind
    size, packed = int(full["bytes"].replace(",", "")), int(binary["bytes"].replace(",", ""))
    assert size == 4 * (INNER + OUTER + BIASES)
    assert packed == file.stat().st_size
    assert 0 <= packed - (INNER / 8 + 4 * (OUTER + BIASES)) < 2048  # the rest is the header
    assert float(full["percent"]) > 85  # measured 92.4; guessing gives 10
    assert float(binary["percent"]) > 85  # measured 93.6
    assert binary["name"] != full["name"]


def test_the_example_is_short_and_needs_the_cbp_package_and_packing_only() -> None:
    text = EXAMPLE.read_text("utf-8")
    tree = ast.parse(text)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = {node.module for node in imports if isinstance(node, ast.ImportFrom)} - {None}
    ours = {name for name in ours if str(name).split(".")[0] in ("repro", "datamodules")}
    assert ours == {"repro"}
    documented = [
        tree,
        *(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef)),
    ]
    documentation = [node.body[0] for node in documented if ast.get_docstring(node) is not None]
    lines = {number for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    for node in [*imports, *documentation]:
        assert node.end_lineno is not None
        lines -= set(range(node.lineno, node.end_lineno + 1))
    assert len(lines) < 30


PAGE = (ROOT / "docs" / "your_own_network.md").read_text("utf-8")
SEED = re.compile(
    r"seed (\d): FP32 ([\d.]+), trained on in FP32 ([\d.]+), rounded ([\d.]+), CBP ([\d.]+)"
)
TABLE = dict(re.findall(r"^\| [^|]+ \| `(python examples/\w+\.py)` \|([^|]*)\|", PAGE, re.M))


def fenced(language: str) -> list[str]:
    """The blocks of the page in one language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.M | re.S)
    return [block for name, block in blocks if name == language]


def run_in(folder: Path, *words: str) -> str:
    """Run Python in a folder that has a copy of the examples; return what it prints."""
    if not (folder / "examples").exists():
        shutil.copytree(ROOT / "examples", folder / "examples")
    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | one_thread,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_page_of_ones_own_network_runs_as_written(tmp_path: Path) -> None:
    commands = [line for block in fenced("") for line in block.splitlines()]
    assert len(commands) == 6
    said = []
    for command in commands:
        python, *words = shlex.split(command)
        assert python == "python"
        said.append(run_in(tmp_path, *words))
    assert "3 of 5 convolutions and linear layers quantised" in said[1]
    found = re.search(
        r"test_accuracy: ([\d.]+) before, ([\d.]+) rounded without training, ([\d.]+) after",
        said[2],
    )
    assert found is not None
    before, rounded, after = map(float, found.groups())
    assert before > 0.85
    assert after > rounded
    assert "1 of 5" in said[4]
    assert all(text in said[5] for text in ("ternary", "binary"))
    (block,) = fenced("python")
    run_in(tmp_path, "-c", block)
    assert (tmp_path / "digits.safetensors").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("command", TABLE)
def test_cbp_loses_less_than_plain_rounding(command: str, tmp_path: Path) -> None:
    for name in re.findall(r"pip install (\w+)", TABLE[command]):
        pytest.importorskip(name)
    text = run_in(tmp_path, *command.split()[1:])
    print(text)
    lines = [list(map(float, found)) for found in SEED.findall(text)]
    assert [line[0] for line in lines] == [0, 1, 2]
    for _, full, _, rounded, cbp in lines:
        assert full > 85
        assert cbp > rounded


def test_the_page_names_every_example() -> None:
    named = set(re.findall(r"examples/(\w+)\.py", PAGE))
    files = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert len(TABLE) == 3
    assert named | {"quantise_your_own", "digits"} == files
