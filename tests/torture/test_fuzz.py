"""Bad inputs without number: each gives the right answer or one line, and nothing else happens."""

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import torch
import yaml
from made_rows import family
from paths import ROOT
from safetensors.torch import save_file
from torch import Tensor

from datamodules.errors import DataError
from repro import packing
from repro.campaign.campaign import Campaign
from repro.campaign.transfer import MANIFEST, pack, unpack
from repro.cbp.levels import LEVELS, ChannelLevels, LayerLevels
from repro.cells import CELLS
from repro.cli import main
from repro.cli.run import parse_run
from repro.errors import UserError, one_line
from repro.files import checksum, sha256
from repro.packing.describe import describe
from repro.quantise.job import finished
from repro.quantise.trained_weights import read_state
from repro.recipes.config import read_config
from repro.report.linear_model import read_linear_model
from repro.report.page.trace import read_epochs
from repro.results.published import read_published
from repro.results.rows import read_rows, write_row
from repro.run.checkpoint import SafeCheckpointIO
from repro.run.latent_histograms import BINS, CSV_COLUMNS, read_latent
from repro.sweep.sweep_file import expand, load

SEED: Final = int(os.environ.get("TORTURE_SEED", "0"))
INPUTS: Final = int(os.environ.get("TORTURE_INPUTS", "500"))
PATIENCE: Final = 30  # s; an input that takes longer hangs
OUTCOMES: Final = ("right answer", "one line", "silent", "traceback", "hang", "write outside")
DEEP: Final = 20_000


class HangError(BaseException):
    """An input took too long."""


@dataclass(frozen=True)
class Kind:
    """Files of a kind and their reader.

    Attributes:
        write: Writes good files into a folder.
        read: What a command does with them.
        files: Which of them are damaged, as a pattern.
        sealed: Whether a checksum covers them: then another answer than that of the good files is
            wrong, and counts as silent.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], object]
    files: str = "*"
    sealed: bool = False


def plain(value: object) -> object:
    """What can be compared of an answer."""
    if isinstance(value, Tensor):
        return value.dtype, value.tolist()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else repr(value)


def write_rows(folder: Path) -> None:
    for row in family(fp32=15, binary=14):
        write_row(row, folder)


def write_config(folder: Path) -> None:
    recipe = {"lr": 0.1, "epochs": 3, "cbp": {"epochs": 2}}
    fields = {"key": "a", "recipe": recipe, "recipe_hash": checksum(recipe)[:16], "trained": True}
    (folder / "config.json").write_text(json.dumps(fields))


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"{n}.weight": torch.randn(8, 6, generator=generator) for n in range(4)}


def write_checkpoint(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    content = {"state_dict": weights(), "callbacks": {}, "loops": {"epoch": 3}}
    SafeCheckpointIO().save_checkpoint(content, folder / "last.ckpt")


def write_packed(folder: Path) -> None:
    state, levels = weights(), dict[str, Any]()
    levels["1.weight"] = LayerLevels(LEVELS["ternary"], 0.5)
    levels["2.weight"] = ChannelLevels(LEVELS["binary"], tuple(0.25 * (n + 1) for n in range(8)))
    state["1.weight"] = 0.5 * state["1.weight"].sign()
    state["2.weight"] = state["2.weight"].sign() * torch.tensor(levels["2.weight"].scales)[:, None]
    packing.pack(folder / "model.safetensors", state, levels, {"run": "a"})


def write_archive(folder: Path) -> None:
    run = folder / "from" / "runs" / "a"
    run.mkdir(parents=True)
    for name in ("config.json", "metrics.csv", "last.ckpt"):
        (run / name).write_text("epoch\n1\n")
    places = run.parent, folder / "from" / "rows", folder / "out"
    pack(["a"], *places, limit=2**20, unfinished="a")


def take_over(folder: Path) -> object:
    runs, rows = folder / "runs", folder / "rows"
    taken = unpack(folder / "out", runs, rows)
    return taken, {p.relative_to(folder): p.read_bytes() for p in runs.rglob("*") if p.is_file()}


def write_summary(folder: Path) -> None:
    (folder / "out").write_bytes(b"packed")
    note = {"sha256": sha256(folder / "out"), "text": "the end"}
    (folder / "summary.json").write_text(json.dumps(note))


def write_failure(folder: Path) -> None:
    wanted = campaign(folder)
    wanted.note_failure(wanted.all_runs()[0], "diverged")


def campaign(folder: Path) -> Campaign:
    return Campaign((CELLS[1],), "smoke", (0,), folder, folder, "a")


def write_linear(folder: Path) -> None:
    good = ROOT / "results" / "linear_cifar10_desk.json"
    (folder / good.name).write_bytes(good.read_bytes())


def write_metrics(folder: Path) -> None:
    lines = ["epoch,train_loss,test_accuracy,lr", *(f"{n},0.5,0.75,0.1" for n in range(4))]
    (folder / "metrics.csv").write_text("\n".join(lines))


def write_histograms(folder: Path) -> None:
    lines = [f"{n},conv{m},100,{','.join(['1'] * BINS)}" for n in range(3) for m in range(2)]
    (folder / "latent.csv").write_text("\n".join([",".join(CSV_COLUMNS), *lines]))


def write_published(folder: Path) -> None:
    (folder / "paper.csv").write_bytes((ROOT / "results" / "paper.csv").read_bytes())


def write_sweep(folder: Path) -> None:
    good = next((ROOT / "sweeps").glob("12*.yaml"))
    (folder / "sweep.yaml").write_bytes(good.read_bytes())


def read_sweep(folder: Path) -> object:
    return [parse_run(words[1:])[1] for words in expand(load(folder / "sweep.yaml"), {})[:3]]


KINDS: Final = {
    "rows": Kind(write_rows, read_rows, sealed=True),
    "config.json": Kind(write_config, lambda f: read_config(f / "config.json")),
    "last.ckpt": Kind(
        write_checkpoint,
        lambda f: SafeCheckpointIO().load_checkpoint(f / "last.ckpt"),
        sealed=True,
    ),
    "weights of torch": Kind(
        lambda f: torch.save(weights(), f / "a.pt"), lambda f: read_state(f / "a.pt"), sealed=True
    ),
    "weights of safetensors": Kind(
        lambda f: save_file(weights(), f / "a.safetensors"),
        lambda f: read_state(f / "a.safetensors"),
    ),
    "packed file": Kind(
        write_packed,
        lambda f: (packing.unpack(f / "model.safetensors"), describe(f / "model.safetensors")),
        sealed=True,
    ),
    "archive of a campaign": Kind(write_archive, take_over, "out/*"),
    "summary.json": Kind(write_summary, lambda f: finished(f, f / "out"), "summary.json"),
    "failed.json": Kind(
        write_failure, lambda f: campaign(f).failure(campaign(f).all_runs()[0]), "*/failed.json"
    ),
    "linear model": Kind(write_linear, lambda f: read_linear_model(next(f.iterdir()))),
    "metrics.csv": Kind(write_metrics, lambda f: read_epochs(f / "metrics.csv")),
    "latent.csv": Kind(write_histograms, read_latent),
    "paper.csv": Kind(write_published, lambda f: read_published(f / "paper.csv")),
    "sweep file": Kind(write_sweep, read_sweep),
}


def values(outside: Path) -> list[object]:
    """What does not belong into a field; paths among them lead to a folder to be left alone."""
    deep: object = []
    for _ in range(300):
        deep = [deep]
    paths = ["../../outside/x", str(outside / "x"), "..", "", "a\0b", "x" * 5000, "~/x", "\x1b[2J"]
    numbers = [-1, 0, 10**30, 1e308, 5e-324, float("nan"), float("inf"), True, None, 1.5]
    return [*paths, *numbers, deep, [], {}, [1], {"a": 1}, "2026-01-01", "0x1p9999"]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value, with the keys in it."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def change_a_field(content: bytes, outside: Path, dice: random.Random) -> bytes:
    """Another value of a field, a field less, or one more; of what is no JSON or YAML, a bit."""
    try:
        value = yaml.safe_load(content.decode())
        value, container, key = value, *dice.choice(list(places(value)))
    except Exception:
        return flip(content, outside, dice)
    act = dice.randrange(4)
    if act == 0:
        del container[key]
    elif act == 1 and isinstance(container, dict):
        container[f"{key}s"] = container[key]
    else:
        container[key] = dice.choice(values(outside))
    return json.dumps(value).encode()


def flip(content: bytes, outside: Path, dice: random.Random) -> bytes:
    at = dice.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :]


def cut(content: bytes, outside: Path, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content))]


def stuff(content: bytes, outside: Path, dice: random.Random) -> bytes:
    at, more = dice.randrange(len(content)), dice.randbytes(dice.choice((1, 9, 999)))
    return content[:at] + more + content[at + dice.choice((0, len(more))) :]


def swap_number(content: bytes, outside: Path, dice: random.Random) -> bytes:
    digits = [at for at, byte in enumerate(content[:20_000]) if chr(byte).isdigit()]
    if not digits:
        return cut(content, outside, dice)
    at, number = dice.choice(digits), dice.choice(("9" * 5000, "1e999", "-1", "nan", "0", "x"))
    return content[:at] + number.encode() + content[at + 1 :]


def replace(content: bytes, outside: Path, dice: random.Random) -> bytes:
    """Something else altogether, of the same kind at first sight or not."""
    archive, tar, saved = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}.")
    with tarfile.open(fileobj=tar, mode="w") as packed:
        packed.addfile(tarfile.TarInfo(f"runs/{outside}/x.txt"))
    torch.save(dice.choice([[1], {"state_dict": 3}, 7, {"a": torch.ones(2)}]), saved)
    texts = [b"", b"[" * DEEP, b'{"a":' * DEEP, b"null", b"\xff\xfe", b"a: &a [*a]", b"[]", b"\0"]
    huge = (2**62).to_bytes(8, "little") + b'{"__metadata__":{"sha256":"'
    return dice.choice([*texts, huge, archive.getvalue(), tar.getvalue(), saved.getvalue()])


DAMAGE: Final = (flip, flip, cut, stuff, swap_number, change_a_field, change_a_field, replace)


def evil_archive(folder: Path, outside: Path, dice: random.Random) -> None:
    """An archive with right checksums, and names that lead out of the folders."""
    ways = [
        str(outside),
        "../outside",
        "a/../../../outside",
        "",
        ".",
        "..",
        "a/b",
        "a\0",
        "ä" * 300,
    ]
    name, content = dice.choice(ways), io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as packed:
        for member in (f"runs/{name}/x.txt", f"rows/{name}.json", f"{name}/x.txt"):
            entry = tarfile.TarInfo(member)
            entry.type = dice.choice((tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE))
            entry.linkname = str(outside)
            packed.addfile(entry)
    part = folder / "out" / dice.choice(("part", "../part"))
    part.write_bytes(content.getvalue())
    parts = [{"name": part.name, "sha256": hashlib.sha256(content.getvalue()).hexdigest()}]
    progress = {name: [1, 1, 99], **{str(v): [1, 1, 99] for v in (outside, "a")}}
    (folder / "out" / MANIFEST).write_text(json.dumps({"parts": parts, "progress": progress}))


# Commands with arguments that they cannot take; none of them trains.
COMMANDS: Final = {
    "cells": (),
    "tables": ("--rows", "--results", "--from"),
    "report": ("--rows", "--results", "--runs", "--out"),
    "export": ("", "--out", "--epoch"),
    "inspect": ("",),
    "infer": ("", "--images", "--batch-size", "--arithmetic"),
    "costs": ("", "--images", "--out"),
    "nir": ("", "--out", "--shape"),
    "qonnx": ("", "--out", "--shape"),
    "run": ("--method", "--dataset", "--seed", "--tier", "--devices", "--ablation", "--lr"),
    "sweep": ("", "--jobs", "--tier", "--engine", "--cpus-per-run"),
    "quantise": ("--model", "--checkpoint", "--levels", "--epochs", "--scale", "--seed"),
    "campaign": ("--time-budget", "--seeds", "--cells", "--take", "--kit", "--limit", "--tier"),
    "reproduce": ("--tier", "--seeds", "--jobs", "--results"),
    "simulate": ("", "--jobs", "--recordings-per-class", "--figure"),
}


def bad_words(outside: Path, dice: random.Random) -> list[str]:
    """A command line that no command can take, whatever else is in it."""
    command = dice.choice(list(COMMANDS))
    names = COMMANDS[command] or ("--frob",)
    given = [str(value)[:300].replace("\0", "") for value in values(outside)]
    words = [command]
    for name in dice.sample(names, dice.randint(1, len(names))):
        words += [word for word in (name, dice.choice(given)) if word or not name]
    return [*words, dice.choice(("--frob", "--frob=1", "-x", "--seed=x", "--rows"))]


@contextlib.contextmanager
def patience(seconds: int) -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def is_one_line(text: str) -> bool:
    return text.isprintable() and 10 < len(text) < 2000


def outcome(read: Callable[[], object], good: object | None) -> str:
    """What comes of an input; ``good`` is the only right answer, None where there are several."""
    try:
        with patience(PATIENCE):
            answer = plain(read())
    except (UserError, DataError, OSError) as error:
        return "one line" if is_one_line(one_line(error)) else f"traceback: {error!r}"
    except HangError:
        return "hang"
    except BaseException as error:
        return f"traceback: {error!r:.300}"
    return "right answer" if good is None or answer == good else "silent"


def command_outcome(words: list[str]) -> str:
    """What comes of a command line."""
    told, printed = io.StringIO(), io.StringIO()
    try:
        streams = contextlib.redirect_stderr(told), contextlib.redirect_stdout(printed)
        with patience(PATIENCE), streams[0], streams[1]:
            code = main(words)
    except HangError:
        return "hang"
    except BaseException as error:
        return f"traceback: {error!r:.300}"
    line = told.getvalue().removesuffix("\n")
    if code == 0:
        return "silent"
    return "one line" if code == 2 and is_one_line(line) else f"traceback: {code}, {line:.300}"


def damaged(kind: Kind, folder: Path, outside: Path, dice: random.Random) -> None:
    """Damage one file of a folder; another way is taken where it changed nothing."""
    path = dice.choice(sorted(path for path in folder.glob(kind.files) if path.is_file()))
    content = path.read_bytes()
    while path.read_bytes() == content:
        path.write_bytes(dice.choice(DAMAGE)(content, outside, dice))


def written_outside(folder: Path, number: int) -> list[str]:
    """What lies where no input belongs."""
    known = {"good", "outside", "outside/x", f"{number}/place", *map(str, range(number + 1))}
    found = [*folder.iterdir(), *(folder / "outside").iterdir(), *folder.glob(f"{number}/*")]
    strangers = [name for path in found if (name := str(path.relative_to(folder))) not in known]
    intact = (folder / "outside" / "x").read_text() == "left alone"
    return strangers if intact else [*strangers, "outside/x"]


def inputs(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield kind, description and outcome of every bad input."""
    dice, outside = random.Random(SEED), folder / "outside"
    outside.mkdir()
    (outside / "x").write_text("left alone")
    goods = {}
    for name, kind in KINDS.items():
        good = folder / "good" / name
        good.mkdir(parents=True)
        kind.write(good)
        goods[name] = plain(kind.read(good)) if kind.sealed else None
    names = [*KINDS, "evil archive", "command line", "command line"]
    for number in range(INPUTS):
        name, place = names[number % len(names)], folder / f"{number}" / "place"
        place.mkdir(parents=True)
        os.chdir(place)
        if name == "command line":
            words = bad_words(outside, dice)
            said, found = str(words), command_outcome(words)
        else:
            kind = KINDS.get(name, KINDS["archive of a campaign"])
            kind.write(place)
            if name in KINDS:
                damaged(kind, place, outside, dice)
            else:
                evil_archive(place, outside, dice)
            said, found = f"{number}", outcome(lambda: kind.read(place), goods.get(name))  # noqa: B023
        if strangers := written_outside(folder, number):
            found = f"write outside: {strangers}"
        yield name, said, found


@pytest.mark.torture
def test_bad_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CBP_DATA", str(tmp_path / "data"))
    counts: dict[str, Counter[str]] = {}
    wrong = []
    for name, said, found in inputs(tmp_path):
        short = found.partition(":")[0]
        counts.setdefault(name, Counter())[short] += 1
        if short not in OUTCOMES[:2]:
            wrong.append(f"{name} {said}: {found}")
    width = max(map(len, counts))
    print(f"\n{INPUTS} bad inputs, seed {SEED}")
    print(" " * width, *(f"{outcome:>13}" for outcome in OUTCOMES))
    total = sum(counts.values(), Counter())
    for name, row in {**counts, "all": total}.items():
        print(f"{name:{width}}", *(f"{row[outcome]:13}" for outcome in OUTCOMES))
    assert wrong == []


def test_every_outcome_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UserError("file: damaged\nin two lines")

    def fail() -> None:
        raise KeyError("a")

    def wait() -> None:
        while True:
            pass

    monkeypatch.setattr("test_fuzz.PATIENCE", 1)
    assert outcome(refuse, None) == "one line"
    assert outcome(fail, None).startswith("traceback: KeyError")
    assert outcome(wait, None) == "hang"
    good = plain({"w": torch.ones(2)})
    assert outcome(lambda: {"w": torch.ones(2)}, good) == "right answer"
    assert outcome(lambda: {"w": torch.zeros(2)}, good) == "silent"
    assert outcome(lambda: {"w": torch.zeros(2)}, None) == "right answer"
    assert command_outcome(["cells"]) == "silent"
    assert command_outcome(["cells", "--frob"]) == "one line"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("left alone")
    assert written_outside(tmp_path, 0) == []
    (tmp_path / "outside" / "y").touch()
    assert written_outside(tmp_path, 0) == ["outside/y"]
