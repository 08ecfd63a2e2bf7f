"""Imports point one way, wandb has one place, and the command line starts without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Final

import pytest
from paths import ROOT

OURS = ("repro", "datamodules")

# The house from the roof down. A package or module imports from the floors below its own, and from
# itself; never from its own floor or from above.
FLOORS: Final = (
    ("repro.__main__",),
    ("repro.cli",),
    ("repro.campaign", "repro.deploy", "repro.quantise", "repro.report"),
    ("repro.run",),
    ("repro.build", "repro.tracking"),
    ("repro.methods", "repro.sweep"),
    ("repro.networks", "repro.packing", "repro.recipes", "repro.results"),
    ("repro.memory",),
    ("repro.neurons", "repro.cbp", "repro.provenance", "repro.run_folder"),
    ("repro.products",),
    ("repro.cells", "repro.files", "repro.interrupts", "repro.device", "repro.schema"),
    ("repro.errors", "repro.table"),
    ("datamodules",),
)
# Packages that need less than the floors allow: all that they import.
ONLY: Final = {
    "repro.cbp": ("repro.products", "repro.device", "repro.errors"),
    "repro.neurons": ("repro.products", "repro.device"),
    "repro.products": ("repro.device", "repro.errors"),
    "repro.networks": ("repro.neurons", "repro.products", "repro.errors"),
    "repro.methods": (
        *("repro.networks", "repro.neurons", "repro.recipes", "repro.cells", "repro.errors"),
    ),
    "repro.packing": (
        *("repro.cbp.levels", "repro.memory", "repro.device", "repro.files", "repro.errors"),
    ),
    "repro.results": ("repro.cells", "repro.files", "repro.schema", "repro.errors"),
    "repro.cells": ("datamodules.catalogue", "repro.errors"),
    "repro.recipes": (
        *("repro.cbp.settings", "repro.cells", "repro.files", "repro.schema", "repro.errors"),
        "datamodules.catalogue",
    ),
    "repro.device": (),
    "repro.errors": (),
    "repro.table": (),
    "datamodules": (),
}
WANDB: Final = "repro.tracking"  # the one place that imports wandb


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def floor(name: str) -> int:
    """Number of the floor, 0 for the roof."""
    found = [n for n, floor in enumerate(FLOORS) if any(inside(name, one) for one in floor)]
    assert len(found) == 1, f"{name} is on {len(found)} floors: put its package on one of FLOORS"
    return found[0]


def room(name: str) -> str:
    """The package or module of `FLOORS` that a module belongs to."""
    return next(one for one in FLOORS[floor(name)] if inside(name, one))


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


def is_allowed(name: str, target: str) -> bool:
    if target.startswith("."):  # imports are written in full
        return False
    if inside(target, "wandb") or "Wandb" in target:
        return inside(name, WANDB)
    if target.split(".")[0] not in OURS or name == "repro" or inside(target, room(name)):
        return True
    only = ONLY.get(room(name))
    return floor(target) > floor(name) and (
        only is None or any(inside(target, package) for package in only)
    )


def violations(name: str, tree: ast.AST) -> list[str]:
    """What a module imports and must not."""
    return [f"{name} imports {found}" for found in imported(tree) if not is_allowed(name, found)]


def test_imports_point_down() -> None:
    assert [wrong for name, tree in modules().items() for wrong in violations(name, tree)] == []


# What writes a file that a reader may find half-written; `repro.files` has what does not.
WRITES: Final = ("write_text", "write_bytes", "savefig", "copyfile", "copytree", "rename")
OF_OS: Final = (
    "os.replace",
    "os.rename",
    "shutil.copy",
    "np.save",
    "torch.save",
    "json.dump",
    "nir.write",
)
INTO_MEMORY: Final = {  # or into a file of `repro.files`
    "repro.deploy.nir_export": "nir.write",
    "repro.run.checkpoint": "torch.save",
}


def writes(name: str, tree: ast.AST) -> list[str]:
    """Calls of a module of ours that write a file otherwise than by `repro.files`."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [ast.unparse(call) for call in calls]
    known = ("repro.files", *(one for one in INTO_MEMORY if inside(name, one)))
    wrong = [call for call in found if call in OF_OS or call.rpartition(".")[2] in WRITES]
    return [call for call in wrong if name not in known]


def test_files_are_written_in_one_place() -> None:
    found = {name: writes(name, tree) for name, tree in modules().items() if name[:5] == "repro"}
    assert {name: calls for name, calls in found.items() if calls} == {}
    assert writes("repro.new", ast.parse("Path(a).write_text(b)")) == ["Path(a).write_text"]
    for name, call in INTO_MEMORY.items():
        assert any(known.endswith(call) for known in writes("repro.new", modules()[name]))


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
        ("repro.recipes.paper", "import repro.run"),
        ("repro.report.accuracy", "from repro.campaign import campaign"),
        ("repro.report.accuracy", "import wandb"),
        ("repro.methods.base", "from pytorch_lightning.loggers import WandbLogger"),
        ("repro.run.history", "from .errors import UserError"),
    ],
)
def test_a_wrong_import_is_found(name: str, line: str) -> None:
    assert violations(name, ast.parse(line)) != []


def test_the_floors_name_what_exists() -> None:
    names = {*(name for floor in FLOORS for name in floor), *ONLY, *sum(ONLY.values(), ())}
    assert names - set(modules()) == set()


def test_there_is_no_circle() -> None:
    everything = modules()
    graph = {
        name: {found if found in everything else found.rpartition(".")[0] for found in imported(t)}
        & everything.keys() - {name, "repro"}
        for name, t in everything.items()
    }
    assert graph["repro.methods.stbp"] >= {"repro.methods.base", "repro.recipes.fields"}
    order = list(TopologicalSorter(graph).static_order())  # CycleError names the circle
    below, above = order.index("repro.errors"), order.index("repro.run.lifecycle")
    assert below < order.index("repro.cells") < above


def test_twelve_modules_at_most_stand_at_the_top_of_repro() -> None:
    assert len(list((ROOT / "repro").glob("*.py"))) <= 12


def test_git_takes_every_module() -> None:
    """A pattern of .gitignore that fits a package would keep it out of every clone."""
    names = [str(path.relative_to(ROOT)) for root in OURS for path in (ROOT / root).rglob("*.py")]
    command = ["git", "-C", str(ROOT), "check-ignore", "--no-index", *names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == ""


def heavy_modules(*words: str) -> set[str]:
    """Which of the slow packages a command of ours imports."""
    program = (
        "import sys; from repro.cli import main; main(sys.argv[1:]);"
        "slow = {'torch', 'pytorch_lightning', 'numba', 'wandb', 'ray', 'pydantic', 'scipy'};"
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
