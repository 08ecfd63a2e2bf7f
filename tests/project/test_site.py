"""The documentation site: what `make docs` needs is there, and it builds where mkdocs is."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from paths import ROOT

import repro

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def pages(part: Any) -> Iterator[str]:
    """Every page of the navigation."""
    if isinstance(part, str):
        yield part
    for inner in (
        part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    ):
        yield from pages(inner)


def test_every_page_is_in_the_navigation_once() -> None:
    named = list(pages(SITE["nav"]))
    assert len(named) == len(set(named))
    folders = ("*.md", "docs/*.md", "docs/adr/*.md", "results/*.md", "sweeps/*.md")
    there = {str(path.relative_to(ROOT)) for pattern in folders for path in ROOT.glob(pattern)}
    assert set(named) == there


def test_the_reference_names_everything_public() -> None:
    named = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs/api.md").read_text("utf-8"), re.MULTILINE)
    homes = {home.replace(":", ".") for home in repro._HOMES.values()}
    assert homes <= set(named)


@pytest.mark.slow
def test_the_site_builds() -> None:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    done = subprocess.run(
        ["make", "docs", f"RUN={sys.executable}", "INSTALLED="],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
