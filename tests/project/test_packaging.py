"""What is installed and how: make, pins, conda, CI; pages are in test_pages.py."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pages import DOCUMENTS, commands, parse, read
from paths import ROOT

HADOLINT = Path(sys.executable).with_name("hadolint")
MAKEFILE = read("Makefile")
PROJECT = tomllib.loads(read("pyproject.toml"))["project"]


def targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def pins() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")  # exact pins only
            assert canonicalize_name(name) not in found
            found[str(canonicalize_name(name))] = version
    return found


def test_the_two_commands_of_the_readme_are_in_the_makefile() -> None:
    given = commands(read("README.md"), "make")
    assert given[:2] == ["make test", "make reproduce"]
    assert {line.split()[1] for line in given} <= targets(MAKEFILE)
    named = {name for text in DOCUMENTS for name in re.findall(r"`make ([a-z-]+)`", read(text))}
    assert {"test", "reproduce", "tables"} <= named <= targets(MAKEFILE)
    assert targets(MAKEFILE) == set(re.findall(r"make ([a-z-]+)", make("help")))


def make(*words: str) -> str:
    """What make prints; run from a test of ``make test`` it is not that make's child."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_make_runs_the_smoke_tier_and_every_check() -> None:
    parse(
        next(line for line in MAKEFILE.splitlines() if "reproduce --tier" in line)
        .strip()
        .replace("$(RUN)", "python")
    )
    for module in re.findall(r"-m (benchmarks\.\w+)", make("--dry-run", "bench")):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists()
    planned = make("--dry-run", "test")
    for check in ("ruff check", "ruff format --check", "mypy", "pytest"):
        assert f"-m {check}" in planned


def test_no_python_is_one_clear_line(tmp_path: Path) -> None:
    answer = make("VENV=" + str(tmp_path / "venv"), "PYTHON=nonesuch", "tables")
    assert answer.splitlines()[0].startswith("no Python 3.11 or newer (nonesuch): ")
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_venv_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    answer = make("VENV=" + str(tmp_path / "venv"), "tables")
    assert "delete it" in answer
    assert list(tmp_path.iterdir()) == [tmp_path / "venv"]


def test_every_dependency_is_pinned_within_its_bound() -> None:
    extras = PROJECT["optional-dependencies"]
    named = [*PROJECT["dependencies"], *extras["dev"], *extras["ray"]]
    pinned = pins()
    for requirement in map(Requirement, named):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier
    assert pinned["torch"] not in Requirement("torch>=2.12").specifier
    assert (pinned["torch"], pinned["torchvision"]) == ("2.11.0", "0.26.0")  # built for each other


def test_conda_installs_what_make_installs() -> None:
    conda = yaml.safe_load(read("environment.yml"))
    assert conda["name"] == PROJECT["name"]
    assert "python=3.11" in conda["dependencies"]
    (pip,) = (entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    assert "-c constraints.txt -e '.[dev]'" in MAKEFILE


def test_ci_tests_then_reproduces() -> None:
    script = ROOT / ".ci" / "run"
    lines = script.read_text("utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert lines[-2:] == ["make test", "make reproduce"]
    assert os.access(script, os.X_OK)


def test_citation_is_of_this_version_and_names_both_papers() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert [reference["year"] for reference in citation["references"]] == [2023, 2021]


def test_no_machine_path_or_index_address_in_what_is_installed_and_read() -> None:
    for name in [*DOCUMENTS, "Makefile", "constraints.txt", "environment.yml", ".ci/run"]:
        assert not re.search(r"/(?:work|tmp|root|home)/|index-url|https?://\S*pypi", read(name)), (
            name
        )


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_workflows_call_make_alone() -> None:
    assert {path.stem for path in WORKFLOWS} == {"docs", "tests", "slow", "wheel"}
    for path in WORKFLOWS:
        content = yaml.safe_load(path.read_text("utf-8"))
        assert content["permissions"] == {"contents": "read"}
        run = [
            step["run"]
            for job in content["jobs"].values()
            for step in job["steps"]
            if "run" in step
        ]
        assert run, path
        assert {line.split()[0] for line in run} == {"make"}
        assert {line.split()[1] for line in run} <= targets(MAKEFILE)


def test_forms_and_hooks_are_yaml_and_name_what_is_there() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").iterdir():
        assert {"name", "description", "body"} <= yaml.safe_load(path.read_text("utf-8")).keys()
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    local = next(repo["hooks"] for repo in hooks if repo["repo"] == "local")
    planned = make("--dry-run", "test")
    for hook in local:
        called = hook["entry"].removeprefix(".venv/bin/python -m ").removesuffix(" --force-exclude")
        assert f"-m {called}" in planned


def test_the_changelog_has_this_version() -> None:
    versions = re.findall(r"^## \[([\w.]+)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert PROJECT["version"] in versions


def test_the_image_runs_the_command_line_and_not_as_root() -> None:
    """Checked without a daemon: order and words of what a build would do."""
    lines = [line.split() for line in read("Dockerfile").splitlines() if line and line[0].isupper()]
    words = [line[0] for line in lines]
    assert words.index("COPY") < words.index("USER") < words.index("ENTRYPOINT")
    assert next(line for line in lines if line[0] == "USER")[1] != "root"
    entry = next(" ".join(line[1:]) for line in lines if line[0] == "ENTRYPOINT")
    assert json.loads(entry) == ["python", "-m", "repro"]
    assert ".venv" in read(".dockerignore").splitlines()


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is for Linux on x86-64")
def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders, each with a wheel and a source archive of this checkout."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    for folder in folders:
        words = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
        subprocess.run(words, env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}, check=True)
    return folders


@pytest.mark.slow
def test_a_wheel_holds_the_two_packages_and_nothing_else(wheels: list[Path]) -> None:
    with zipfile.ZipFile(wheels[0]) as wheel:
        top = {name.partition("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"repro", "datamodules"}


def test_the_same_sources_make_the_same_bytes(wheels: list[Path]) -> None:
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in wheels)
    assert len(one) == 2
    assert one == two


@pytest.fixture(scope="module")
def target(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed into, without what it depends on."""
    (wheel,) = wheels[0].glob("*.whl")
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, str(wheel)], check=True)
    return folder


@pytest.mark.slow
def test_an_installed_wheel_runs_outside_the_checkout(target: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(target)}
    program = "import repro, datamodules; print(repro.__file__); print(datamodules.__file__)"
    for words in (["-c", program], ["-m", "repro", "cells"], ["-m", "repro", "--help"]):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        if words[0] == "-c":
            assert all(line.startswith(str(target)) for line in done.stdout.splitlines())
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    snippet = re.findall(r"```python\n(.*?)```", read("README.md"), re.DOTALL)[0]
    subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "model.safetensors").is_file()


CLIENT = """
from pathlib import Path

from pytorch_lightning import LightningModule

from repro import Cbp, convert, pack


def quantise(model: LightningModule, out: Path) -> list[str]:
    callback: Cbp = Cbp("binary")
    levels = convert(model)
    pack(out, model, levels)
    return sorted(levels)
"""


@pytest.mark.slow
def test_a_typed_client_passes_mypy_strict(target: Path, tmp_path: Path) -> None:
    assert (target / "repro" / "py.typed").is_file()
    options = {"cwd": tmp_path, "env": os.environ | {"MYPYPATH": str(target)}}
    (tmp_path / "client.py").write_text(CLIENT)
    words = [sys.executable, "-m", "mypy", "--strict", "--no-incremental"]
    words += ["--follow-imports=silent", "client.py"]
    done = subprocess.run(words, **options, capture_output=True, text=True)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout
    (tmp_path / "client.py").write_text(CLIENT.replace('Cbp("binary")', "Cbp(7)"))
    done = subprocess.run(words, **options, capture_output=True, text=True)  # type: ignore[call-overload]
    assert "arg-type" in done.stdout, "a wrong type is found, so types are there"
