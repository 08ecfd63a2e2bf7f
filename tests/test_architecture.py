"""Imports point one way, wandb has one place, and the command line starts without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("repro", "datamodules")

# What a package or module may import of ours, itself included; whatever is not named here may
# import all but REACHED_FROM.
ALLOWED = {
    "repro.errors": (),
    "repro.cells": ("repro.errors",),
    "repro.recipe_fields": ("repro.errors",),
    "repro.shortened": ("repro.recipe_fields",),
    "repro.recipes": (*("repro.recipe_fields", "repro.shortened", "repro.cells", "repro.errors"),),
    "repro.cbp": ("repro.cbp", "repro.errors", "repro.gpu"),
    "repro.gpu": ("repro.triton_probe",),
    "repro.triton_probe": (),
    "repro.neurons": ("repro.neurons", "repro.gpu"),
    "repro.networks": ("repro.networks", "repro.neurons", "repro.errors"),
    "repro.methods": (
        *("repro.methods", "repro.networks", "repro.neurons"),
        *("repro.recipe_fields", "repro.cells", "repro.errors"),
    ),
    "repro.calibration": ("repro.networks", "repro.neurons", "repro.errors"),
    "repro.memory": ("repro.errors",),
    "repro.packed_kernels": (),
    "repro.packing": (
        *("repro.cbp.levels", "repro.memory", "repro.channel_scales", "repro.packed_kernels"),
        "repro.errors",
    ),
    "repro.channel_scales": ("repro.cbp.levels",),
    "repro.packed_contents": ("repro.cbp.levels", "repro.packing"),
    "repro.quantise_arguments": ("repro.errors",),
    "repro.quantise_plan": ("repro.cbp", "repro.memory", "repro.text_table"),
    "repro.import_path": ("repro.errors",),
    "repro.trained_weights": ("repro.packing", "repro.import_path", "repro.errors"),
    "repro.statistics": ("repro.errors",),
    "repro.travel": ("repro.rows", "repro.errors"),
    "repro.commit": ("repro.rows", "repro.errors"),
    "repro.rows": ("repro.cells", "repro.errors"),
    "repro.sweep_file": ("repro.errors",),
    "repro.sweep": ("repro.sweep_file", "repro.errors"),
    "repro.local_engine": ("repro.sweep", "repro.errors"),
    "repro.ray_node": ("repro.local_engine", "repro.sweep", "repro.commit", "repro.errors"),
    "repro.ray_engine": (
        *("repro.ray_node", "repro.local_engine", "repro.sweep"),
        *("repro.commit", "repro.errors"),
    ),
    "datamodules": ("datamodules",),
}
# Who may import these.
REACHED_FROM = {
    "repro.run": ("repro.cli", "repro.estimate", "repro.quantise"),
    "repro.cli": ("repro.__main__",),
    "repro.__main__": (),
}
WANDB_PLACES = tuple(f"repro.wandb_{name}" for name in ("lineage", "logger", "model", "rows"))


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def imported(tree: ast.AST) -> Iterator[str]:
    """Names that a module imports, also inside functions; of ``from a import b`` it is a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


def modules() -> dict[str, ast.Module]:
    """Every module of ours by name."""
    found = {}
    for path in sorted(path for package in OURS for path in (ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = ast.parse(path.read_text("utf-8"), str(path))
    return found


def violations(name: str, tree: ast.AST) -> list[str]:
    """What a module imports and must not."""
    rule = next((rule for package, rule in ALLOWED.items() if inside(name, package)), None)
    wrong = []
    for target in imported(tree):
        ours = target.split(".")[0] in OURS
        forbidden = ours and rule is not None and not any(inside(target, ok) for ok in rule)
        for reached, places in REACHED_FROM.items():
            forbidden |= inside(target, reached) and name not in places
        names_wandb = inside(target, "wandb") or "Wandb" in target
        forbidden |= names_wandb and name not in WANDB_PLACES
        forbidden |= target.startswith(".")  # imports are written in full
        if forbidden:
            wrong.append(f"{name} imports {target}")
    return wrong


def test_imports_point_one_way() -> None:
    assert [wrong for name, tree in modules().items() for wrong in violations(name, tree)] == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("repro.cbp.layers", "from repro.networks.conv7fc3 import conv7fc3"),
        ("repro.cbp.layers", "import repro.neurons"),
        ("repro.cbp", "from datamodules import base"),
        ("repro.networks.new", "from repro.methods import stbp"),
        ("repro.neurons.stbp", "def f():\n    from repro.networks import conv7fc3"),
        ("repro.methods.stbp", "from repro.cbp.callback import Cbp"),
        ("datamodules.cifar", "from repro import errors"),
        ("repro.recipes", "import repro.run"),
        ("repro.tables", "from repro import run"),
        ("repro.tables", "import wandb"),
        ("repro.methods.base", "from pytorch_lightning.loggers import WandbLogger"),
        ("repro.history", "from .errors import UserError"),
    ],
)
def test_a_wrong_import_is_found(name: str, line: str) -> None:
    assert violations(name, ast.parse(line)) != []


def test_the_rules_name_modules_that_exist() -> None:
    names = {*ALLOWED, *REACHED_FROM, *(name for rule in ALLOWED.values() for name in rule)}
    assert names - set(modules()) == set()


def test_no_circle_among_imports_at_the_top_of_modules() -> None:
    everything = modules()
    graph = {
        name: {
            target if target in everything else target.rpartition(".")[0]
            for statement in tree.body
            if isinstance(statement, ast.Import | ast.ImportFrom)
            for target in imported(statement)
        }
        & everything.keys() - {name}
        for name, tree in everything.items()
    }
    assert graph["repro.methods.stbp"] >= {"repro.methods.base", "repro.recipe_fields"}
    order = list(TopologicalSorter(graph).static_order())  # CycleError names the circle
    assert order.index("repro.errors") < order.index("repro.cells") < order.index("repro.run")


def heavy_modules(*words: str) -> set[str]:
    """Which of the slow packages a command of ours imports."""
    program = (
        "import sys; from repro.cli import main; main(sys.argv[1:]);"
        "slow = {'torch', 'pytorch_lightning', 'numba', 'wandb', 'ray'};"
        "print('\\n' + ' '.join(slow & {*sys.modules}))"
    )
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [("--help",), ("cells",), ("nonesuch",), ("sweep", "sweeps/12_fp32_stbp.yaml", "--dry-run")],
)
def test_the_command_line_starts_without_torch(words: tuple[str, ...]) -> None:
    assert heavy_modules(*words) == set()


def test_a_command_that_needs_torch_imports_it() -> None:
    assert "torch" in heavy_modules("inspect", "nonesuch.safetensors")
