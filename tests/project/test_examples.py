"""The examples run as a stranger runs them, and show what they say they show."""

import ast
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pages import DOCUMENTS, commands, read
from paths import ROOT

from examples import plain_ddp
from repro import convert, unpack

EXAMPLE = ROOT / "examples" / "quantise_your_own.py"
LINE = re.compile(
    r"(?P<name>.+): (?P<percent>[\d.]+) % of 500 test digits, (?P<bytes>[\d,]+) bytes"
)

INNER = 16 * 32 * 3 * 3 + 512 * 64  # weights between the first and the last layer
OUTER = 1 * 16 * 3 * 3 + 64 * 10
BIASES = 16 + 32 + 64 + 10


def run_here(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, *words: str) -> None:
    """Run an example in a folder, in this process: torch is loaded already."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", [name, *words])
    monkeypatch.setattr("sys.path", [*sys.path])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")


@pytest.mark.filterwarnings("ignore")  # Lightning's advice to users
def test_quantise_your_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(monkeypatch, tmp_path, EXAMPLE.name)
    full, binary = (LINE.fullmatch(line) for line in capsys.readouterr().out.splitlines())
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


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_did_when_it_was_committed(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel", reason="the extra notebook is not installed")
    nbclient, nbformat = map(pytest.importorskip, ("nbclient", "nbformat"))
    for name in ("examples/digits.py", "examples/quantise_your_own.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    path = tmp_path / "examples" / "quantise_your_own.ipynb"
    shipped, again = (nbformat.read(path, 4) for _ in range(2))
    nbclient.NotebookClient(again, resources={"metadata": {"path": str(path.parent)}}).execute()
    for one, two in zip(shipped.cells, again.cells, strict=True):
        kinds = [[output.output_type for output in cell.get("outputs", [])] for cell in (one, two)]
        assert kinds[0] == kinds[1]
    said = again.cells[-1].outputs[0].text
    assert said == "the same answers: True\n"
    assert path.stat().st_size < 50_000, "plots are kept small"


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


def test_plain_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(monkeypatch, tmp_path, "plain_loop.py")
    full, *epochs, binary = capsys.readouterr().out.splitlines()
    before, after = LINE.fullmatch(f"{full}, 0 bytes"), LINE.fullmatch(binary)
    assert before is not None
    assert after is not None
    assert float(before["percent"]) > 85  # measured 92.4; guessing gives 10
    assert float(after["percent"]) > 85  # measured 92.8
    (file,) = tmp_path.iterdir()
    assert int(after["bytes"].replace(",", "")) == file.stat().st_size < 4 * INNER / 8
    scores = [float(line.rpartition(" ")[2]) for line in epochs]
    assert len(scores) == 8
    assert scores[-1] < scores[0] / 2  # measured 0.072 to 0.022


def test_plain_loops_need_no_lightning() -> None:
    program = (
        "import sys, examples.plain_loop, examples.plain_ddp;"
        "sys.exit('pytorch_lightning' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.slow
def test_two_processes_end_where_one_does(tmp_path: Path) -> None:
    (command,) = re.findall(r"`(torchrun .*?\.py)`", read("docs/your_own_network.md"))
    words = shlex.split(command)[1:]
    words[words.index("examples/plain_ddp.py")] = str(ROOT / "examples" / "plain_ddp.py")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words, str(tmp_path / "two.safetensors")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "processes: 2" in done.stdout
    together, levels = unpack(tmp_path / "two.safetensors")
    assert set(levels) == {"2.weight"}
    alone = plain_ddp.train(0, 1)
    half = plain_ddp.train(0, 2)  # half of every batch, and nobody to average with
    for network in (alone, half):
        convert(network)
    torch.testing.assert_close(dict(alone.state_dict()), together, rtol=1e-9, atol=1e-12)
    for name, tensor in half.state_dict().items():
        assert not torch.allclose(tensor, together[name], rtol=1e-3)


def test_latent_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    for name in ("stbp-x-binary-smoke-s0", "stbp-x-ternary-smoke-s0"):
        (tmp_path / name).mkdir()
        lines = ["epoch,layer,weights,-1,0,1", *(f"{n},fc1,4,{n},{3 - n},1" for n in range(4))]
        (tmp_path / name / "latent.csv").write_text("\n".join(lines) + "\n")
    folders = sorted(path.name for path in tmp_path.iterdir())
    run_here(monkeypatch, tmp_path, "latent_weights.py", "figure.png", *folders)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


PAGE = read("docs/your_own_network.md")
SEED = re.compile(
    r"seed (\d): FP32 ([\d.]+), fine-tuned in FP32 ([\d.]+), rounded ([\d.]+), CBP ([\d.]+)"
)
TABLE = dict(re.findall(r"^\| [^|]+ \| `(python examples/\w+\.py)` \|([^|]*)\|", PAGE, re.M))


def run_in(folder: Path, *words: str) -> str:
    """Run Python in a folder that has a copy of the examples; return what it prints."""
    if not (folder / "examples").exists():
        shutil.copytree(ROOT / "examples", folder / "examples")
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_page_of_ones_own_network_runs_as_written(tmp_path: Path) -> None:
    assert len(commands(PAGE)) == 6
    said = []
    for command in commands(PAGE):
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


def test_pages_name_every_example() -> None:
    named = set(re.findall(r"examples/(\w+)\.py", "".join(map(read, DOCUMENTS))))
    files = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert len(TABLE) == 3
    assert named | {"digits"} == files
