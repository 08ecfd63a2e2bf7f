"""The C program: compiled here, equal to the packed network bit for bit, calm on damaged files."""

import functools
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from networks_that_fire import CASES, METHODS, Case, sew, stbp
from paths import ROOT
from small_cells import cell_file
from torch import Tensor, nn

from repro import packing
from repro.build import build_network
from repro.cbp.layers import convert, prepare
from repro.cbp.levels import LayerLevels
from repro.cli import main
from repro.deploy.c_export import write_c
from repro.deploy.c_header import MAP_BYTES, NET_BYTES, OP_BYTES
from repro.deploy.c_network import program_of
from repro.deploy.in_order import in_order_, logits_in_order
from repro.deploy.packed_inference import load_packed_
from repro.deploy.packed_run import open_cell, origin_of
from repro.errors import UserError
from repro.methods.base import predictions
from repro.networks.conv7fc3 import conv7fc3
from repro.networks.vgg import vgg16
from repro.neurons.observe import observed
from repro.neurons.stbp import StbpNeuron

COMPILER = shutil.which("gcc") or shutil.which("cc")
SOURCES = ROOT / "repro" / "deploy" / "c"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler: gcc or cc")
IMAGES = 50
CALM = {"ASAN_OPTIONS": "detect_leaks=0"}  # memory is the program's until it ends


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles the C sources, once for all tests of the same flags."""
    folder, made = tmp_path_factory.mktemp("c"), dict[tuple[str, ...], Path]()

    def compiled(*flags: str) -> Path:
        require(*flags)
        if flags not in made:
            program = folder / f"cbp_net{len(made)}"
            compile_(*flags, str(SOURCES / "cbp_net.c"), "-o", str(program), "-lm")
            made[flags] = program
        return made[flags]

    return compiled


@functools.cache
def require(*flags: str) -> None:
    """Skip where the compiler lacks what flags ask for: the sanitizers' libraries, for example."""
    words = [str(COMPILER), *flags, "-x", "c", "-", "-o", os.devnull]
    done = subprocess.run(
        words, input="int main(void) { return 0; }", capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"{COMPILER} does not take {' '.join(flags)}")


def compile_(*words: str) -> None:
    done = subprocess.run([str(COMPILER), *STRICT, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def run(program: Path, *words: str | Path, code: int = 0) -> list[str]:
    """Lines of standard output; of standard error where it fails."""
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=600, env=CALM)
    assert done.returncode == code, done.stderr
    assert code == 0 or len(done.stderr.splitlines()) == 1, done.stderr
    assert code != 0 or done.stderr == ""
    return (done.stderr if code else done.stdout).splitlines()


@dataclass(frozen=True)
class Made:
    """A case's files, and its network as Python runs the packed file."""

    folder: Path
    network: nn.Module
    inputs: Tensor

    @property
    def file(self) -> Path:
        return self.folder / "network.safetensors"

    @property
    def images(self) -> Path:
        return self.folder / "images.f32"


def make(case: Case, levels: str, folder: Path, count: int, **options: Any) -> Made:
    torch.manual_seed(1)
    with torch.no_grad():
        network = case.make()
    prepare(network, levels, **options)
    found = {f"{name}.weight": layer for name, layer in convert(network).items()}
    network.eval()
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    about = {"run": "a", "note": 'a "quoted" \\ word'}
    write_c(network, state, found, case.shape, case.time_steps, about, folder)
    inputs = case.inputs(count)
    (folder / "images.f32").write_bytes(inputs.numpy().astype("<f4").tobytes())
    load_packed_(network, folder / "network.safetensors")
    return Made(folder, network, inputs)


def logits_of(network: nn.Module, inputs: Tensor) -> tuple[Tensor, list[int]]:
    """Logits, summed step after step, and the spikes of each call of neurons."""
    spikes: list[int] = []
    with torch.no_grad(), observed(network, lambda _, fired, __: spikes.append(int(fired.sum()))):
        return logits_in_order(network(inputs)), spikes


def logits(line: str) -> list[float]:
    return [float.fromhex(number) for number in line.split()[1:]]


def assert_equal(made: Made, lines: list[str]) -> int:
    """Classes, logits and spikes are Python's, bit for bit; returns how many logits differ."""
    count = len(made.inputs)
    by_class = predictions(logits_of(made.network, made.inputs)[0][None]).tolist()  # torch's sums
    in_order_(made.network)
    outputs, spikes = logits_of(made.network, made.inputs)
    assert torch.tensor([logits(line) for line in lines[:count]]).equal(outputs)
    classes = [int(line.split()[0]) for line in lines[:count]]
    assert classes == outputs.argmax(1).tolist()
    given = [int(line.split()[1]) for line in lines[count:]]
    assert [number for number in given if number] == [number for number in spikes if number]
    assert sum(spikes) > 0
    agreeing = sum(a == b for a, b in zip(classes, by_class, strict=True))
    print(
        f"\n  cbp_net in C, {count} inputs: classes, logits and {sum(spikes):,} spikes are "
        f"Python's, bit for bit; {agreeing} classes are also those of PyTorch's order of summation",
        end="",
    )
    assert count - agreeing <= max(1, count // 50)  # on another machine other sums may round
    return len({tuple(row) for row in outputs.tolist()})


@pytest.mark.parametrize("levels", ["binary", "ternary"])
@pytest.mark.parametrize("name", CASES)
def test_classes_logits_and_spikes_are_pythons(
    name: str, levels: str, build: Callable[..., Path], tmp_path: Path
) -> None:
    made = make(CASES[name], levels, tmp_path, IMAGES)
    lines = run(build("-O2"), made.file, made.images, "-v")
    classes = [line.split()[0] for line in lines[:IMAGES]]
    assert run(build("-O2"), made.file, made.images) == classes
    assert assert_equal(made, lines) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_thousand_images_of_every_method(
    name: str, build: Callable[..., Path], tmp_path: Path
) -> None:
    made = make(CASES[name], "binary", tmp_path, 1000)
    assert assert_equal(made, run(build("-O2"), made.file, made.images, "-v")) > 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["stbp", "tssl_bp", "snn_calibration"])
def test_trained_networks_on_test_images(
    method: str, build: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = ["ann"] if method == "snn_calibration" else []
    for precision in (*before, "fp32", "ternary"):
        words = [f"--method={method}", "--dataset=cifar10", f"--precision={precision}"]
        assert main(["run", *words, "--tier=smoke", "--width=0.125"]) == 0
    path = tmp_path / "runs" / f"{method}-cifar10-ternary-smoke-s0"
    assert main(["c", str(path), "--out=c", "--images=300"]) == 0
    cell = open_cell(path, 300, None, None)
    inputs = torch.cat([images for images, _ in cell.batches()])
    lines = run(build("-O2"), tmp_path / "c/network.safetensors", tmp_path / "c/images.f32", "-v")
    assert assert_equal(Made(tmp_path / "c", cell.load()[0], inputs), lines) > 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["binary", "ternary"])
def test_models_to_take_home_on_many_frames(
    precision: str, build: Callable[..., Path], tmp_path: Path
) -> None:
    """Trained on N-MNIST; frames are random, so that no data set is needed."""
    name = f"surrogate-nmnist-{precision}-desk-s0"
    shape, out = (2, 34, 34), tmp_path / "c"
    assert main(["c", f"model:{name}", f"--out={out}", "--shape", *map(str, shape)]) == 0
    _, spec = origin_of(ROOT / f"results/models/{name}.safetensors")
    network = build_network(spec.key.cell, spec.recipe, 10, spec.phase)
    load_packed_(network, out / "network.safetensors")
    mean = torch.full((300, spec.recipe.time_steps, *shape), 0.2)
    frames = torch.poisson(mean, generator=torch.Generator().manual_seed(5))
    made = Made(out, network, frames)
    made.images.write_bytes(frames.numpy().astype("<f4").tobytes())
    assert assert_equal(made, run(build("-O2"), made.file, made.images, "-v")) > 1


@pytest.mark.parametrize("name", ["stbp", "surrogate 7b"])
@pytest.mark.parametrize("options", [{"levels": "shift2"}, {"scale": "channel"}], ids=str)
def test_other_levels_and_scales_per_channel(
    options: dict[str, Any], name: str, build: Callable[..., Path], tmp_path: Path
) -> None:
    made = make(CASES[name], **{"levels": "ternary", **options}, folder=tmp_path, count=9)
    assert assert_equal(made, run(build("-O2"), made.file, made.images, "-v")) > 1


def test_another_weight_gives_another_answer(build: Callable[..., Path], tmp_path: Path) -> None:
    made = make(CASES["snn_calibration"], "binary", tmp_path, 3)
    before = run(build("-O2"), made.file, made.images, "-v")
    data = bytearray(made.file.read_bytes())
    begin, _ = json.loads(data[8 : payload_of(data)])["classifier.bias"]["data_offsets"]
    data[payload_of(data) + begin + 3] ^= 0x3F  # the exponent of a bias
    made.file.write_bytes(sealed(data))
    assert run(build("-O2"), made.file, made.images, "-v") != before


DEVICE = """
#include "network.h"
#include <stdio.h>

static uint32_t bits[CBP_NETWORK_BITS];
static float reals[CBP_NETWORK_REALS], logits[CBP_NETWORK_CLASSES], input[CBP_NETWORK_INPUTS];
static uint64_t spikes[sizeof cbp_ops / sizeof *cbp_ops];

int main(void) {
    cbp_memory memory = {bits, reals};
    uint32_t i;
    while (fread(input, sizeof input, 1, stdin) == 1) {
        printf("%u", (unsigned)cbp_run(&cbp_network, input, memory, logits, spikes));
        for (i = 0; i < CBP_NETWORK_CLASSES; i++)
            printf(" %a", (double)logits[i]);
        printf("\\n");
    }
    for (i = 0; i < cbp_network.op_count; i++)
        printf("spikes %u\\n", (unsigned)spikes[i]);
    fprintf(stderr, "%u %u", (unsigned)(ARRAYS), (unsigned)sizeof cbp_maps);
    return 0;
}
"""


@pytest.mark.parametrize("name", METHODS)
def test_the_header_runs_without_a_file_system(
    name: str, build: Callable[..., Path], tmp_path: Path
) -> None:
    made = make(CASES[name], "ternary", tmp_path, 5)
    expected = run(build("-O2"), made.file, made.images, "-v")
    header = (tmp_path / "network.h").read_text()
    arrays = re.findall(r"static const (?:uint32_t|float) (\w+)\[\]", header)
    sizes = " + ".join(f"sizeof {array}" for array in arrays)
    (tmp_path / "device.c").write_text(DEVICE.replace("ARRAYS", sizes))
    program = tmp_path / "device"
    given = [str(tmp_path / "device.c"), str(tmp_path / "cbp_net.c"), "-DCBP_NO_MAIN"]
    require(*SANITIZED)
    compile_(*SANITIZED, *given, "-o", str(program))  # nothing but libc: not even -lm
    with made.images.open("rb") as images:
        done = subprocess.run([program], stdin=images, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()) == (0, expected)
    of_arrays, of_maps = map(int, done.stderr.split())
    flash, ram = (int(n.replace(",", "")) for n in re.findall(r"(?:flash|RAM)\): ([\d,]+)", header))
    instructions = len(re.findall(r"^    \{\.kind", header, re.MULTILINE))
    assert flash == of_arrays + of_maps + OP_BYTES * instructions + NET_BYTES
    bits, reals, classes = (
        int(re.findall(rf"CBP_NETWORK_{part} (\d+)", header)[0])
        for part in ("BITS", "REALS", "CLASSES")
    )
    assert 4 * (bits + reals + classes) - 4 <= ram <= 4 * (bits + reals + classes)


def test_the_structures_have_the_bytes_that_the_header_counts(tmp_path: Path) -> None:
    text = (SOURCES / "cbp_net.h").read_text()
    structures = text[text.index("typedef") : text.index("typedef struct { uint32_t *bits")]
    of_4_bytes = re.sub(r"const \w+ \*|size_t ", "uint32_t ", structures).replace(", *", ", ")
    names = ("cbp_map", "cbp_op", "cbp_net")
    sizes = ", ".join(f"(unsigned)sizeof({name})" for name in names)
    (tmp_path / "sizes.c").write_text(
        f"#include <stdint.h>\n#include <stdio.h>\n{of_4_bytes}\n"
        f'int main(void) {{ printf("%u %u %u\\n", {sizes}); return 0; }}\n'
    )
    compile_(str(tmp_path / "sizes.c"), "-o", str(tmp_path / "sizes"))
    assert run(tmp_path / "sizes") == [f"{MAP_BYTES} {OP_BYTES} {NET_BYTES}"]


def payload_of(data: bytes | bytearray) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def sealed(data: bytes | bytearray) -> bytes:
    """The file with the checksum that its bytes have."""
    blank = data[:35] + b"0" * 64 + data[99:]
    return bytes(data[:35] + hashlib.sha256(blank).hexdigest().encode() + data[99:])


STRANGE = ["", "-1", "nan", "inf", "1e308", "4097", "268435457", "0x", "layer", "read", "codes"]
STRANGE += [*map(str, (0, 1, 2, 3, 5, 8, 33, 64)), "scale 1", "scales 1 0", "add 1", "bias 0"]


def damaged(good: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """A damaged file, and whether its checksum is that of its bytes."""
    data, kind = bytearray(good), rng.choice(["cut", "flip", "sealed flip", *["words"] * 3])
    if kind == "cut":
        return good[: rng.randrange(len(good))], False
    if kind != "words":
        end = payload_of(good) if rng.random() < 0.7 else len(good)
        for _ in range(rng.choice([1, 1, 3])):
            data[rng.randrange(end)] ^= 1 << rng.randrange(8)
        return (sealed(data), True) if kind == "sealed flip" else (bytes(data), False)
    header = json.loads(good[8 : payload_of(good)])
    about = json.loads(header["__metadata__"]["metadata"])
    words = about["network"].split(" ")
    for _ in range(rng.choice([1, 1, 2])):
        where, change = rng.randrange(len(words)), rng.random()
        if change < 0.1:
            del words[where]
        elif change < 0.2:
            words.insert(where, rng.choice(words))
        else:
            words[where] = rng.choice(STRANGE)
    about["network"] = " ".join(words)
    header["__metadata__"]["metadata"] = json.dumps(about, separators=(",", ":"))
    text = json.dumps(header, separators=(",", ":")).encode()
    return sealed(len(text).to_bytes(8, "little") + text + good[payload_of(good) :]), True


def assert_calm(program: Path, made: Made, seed: int, count: int) -> None:
    """Damaged files end in one line; those with a right checksum may run, nothing else happens."""
    good, rng, outcomes = made.file.read_bytes(), random.Random(seed), Counter[str]()
    file = made.folder / "damaged"
    for number in range(count):
        data, has_checksum = damaged(good, rng)
        file.write_bytes(data)
        done = subprocess.run(
            [program, file, made.images], capture_output=True, text=True, timeout=120, env=CALM
        )
        where = f"seed {seed}, input {number}: {done.stderr[-2000:]}"
        assert done.returncode == 2 or (done.returncode == 0 and has_checksum), where
        assert len(done.stderr.splitlines()) == (done.returncode == 2), where
        outcomes[f"checksum {has_checksum}, code {done.returncode}"] += 1
    print(outcomes)
    assert len(outcomes) == 3 or data == good


TINY = {
    "stbp": Case(partial(conv7fc3, 3, time_steps=2, neuron=StbpNeuron(0.25), width=1 / 128)),
    "surrogate": Case(sew("sew_7b", connection="iand"), shape=(2, 6, 6), time_steps=2, frames=True),
}


@pytest.mark.parametrize("name", TINY)
def test_damaged_files_are_refused_without_a_crash(
    name: str, build: Callable[..., Path], tmp_path: Path
) -> None:
    made = make(TINY[name], "ternary", tmp_path, 1)
    run(build(*SANITIZED), made.file, made.images)
    assert_calm(build(*SANITIZED), made, seed=0, count=100)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_many_damaged_files_are_refused_without_a_crash(
    name: str, build: Callable[..., Path], tmp_path: Path
) -> None:
    made = make(TINY[name], "ternary", tmp_path, 1)
    assert_calm(build(*SANITIZED), made, seed=1, count=2000)


@pytest.mark.parametrize("name", METHODS)
def test_sanitizers_find_nothing(name: str, build: Callable[..., Path], tmp_path: Path) -> None:
    made = make(CASES[name], "binary", tmp_path, 1)
    plain = run(build("-O2"), made.file, made.images, "-v")
    done = subprocess.run(
        [build(*SANITIZED), made.file, made.images, "-v"], capture_output=True, text=True, env=CALM
    )
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, plain, "")


def test_what_does_not_fit_is_one_line(build: Callable[..., Path], tmp_path: Path) -> None:
    made, program = make(TINY["stbp"], "binary", tmp_path, 2), build("-O2")
    state, levels = packing.unpack(made.file)
    packing.pack(tmp_path / "old", state, levels, {"run": "a"})
    (line,) = run(program, tmp_path / "old", made.images, code=2)
    assert "write a file with them by python -m repro c FILE --out DIR" in line
    (tmp_path / "part").write_bytes(made.images.read_bytes()[:-1])
    assert "not whole" in run(program, made.file, tmp_path / "part", code=2)[0]
    (tmp_path / "other").write_bytes(bytes(500))
    assert "not a cbp-qsnn-packed file" in run(program, tmp_path / "other", made.images, code=2)[0]
    assert "cannot be opened" in run(program, tmp_path / "none", made.images, code=2)[0]
    assert "usage" in run(program, made.file, code=2)[0]
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**28 + 1)  # takes no place on the disk
    assert "too large" in run(program, tmp_path / "large", made.images, code=2)[0]


def test_the_sources_are_short_and_need_libc_alone() -> None:
    lines = [(SOURCES / name).read_text().splitlines() for name in ("cbp_net.c", "cbp_net.h")]
    assert sum(map(len, lines)) <= 600
    included = re.findall(r"#include [<\"](\S+)[>\"]", "\n".join([*lines[0], *lines[1]]))
    assert set(included) == {
        *("cbp_net.h", "float.h", "math.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h"),
        "string.h",
    }


def test_networks_that_c_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Vgg is not a spiking network"):
        program_of(vgg16(10, width=1 / 32), (3, 32, 32), 4)
    network = stbp()
    network.conv2.dilation = (2, 2)  # type: ignore[union-attr, assignment]
    with pytest.raises(UserError, match="conv2: the C program has no groups"):
        program_of(network, (3, 32, 32), 4)
    with pytest.raises(UserError, match="conv: a map of 0x0"):
        program_of(sew("sew_7b")(), (2, 0, 0), 4)
    state = {name: tensor.double() for name, tensor in stbp().state_dict().items()}
    with pytest.raises(UserError, match="computes in float32"):
        write_c(stbp(), state, {}, (3, 32, 32), 4, {}, tmp_path)
    levels = LayerLevels((-1.0, 0.3, 1.0), 0.5)
    state = dict(stbp().state_dict())
    state["conv2.weight"] = torch.full_like(state["conv2.weight"], 0.5)
    with pytest.raises(UserError, match="not whole numbers"):
        write_c(stbp(), state, {"conv2.weight": levels}, (3, 32, 32), 4, {}, tmp_path)


def test_command_writes_program_header_images_and_classes(
    build: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = cell_file(tmp_path / "run", width=1 / 32), tmp_path / "c"
    assert main(["c", str(path), f"--out={out}", "--images=12"]) == 0
    printed = capsys.readouterr().out
    names = {"cbp_net.c", "cbp_net.h", "classes.txt", "images.f32", "network.h"}
    assert {file.name for file in out.iterdir()} == names | {"network.safetensors"}
    assert "working memory (RAM)" in printed
    assert "cbp_net network.safetensors images.f32 | diff - classes.txt" in printed
    classes = run(build("-O2"), out / "network.safetensors", out / "images.f32")
    assert classes == (out / "classes.txt").read_text().splitlines()
    assert re.search(r"1[012] of 12 are those of PyTorch's own order of summation", printed)
    assert len(classes) == 12
    header = (out / "network.h").read_bytes()
    again = ["c", str(out / "network.safetensors"), f"--out={out}", "--shape", "3", "32", "32"]
    (out / "config.json").write_bytes((tmp_path / "run" / "config.json").read_bytes())
    assert main(again) == 0  # without the data, from its own file: the same
    assert (out / "network.h").read_bytes() == header
    assert main(["infer", str(out / "network.safetensors"), "--images=3"]) == 0
    capsys.readouterr()
    assert main(["c", str(path), f"--out={out}", "--images=-1"]) == 2
    assert "give 0 or more" in capsys.readouterr().err
