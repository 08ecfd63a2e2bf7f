"""Every snippet of README and docs runs, every command parses, every path and heading exists."""

import ast
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pages import DOCUMENTS, blocks, commands, parse, read
from paths import ROOT

from repro.cli.dispatch import COMMANDS
from repro.errors import UserError

PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
OUR_FOLDERS = "repro|datamodules|tests|docs|examples|benchmarks|sweeps"
LANGUAGES = ("", "python", "diff", "c", "hex", "latex")
FOLLOWED = ("docs/adding_a_data_set.md", "docs/adding_a_method.md")  # test_adding_pages.py
TABLE = re.compile(r"<!-- table -->\n.*?<!-- /table -->\n", re.DOTALL)
# Words of the field, and what is not among them.
FOREIGN = re.compile(
    r"\bpersons?\b|\bno number\b|\bgo(?:es)? on\b|\bnot to be had\b|\bwants?\b|flatters"
    r"|\btrained on for\b|\bfor as long\b|\bis no [a-z]+ (?:data set|recipe|level|number)\b"
)


def in_shell(command: str) -> str:
    """The command without what a shell does with its output."""
    return re.split(r" (?:>|\|) ", command)[0]


def require_files(command: str) -> None:
    """Everything that looks like a file of this repository is one."""
    words = shlex.split(command.strip("$()"))
    files = [word for word in words if re.fullmatch(rf"(?:{OUR_FOLDERS})/[\w/.]+", word)]
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []


def require_target(command: str) -> None:
    assert re.search(rf"^{command.split()[1]}:", read("Makefile"), re.MULTILINE)


def require_extras(command: str) -> None:
    (extras,) = re.findall(r"\.\[(\w+)\]", command)
    assert extras in PROJECT["optional-dependencies"]
    assert "-c constraints.txt" in command


def require_benchmark(command: str) -> None:
    """The module is there and takes the options."""
    module, *words = command.split()[2:]
    source = read(f"{module.replace('.', '/')}.py")
    assert [word for word in words if word.startswith("--") and f'"{word}"' not in source] == []


def require_conda(command: str) -> None:
    environment = yaml.safe_load(read("environment.yml"))
    assert command in ("conda env create -f environment.yml", f"conda activate {PROJECT['name']}")
    assert environment["name"] == PROJECT["name"]


def require_c(command: str) -> None:
    """The command to compile is the one that ``python -m repro c`` prints; its program runs."""
    from repro.deploy.c_export import CHECK, COMPILE

    assert command in (CHECK, COMPILE)


def require_wandb(command: str) -> None:
    from wandb.cli.cli import cli

    assert command.split()[1] in cli.commands


KINDS: dict[str, Callable[[str], None]] = {
    "python -m repro ": lambda command: parse(in_shell(command)),
    "make ": require_target,
    "python -m benchmarks.": require_benchmark,
    "python -m pytest ": require_files,
    "python examples/": require_files,
    "torchrun ": require_files,
    "sbatch ": require_files,
    "job=$(sbatch ": lambda command: require_files(command.removeprefix("job=")),
    "python -m pip install ": require_extras,
    "pip install ": require_extras,
    "conda ": require_conda,
    "wandb sweep ": require_files,
    "wandb ": require_wandb,
    "cc ": require_c,
    "./cbp_net ": require_c,
}


def check(command: str) -> None:
    """Check a command by the first kind that it is of."""
    found = [kind for prefix, kind in KINDS.items() if command.startswith(prefix)]
    assert found, f"no test knows this kind of command: {command}"
    found[0](command)


EVERY = {
    command: None for name in DOCUMENTS if name not in FOLLOWED for command in commands(read(name))
}


@pytest.mark.parametrize("command", EVERY)
def test_a_command_can_be_typed_as_it_is(command: str) -> None:
    check(command)


@pytest.mark.parametrize(
    "words", ["run --method stbp --dataset cifar10 --tier tiny", "tables --row results", "inspect"]
)
def test_a_wrong_command_of_ours_is_found(words: str) -> None:
    with pytest.raises(UserError):
        check(f"python -m repro {words}")


@pytest.mark.parametrize(
    "command",
    [
        *("make nonesuch", "python examples/nonesuch.py", "wandb sweep sweeps/nonesuch.yaml"),
        *("pip install -c constraints.txt -e '.[none]'", "wandb nonesuch", "rm -r results"),
        "python -m benchmarks.train_step --nonesuch",
    ],
)
def test_a_wrong_command_of_others_is_found(command: str) -> None:
    with pytest.raises(AssertionError):
        check(command)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_block_says_its_language(document: str) -> None:
    assert {block.language for block in blocks(read(document))} <= set(LANGUAGES)


SNIPPETS = {
    f"{document} {number}": block.text
    for document in DOCUMENTS
    if document not in FOLLOWED
    for number, block in enumerate(blocks(read(document), "python"), 1)
}


@pytest.mark.filterwarnings("ignore")  # Lightning's advice to users
@pytest.mark.parametrize("snippet", SNIPPETS.values(), ids=SNIPPETS)
def test_a_snippet_runs(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    from examples.small_digits import Model

    save_file(Model().state_dict(), tmp_path / "parent.safetensors")  # one snippet reads it
    monkeypatch.chdir(tmp_path)
    short = re.sub(r"(max_epochs=|in range\()\d+", r"\g<1>2", snippet)  # two epochs show as much
    exec(compile(short, "snippet", "exec"), {"__name__": "snippet"})
    files = {path.name for path in tmp_path.glob("*.safetensors")} - {"parent.safetensors"}
    assert files == set(re.findall(r'pack\("([\w.]+)"', snippet)) != set()


def test_readme_is_a_front_page() -> None:
    page = read("README.md")
    assert len(page.splitlines()) <= 170
    lightning, plain = (block.text.splitlines() for block in blocks(page, "python"))
    assert len([line for line in lightning if line]) <= 10
    assert len(plain) <= 25


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_names_exists(document: str) -> None:
    text, folder = read(document), (ROOT / document).parent
    named = re.findall(rf"`((?:{OUR_FOLDERS})/[\w./]*)`", FENCE_FREE.sub("", text))
    made = re.findall(r"`([\w/]+\.py)`, new:", text)
    assert [path for path in named if path not in made and not (ROOT / path).exists()] == []
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [link for link in links if not leads_somewhere(link, folder, text)] == []
    assert set(re.findall(r"`python -m repro ([\w-]+)", text)) <= COMMANDS.keys()
    modules = re.findall(r"`python -m (benchmarks\.\w+)", text)
    assert [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()] == []


FENCE_FREE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def leads_somewhere(link: str, folder: Path, page: str) -> bool:
    """Whether the file of a link exists, and its heading if it names one."""
    path, _, heading = link.partition("#")
    if path and not (folder / path).exists():
        return False
    return not heading or heading in headings((folder / path).read_text("utf-8") if path else page)


def headings(page: str) -> set[str]:
    """The headings of a page as links write them."""
    found = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in found}


def test_a_link_to_nowhere_is_found() -> None:
    here = "# Some words\n"
    assert leads_somewhere("#some-words", ROOT, here)
    assert not leads_somewhere("#other-words", ROOT, here)
    assert leads_somewhere("docs/running.md#install", ROOT, here)
    assert not leads_somewhere("docs/running.md#nowhere", ROOT, here)
    assert not leads_somewhere("docs/nowhere.md", ROOT, here)


@pytest.mark.parametrize(
    "document", [name for name in DOCUMENTS if not name.startswith("docs/adr")]
)
def test_words_are_those_of_the_field(document: str) -> None:
    assert FOREIGN.findall(TABLE.sub("", read(document))) == []


@pytest.mark.parametrize("package", ["repro", "datamodules"])
def test_words_of_docstrings_and_messages_are_those_of_the_field(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert FOREIGN.findall(node.value) == [], f"{path}:{node.lineno}"


def test_every_page_can_be_found_from_the_index() -> None:
    pages = {name.removeprefix("docs/") for name in DOCUMENTS if name.startswith("docs/")}
    linked = set(re.findall(r"\]\(([\w./]+)\)", read("docs/README.md")))
    assert {name for name in pages if "/" not in name} - {"README.md"} - linked == set()
