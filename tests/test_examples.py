"""The examples run as a stranger runs them, and show what they say they show."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
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
    assert ours == {"repro.cbp.callback", "repro.cbp.layers", "repro.packing"}
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
