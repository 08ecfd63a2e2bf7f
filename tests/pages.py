"""What pages hold that can be tried: commands, fenced blocks, and how a page is followed."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from paths import ROOT

from repro.cells import find_cell
from repro.cli.campaign import CampaignArguments
from repro.cli.packed import (
    CArguments,
    CostsArguments,
    ExportArguments,
    InferArguments,
    InspectArguments,
    ModelsArguments,
    NirArguments,
    QonnxArguments,
)
from repro.cli.parsing import parse as parse_words
from repro.cli.parsing import parse_override
from repro.cli.reproduce import ReproduceArguments
from repro.cli.run import parse_known
from repro.cli.simulate import SimulateArguments
from repro.cli.sweep import SweepArguments
from repro.cli.tables import (
    DiffArguments,
    ReportArguments,
    TablesArguments,
    WandbReportArguments,
)
from repro.cli.view import ViewArguments
from repro.quantise.arguments import QuantiseArguments
from repro.recipes.shipped import find_recipe

DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "sweeps/README.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
)
ARGUMENTS = {
    "sweep": SweepArguments,
    "reproduce": ReproduceArguments,
    "campaign": CampaignArguments,
    "tables": TablesArguments,
    "report": ReportArguments,
    "wandb-report": WandbReportArguments,
    "diff": DiffArguments,
    "export": ExportArguments,
    "inspect": InspectArguments,
    "models": ModelsArguments,
    "infer": InferArguments,
    "costs": CostsArguments,
    "nir": NirArguments,
    "qonnx": QonnxArguments,
    "c": CArguments,
    "quantise": QuantiseArguments,
    "simulate": SimulateArguments,
    "view": ViewArguments,
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON_FILE = re.compile(r"`([\w/]+\.py)`")


class Block(NamedTuple):
    """A fenced block: its language (empty for commands), its text, the text of the page before."""

    language: str
    text: str
    before: str


def read(document: str | Path) -> str:
    return (ROOT / document).read_text("utf-8")


def blocks(page: str, language: str | None = None) -> list[Block]:
    """The blocks of a page, of one language if one is given."""
    found = [Block(m[1], m[2], page[: m.start()]) for m in FENCE.finditer(page)]
    return [block for block in found if language in (None, block.language)]


def commands(page: str, program: str = "") -> list[str]:
    """The commands of a page that start with a program, folded lines joined."""
    joined = (re.sub(r" *\\\n *", " ", block.text) for block in blocks(page, ""))
    lines = [line for text in joined for line in text.splitlines() if line.strip()]
    return [line for line in lines if line.startswith(program)]


def parse(command: str) -> None:
    """Parse a command line of ours, the overrides of its recipe included; run nothing."""
    assert command.startswith("python -m repro ")
    _, _, _, name, *words = shlex.split(command, comments=True)
    if words[-1:] == ["--help"]:
        with pytest.raises(SystemExit, match=r"^0$"):
            parse_command(name, words)
    else:
        parse_command(name, words)


def parse_command(name: str, words: list[str]) -> None:
    if name == "cells":
        assert not words
    elif name == "run":
        chosen, overrides = parse_known(words)
        cell = find_cell(chosen.method, chosen.dataset, chosen.network)
        parse_override(find_recipe(cell, chosen.tier), overrides, "run")
    else:
        parse_words(ARGUMENTS[name], words)


def follow(page: str, root: Path) -> Iterator[Path]:
    """Do to the files below ``root`` what a page says; yield their paths.

    A block of Python is a new file, a diff changes a file that is there. The file of a block is the
    one that the paragraph before it begins with, or else that of the block before.
    """
    path = root
    for block in blocks(page):
        if block.language not in ("python", "diff"):
            continue
        said = block.before.rstrip().rpartition("\n\n")[2]
        if named := PYTHON_FILE.match(said):
            path = root / named[1]
        if block.language == "python":
            assert "new:" in said
            assert not path.exists()
            path.write_text(block.text, "utf-8")
        else:
            path.write_text(patched(path.read_text("utf-8"), block.text), "utf-8")
        yield path


def patched(text: str, diff: str) -> str:
    """The text with a hunk applied whose lines begin with a blank, ``-`` or ``+``."""
    lines = diff.splitlines()
    assert {line[0] for line in lines} <= set(" -+")
    old, new = (
        "".join(f"{line[1:]}\n" for line in lines if line[0] in kept) for kept in (" -", " +")
    )
    assert f"\n{text}".count(f"\n{old}") == 1, f"the page changes what is not there once:\n{old}"
    return f"\n{text}".replace(f"\n{old}", f"\n{new}")[1:]
