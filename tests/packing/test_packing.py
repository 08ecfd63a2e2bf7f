"""The packed weight file: bit-for-bit round trips, a scalar reader as oracle, damaged files."""

import hashlib
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from paths import ROOT
from safetensors import safe_open
from torch import Tensor, nn

from repro import memory, packing
from repro.cbp.levels import LEVELS, LayerLevels
from repro.errors import UserError
from repro.packing.describe import describe
from repro.packing.file import _CHUNK

DOCUMENT = ROOT / "docs" / "packed_format.md"
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def quantised(
    shape: tuple[int, ...], levels: LayerLevels, dtype: torch.dtype = torch.float32
) -> Tensor:
    values = levels.values(dtype)
    return values[torch.randint(len(values), shape, generator=torch.Generator().manual_seed(3))]


def bits(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def assert_same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        assert (state[name].dtype, state[name].shape) == (tensor.dtype, tensor.shape), name
        assert bits(state[name]) == bits(tensor), name


def example() -> tuple[dict[str, Tensor], dict[str, LayerLevels]]:
    """A state dict with every kind of tensor, one quantised layer of each level set."""
    state, layers = {"z.bias": torch.tensor([float("nan"), -0.0, 1e-45])}, {}
    for number, name in enumerate(LEVELS):
        layers[f"{name}.weight"] = LayerLevels(LEVELS[name], 0.1 + number / 7)
        state[f"{name}.weight"] = quantised((3, 5, 3, number + 1), layers[f"{name}.weight"])
    state |= {
        "bn.num_batches_tracked": torch.tensor(2**40 + 1),
        "double": torch.rand(3, dtype=torch.float64),
        "half": torch.rand(5).to(torch.bfloat16),
        "mask": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 4),
        "first.weight": torch.randn(4, 2, 3, 3).to(memory_format=torch.channels_last),
    }
    return state, layers


def read_scalar(data: bytes, name: str) -> list[float]:
    """The reader of docs/packed_format.md: one FP32 weight at a time, no library of ours."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    about = header["__metadata__"]
    assert data[35:99].decode() == about["sha256"]
    assert hashlib.sha256(data[:35] + b"0" * 64 + data[99:]).hexdigest() == about["sha256"]
    layer = json.loads(about["layers"])[name]
    (scale,) = struct.unpack("<f", struct.pack("<f", float.fromhex(layer["scale"])))
    start = 8 + length + header[name]["data_offsets"][0]
    weights = []
    for number in range(torch.Size(layer["shape"]).numel()):
        index = 0
        for j in range(layer["bits"]):
            bit = number * layer["bits"] + j
            index |= (data[start + bit // 8] >> (bit % 8) & 1) << j
        weights.append(layer["levels"][index] * scale)
    return weights


def test_round_trip_is_bit_for_bit(tmp_path: Path) -> None:
    state, layers = example()
    path = tmp_path / "net.packed"
    size = packing.pack(path, state, layers, {"run": "a-b-s0", "commit": "Å"})
    assert size == path.stat().st_size
    back, levels = packing.unpack(path)
    assert_same(back, state)
    assert levels == layers
    assert packing.metadata(path) == {"commit": "Å", "run": "a-b-s0"}
    back["z.bias"] += 1  # the tensors own their memory and are writable


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", sorted(LEVELS))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, _CHUNK - 1, _CHUNK + 3])
def test_round_trip_of_every_precision_and_length(
    tmp_path: Path, dtype: torch.dtype, name: str, count: int
) -> None:
    levels = LayerLevels(LEVELS[name], 1 / 3)
    weight = quantised((count,), levels, dtype)
    size = packing.pack(tmp_path / "w", {"w": weight}, {"w": levels})
    back, _ = packing.unpack(tmp_path / "w")
    assert back["w"].dtype == dtype
    assert torch.equal(back["w"], weight)
    assert size - packing.pack(tmp_path / "none", {}, {}) < -(-count * levels.bits // 8) + 300


def test_scalar_reader_agrees(tmp_path: Path) -> None:
    state, layers = example()
    packing.pack(tmp_path / "w", state, layers)
    data = (tmp_path / "w").read_bytes()
    for name in layers:
        assert read_scalar(data, name) == state[name].reshape(-1).tolist()


def test_safetensors_reads_the_container(tmp_path: Path) -> None:
    state, layers = example()
    packing.pack(tmp_path / "w", state, layers)
    with safe_open(tmp_path / "w", framework="pt") as file:
        assert file.metadata()["format"] == packing.FORMAT
        assert set(file.keys()) == set(state)
        for name in set(state) - set(layers):
            assert bits(file.get_tensor(name)) == bits(state[name])


def test_same_input_same_file_and_other_input_another(tmp_path: Path) -> None:
    state, layers = example()

    def data(metadata: dict[str, str]) -> bytes:
        packing.pack(tmp_path / "w", state, layers, metadata)
        return (tmp_path / "w").read_bytes()

    first = data({"a": "1", "b": "2"})
    assert first == data({"b": "2", "a": "1"})
    assert first != data({"a": "1", "b": "3"})
    state["z.bias"] = torch.zeros(3)
    assert first != data({"a": "1", "b": "2"})
    assert [path.name for path in tmp_path.iterdir()] == ["w"]  # no temporary file is left


def test_worked_example_of_the_document_is_true(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"```hex\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 1
    lines = [line.split("|")[0].split()[1:] for line in blocks[0].splitlines()]
    documented = bytes.fromhex("".join("".join(line) for line in lines))
    layers = {
        "b": LayerLevels(LEVELS["binary"], 0.5),
        "t": LayerLevels(LEVELS["ternary"], 0.1),
    }
    state = {
        "b": torch.tensor([[0.5, 0.5, -0.5, 0.5, -0.5], [-0.5, -0.5, -0.5, 0.5, 0.5]]),
        "bias": torch.tensor([1.0, -2.0]),
        "t": torch.tensor([0.1, 0.0, -0.1, 0.0, 0.1]),
    }
    packing.pack(tmp_path / "w", state, layers, {"run": "example"})
    assert (tmp_path / "w").read_bytes() == documented
    assert read_scalar(documented, "t") == state["t"].tolist()


@pytest.mark.parametrize("stranger", [0.3000001, float("nan"), float("inf"), -0.0])
def test_weights_that_are_not_levels_are_refused(tmp_path: Path, stranger: float) -> None:
    levels = LayerLevels(LEVELS["ternary"], 0.3)
    weight = quantised((4, 5), levels)
    packing.pack(tmp_path / "w", {"conv.weight": weight}, {"conv.weight": levels})
    weight[1, 2:4] = stranger
    with pytest.raises(ValueError, match=r"conv\.weight: 2 of 20 weights are not levels"):
        packing.pack(tmp_path / "v", {"conv.weight": weight}, {"conv.weight": levels})
    assert not (tmp_path / "v").exists()


BINARY = LayerLevels(LEVELS["binary"], 1.0)


@pytest.mark.parametrize(
    ("state", "layers", "message"),
    [
        ({"w": torch.ones(2)}, {"v": BINARY}, r"levels for \['v'\]"),
        ({"w": torch.ones(2, dtype=torch.int64)}, {"w": BINARY}, "floating-point"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, {}, "cannot be stored"),
        ({"__metadata__": torch.ones(2)}, {}, "any name but"),
        ({"w": torch.ones(2)}, {"w": LayerLevels((1.0, -1.0), 1.0)}, "ascending"),
        ({"w": torch.ones(2)}, {"w": LayerLevels((-1.0, 1.0), 0.0)}, "scale 0"),
        ({"w": torch.ones(2)}, {"w": LayerLevels((-1.0, 1.0), float("nan"))}, "scale nan"),
        ({"w": torch.ones(2)}, {"w": LayerLevels((1.0,), 1.0)}, "2 to 256"),
    ],
)
def test_bad_arguments_are_named(
    tmp_path: Path, state: dict[str, Tensor], layers: dict[str, LayerLevels], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        packing.pack(tmp_path / "w", state, layers)


def test_unwritable_path_is_one_line_and_keeps_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        packing.pack(tmp_path / "no" / "w", {}, {})
    packing.pack(tmp_path / "w", {}, {})
    with pytest.raises(UserError, match="cannot write"):
        packing.pack(tmp_path / "w" / "below", {}, {})
    assert packing.unpack(tmp_path / "w") == ({}, {})


def small_file(folder: Path) -> bytes:
    layers = {"w": LayerLevels(LEVELS["ternary"], 0.3)}
    state = {"w": quantised((3, 7), layers["w"]), "b": torch.randn(2)}
    packing.pack(folder / "w", state, layers, {"run": "x"})
    return (folder / "w").read_bytes()


def refused(path: Path, data: bytes) -> str:
    """Return the message for ``data``, which must be one line that names the file."""
    path.write_bytes(data)
    with pytest.raises(packing.PackedFileError) as caught:
        packing.unpack(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_every_flipped_byte_is_found(tmp_path: Path, mask: int) -> None:
    data = small_file(tmp_path)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= mask
        refused(tmp_path / "damaged", bytes(damaged))


def test_every_truncation_and_an_extra_byte_are_found(tmp_path: Path) -> None:
    data = small_file(tmp_path)
    for length in range(len(data)):
        assert "damaged" in refused(tmp_path / "short", data[:length])
    assert "instead of" in refused(tmp_path / "long", data + b"\0")


def test_foreign_missing_and_newer_files_are_named(tmp_path: Path) -> None:
    data = small_file(tmp_path)
    assert "not a cbp-qsnn-packed" in refused(tmp_path / "zip", b"PK\3\4" + bytes(200))
    newer = data.replace(b'"version":"1"', b'"version":"3"')
    assert "version 3, not cbp-qsnn-packed version 1 or 2" in refused(tmp_path / "newer", newer)
    with pytest.raises(packing.PackedFileError, match="cannot read"):
        packing.unpack(tmp_path / "missing")


def reseal(data: bytes) -> bytes:
    """Return ``data`` with a right checksum."""
    digest = hashlib.sha256(data[:35] + b"0" * 64 + data[99:]).hexdigest()
    return data[:35] + digest.encode() + data[99:]


BAD_SCALES = ("0x0.0p+0", "nan", "inf", "-0x1.0p+0", "0x1.0p-999", "0x1.0p+999")


def with_scale(data: bytes, scale: str) -> bytes:
    """Return the file with another scale, its length and what follows right."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    layers = json.loads(header["__metadata__"]["layers"])
    for layer in layers.values():
        layer["scale"] = scale
    header["__metadata__"]["layers"] = json.dumps(layers, separators=(",", ":"))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-6] + b"\xff" * 6,  # level index 3 of a ternary layer
        lambda data: data.replace(rb"\"shape\":[3,7]", rb"\"shape\":[9,7]"),
        lambda data: data.replace(rb"\"bits\":2", rb"\"bits\":1"),
        lambda data: data.replace(rb"\"dtype\":\"F32\"", rb"\"dtype\":\"I64\""),
        lambda data: data.replace(rb"\"dtype\":\"F32\"", rb"\"dtype\":\"X32\""),
        lambda data: data.replace(b'"data_offsets":[0,8]', b'"data_offsets":[1,8]'),
        *(lambda data, scale=scale: with_scale(data, scale) for scale in BAD_SCALES),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    data = small_file(tmp_path)
    changed = reseal(change(data))
    assert changed != reseal(data) == data
    assert "contradict" in refused(tmp_path / "crafted", changed)


def network() -> tuple[nn.Module, dict[str, LayerLevels]]:
    """About 0.3 million weights, the middle two layers quantised."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 256, 3), nn.Linear(256, 900),
        nn.Linear(900, 10),
    )  # fmt: skip
    layers = {"2.weight": LayerLevels(LEVELS["binary"], 0.03)}
    layers["3.weight"] = LayerLevels(LEVELS["ternary"], 0.07)
    state = net.state_dict()
    net.load_state_dict(state | {n: quantised(tuple(state[n].shape), layers[n]) for n in layers})
    return net, layers


def test_measured_size_is_the_computed_size(tmp_path: Path) -> None:
    net, layers = network()
    computed = memory.count(net, {"2": 1, "3": 2})
    measured = packing.pack(tmp_path / "w", net.state_dict(), layers)
    assert 300_000 < computed.weights < 400_000
    assert 0 < measured - computed.everything_bytes < 0.002 * computed.everything_bytes + 4096
    full = sum(tensor.nbytes for tensor in net.state_dict().values())
    text = describe(tmp_path / "w")
    assert f"whole file: {measured:,} bytes, {measured / full:.2%} of {full:,} at FP32" in text
    assert f"weights only: {computed.weights_only_bytes:,} bytes, {computed.ratio:.2%}" in text


def test_unpacked_network_computes_the_same(tmp_path: Path) -> None:
    net, layers = network()
    packing.pack(tmp_path / "w", net.state_dict(), layers)
    fresh = nn.Sequential(*(type(m)(*a) for m, a in zip(net, [  # type: ignore[call-overload]
        (3, 32, 3), (32,), (32, 256, 3), (256, 900), (900, 10)], strict=True)))  # fmt: skip
    assert not torch.equal(fresh.get_parameter("2.weight"), net.get_parameter("2.weight"))
    fresh.load_state_dict(packing.unpack(tmp_path / "w")[0])
    assert_same(dict(fresh.state_dict()), dict(net.state_dict()))


def test_description_names_layers_totals_and_run(tmp_path: Path) -> None:
    state, layers = example()
    packing.pack(tmp_path / "w", state, layers, {"run": "stbp-x"})
    text = describe(tmp_path / "w")
    assert re.search(r"binary\.weight +3x5x3x1 +-a, \+a +0\.1 +1 +45 +6 +180 +3\.33%", text)
    assert re.search(r"shift1\.weight +3x5x3x3 +-a, -0\.5a, 0, \+0\.5a, \+a +", text)
    assert re.search(r"first\.weight +4x2x3x3 +32 +72 +288 +288 +100\.00%", text)
    assert f"whole file: {(tmp_path / 'w').stat().st_size:,} bytes" in text
    assert "(verified)" in text
    assert text.endswith("run: stbp-x")
