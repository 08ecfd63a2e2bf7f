"""What is installed and how: make, pins, conda, CI; pages are in test_pages.py."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pages import DOCUMENTS, commands, parse, read
from paths import ROOT

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
