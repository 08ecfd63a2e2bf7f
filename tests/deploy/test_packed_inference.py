"""Packed files run as they are: outputs bit for bit those of a run's evaluation."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_cells import KEY, cell_file
from torch import Tensor, nn

from benchmarks import inference, speed_page
from benchmarks.measure import peak_memory
from benchmarks.train_step import CASES, batch, our_module
from repro.build import build_network
from repro.cbp.layers import convert, prepare
from repro.cbp.levels import LEVELS, LayerLevels
from repro.cells import QUANTISED
from repro.cli import main
from repro.deploy.infer import comparison, evaluate
from repro.deploy.packed_inference import Loaded, PackedLayer, load_packed_, packed_bits
from repro.deploy.packed_run import PackedCell, open_cell
from repro.errors import UserError
from repro.memory import packed_bytes
from repro.networks.convolution import to_channels_last_
from repro.packing import bits as packed_kernels
from repro.packing import pack, unpack
from repro.run.evaluation import compute_in_codes_

NARROW = {
    "stbp": (4, 1 / 8),
    "tssl_bp": (5, 1 / 16),
    "snn_calibration": (6, 1 / 16),
    "surrogate": (3, 1 / 8),
}


def write(path: Path, network: nn.Module, levels: dict[str, LayerLevels]) -> None:
    """Pack a converted network; level names are those of layers."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    pack(path, state, {f"{name}.weight": layer for name, layer in levels.items()})


def quantised(
    network: nn.Module,
    levels: str,
    path: Path,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> nn.Module:
    """Quantise a network in place by rounding, write its file, return it for inference."""
    prepare(network, levels, **options)
    found = convert(network)
    network.to(dtype)
    for name, layer in found.items():
        weight = network.get_parameter(f"{name}.weight")
        weight.data = layer.values(dtype)[nearest(weight.data, layer.values(dtype))]
    write(path, network, found)
    return network.eval()


def nearest(weight: Tensor, values: Tensor) -> Tensor:
    return (weight.unsqueeze(-1).double() - values.double()).abs().argmin(-1)


def packed(like: nn.Module, path: Path) -> tuple[nn.Module, Loaded]:
    """A network like another one on the meta device, filled from a file."""
    network = copy.deepcopy(like).to("meta")
    for mine, its in zip(network.parameters(), like.parameters(), strict=True):
        assert mine.stride() == its.stride()
    return network, load_packed_(network, path)


@pytest.mark.parametrize("bits", range(1, 9))
def test_kernels_agree_with_whole_numbers(bits: int) -> None:
    for n in (0, 1, 7, 9, packed_kernels.CHUNK + 3):
        index = np.random.default_rng(n).integers(0, 1 << bits, n, dtype=np.uint8)
        number = sum(int(i) << (bits * k) for k, i in enumerate(index))
        expected = number.to_bytes(packed_bytes(n, bits), "little")
        codes = np.full(packed_bytes(n, bits), 255, np.uint8)
        packed_kernels.encode(index, bits, codes)
        assert codes.tobytes() == expected
        values = np.arange(1 << bits, dtype=np.int32) * 3 - 7
        out = np.empty(n, np.int32)
        packed_kernels.decode(codes, bits, values, out)
        assert out.tolist() == [int(values[i]) for i in index]
        assert packed_kernels.greatest(codes, bits, n) == max(index.tolist(), default=-1)


@pytest.mark.parametrize("levels", QUANTISED)
@pytest.mark.parametrize("method", list(CASES))
def test_outputs_of_every_network_are_the_unpacked_ones(
    method: str, levels: str, tmp_path: Path
) -> None:
    with torch.no_grad():
        network = our_module(method, *NARROW[method], "binary").network
        if method == "surrogate":
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.weight.mul_(4)  # or nothing fires, and the classifier's bias is left
        full = copy.deepcopy(network).eval()
        quantised(network, levels, tmp_path / "w")
        to_channels_last_(network)
        inputs, _ = batch(method, NARROW[method][0], 3)
        mine, loaded = packed(network, tmp_path / "w")
        assert loaded.decoded == {}
        assert set(loaded.counted) == {
            name for name in network.state_dict() if name not in mine.state_dict()
        }
        dense = network(inputs)
        compute_in_codes_(network, unpack(tmp_path / "w")[1])
        expected = network(inputs)
        torch.testing.assert_close(expected, dense)  # float32 rounds every partial sum
        for _ in range(2):
            assert torch.equal(mine(inputs), expected)
        assert not torch.equal(full(inputs), expected)


class Own(nn.Module):
    """A user's network: other kinds of layers, a weight in two places, one read as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 8, 3)
        self.wide = nn.Conv1d(8, 8, 3, padding="same", groups=2, bias=False)
        self.linear = nn.Linear(8, 8)
        self.again = self.linear
        self.last = nn.Linear(8, 5)
        self.register_buffer("mean", torch.ones(8))

    def forward(self, signal: Tensor) -> Tensor:
        hidden = self.wide(self.first(signal).relu()).mean(2) - self.mean
        hidden = self.again(self.linear(hidden).relu())
        both = self.linear.weight @ self.last.weight.T  # two decoded weights at a time
        out: Tensor = self.last(hidden) + hidden @ both
        return out


@pytest.mark.parametrize("levels", list(LEVELS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_users_own_network(levels: str, dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = quantised(Own(), levels, tmp_path / "w", dtype, keep=("first",))
    mine, _ = packed(network, tmp_path / "w")
    signal = torch.randn(4, 3, 9, dtype=dtype)
    with torch.no_grad():
        expected = network(signal)
        assert torch.equal(mine(signal), expected)
        assert torch.equal(mine.linear.weight, network.linear.weight)  # type: ignore[union-attr]
        counts = dtype != torch.bfloat16 and levels != "own"
        assert isinstance(mine.linear, PackedLayer) is counts
        bits = mine.linear.packed_weight.codes.planes if counts else coded(mine.linear)
        bits.view(-1)[0] ^= 1  # another level of the first weight
        assert not torch.equal(mine(signal), expected)
    assert isinstance(mine.wide, nn.Conv1d)
    assert not mine.training
    assert not any(parameter.requires_grad for parameter in mine.parameters())


def test_gradients_reach_the_input_as_without_packing(tmp_path: Path) -> None:
    network = quantised(Own(), "ternary", tmp_path / "w", keep=())
    mine, _ = packed(network, tmp_path / "w")
    signal = torch.randn(2, 3, 7)
    grads = []
    for each in (network, mine):
        leaf = signal.clone().requires_grad_()
        each(leaf).square().sum().backward()
        grads.append(leaf.grad)
    assert grads[0] is not None
    assert grads[1] is not None
    assert torch.equal(*grads)


@pytest.mark.parametrize("last", [False, True])
def test_weights_keep_the_memory_format_of_the_network(last: bool, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, (3, 1)), nn.Conv2d(4, 5, 1))
    network.append(nn.Conv3d(1, 3, 2))
    quantised(network, "ternary", tmp_path / "w", keep=())
    if last:
        to_channels_last_(network)
    mine, loaded = packed(network, tmp_path / "w")
    assert set(loaded.decoded) == {"3.weight"}  # of a convolution over three axes
    for layer, its in zip(network, mine, strict=True):
        assert packed_bits(its) == 2
        assert its.weight.stride() == layer.weight.stride()
        assert torch.equal(its.weight, layer.weight)
    plain = network[0].weight.is_contiguous()
    assert plain is not last


def coded(layer: nn.Module) -> Tensor:
    """The level indices of a weight that is decoded."""
    indices: Tensor = layer.parametrizations.weight.original0  # type: ignore[union-attr, assignment]
    return indices


def test_only_packed_bytes_are_held(tmp_path: Path) -> None:
    network = nn.Sequential(*(nn.Linear(n, n, bias=False) for n in (128, 64, 128)))
    quantised(nn.Sequential(network), "binary", tmp_path / "w", keep=())
    mine, loaded = packed(nn.Sequential(network), tmp_path / "w")
    assert list(mine.parameters()) == list(mine.buffers()) == []
    assert loaded.packed_bytes == (2 * 128**2 + 64**2) // 8
    assert loaded.unpacked_bytes == (2 * 128**2 + 64**2) * 4
    assert loaded.file.tensors == {}
    for layer in mine[0]:
        layer(torch.ones(1, layer.in_features))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: net.append(nn.Linear(2, 2)), r"3\.weight is not in the file"),
        (lambda net: net.pop(2), r"2\.weight is not in the network"),
        (lambda net: net.insert(0, nn.Linear(7, 7)), "in the file"),
        (lambda net: net.double(), r"torch.float32 in the file, torch.float64 in the network"),
        (
            lambda net: net.register_buffer("aside", torch.ones(1), persistent=False),
            "aside of the network is on the meta device",
        ),
    ],
)
def test_another_network_is_refused(
    change: Callable[[nn.Sequential], object], message: str, tmp_path: Path
) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    quantised(copy.deepcopy(network), "binary", tmp_path / "w")
    change(network)
    with pytest.raises(UserError, match=message):
        load_packed_(network.to("meta"), tmp_path / "w")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(9, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    quantised(network, "binary", tmp_path / "w")
    data = bytearray((tmp_path / "w").read_bytes())
    data[-1] ^= 1
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        load_packed_(network, tmp_path / "w")


def lift(folder: str, how: str) -> None:
    """Load a file of 8 layers of 16 MB and run it: what ``peak_memory`` measures."""
    with torch.device("meta"):
        network = nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(8)))
    if how == "packed":
        load_packed_(network, Path(folder, "w"))
    else:
        network.load_state_dict(unpack(Path(folder, "w"))[0], assign=True)
    network(torch.ones(1, 2048))


@pytest.mark.slow
def test_the_peak_is_the_file_and_one_layer(tmp_path: Path) -> None:
    network = nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(8)))
    quantised(network, "binary", tmp_path / "w", keep=())
    layer = 2048**2 * 4
    target = "tests.test_packed_inference:lift"
    grown = {
        how: peak_memory(target, {"folder": str(tmp_path), "how": how})
        for how in ("packed", "unpacked")
    }
    # Kernels and their compiler are counted, too, but on both sides.
    assert grown["unpacked"] - grown["packed"] > 6 * layer


def small_cell(path: Path) -> PackedCell:
    return open_cell(path, images=12, batch_size=5, data_dir=None)


def test_command_evaluates_a_file_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cell_file(tmp_path)
    words = ["infer", str(path), "--images=12", "--batch-size=5", "--compare"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    cell = small_cell(path)
    network = build_network(KEY.cell, cell.spec.recipe, 10, "cbp").eval()
    state, levels = unpack(path)
    network.load_state_dict(state)
    compute_in_codes_(network, levels)
    with torch.no_grad():
        right = [network(x).sum(0).argmax(1) == labels for x, labels in cell.batches()]
    accuracy = float(torch.cat(right).float().mean())
    assert f"{KEY}: {100 * accuracy:.2f} % of 12 test images" in printed
    assert "outputs equal bit for bit, 0 answers right in one only" in printed
    assert "8 are counted as bits" in printed
    assert main(["infer", str(tmp_path), "--images=12"]) == 0  # a run folder


def test_a_comparison_with_other_weights_says_so(tmp_path: Path) -> None:
    cell = small_cell(cell_file(tmp_path / "one"))
    other = small_cell(cell_file(tmp_path / "other", seed=1))
    right, _, outputs = evaluate(other.load()[0], other, keep=True)
    assert "outputs differ by up to" in comparison(cell, right, outputs)
    assert "outputs equal bit for bit" in comparison(other, right, outputs)


def test_a_recipe_with_changed_numbers_is_read_beside_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cell_file(tmp_path, width=1 / 64)
    assert main(["infer", str(path), "--images=3"]) == 0
    capsys.readouterr()
    (tmp_path / "config.json").unlink()
    assert main(["infer", str(path), "--images=3"]) == 2
    assert "put the config.json of its run folder beside it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metadata", "more", "message"),
    [
        ({}, [], "names no run"),
        ({"run": "my-net", "recipe_hash": "0"}, [], "invalid run name my-net"),
        ({"run": str(KEY), "recipe_hash": "0"}, [], "made by recipe 0"),
        ({"run": str(KEY), "recipe_hash": "0"}, ["--images=-1"], "give 0 or more"),
        ({"run": str(KEY), "recipe_hash": "0"}, ["--batch-size=0"], "1 or more"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    metadata: dict[str, str],
    more: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pack(tmp_path / "w", {}, {}, metadata)
    for command in ("infer", "costs"):
        assert main([command, str(tmp_path / "w"), *more]) == 2
        line = capsys.readouterr().err
        assert message in line
        assert line.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("network", ["stbp", "snn_calibration"])
def test_the_benchmark_runs_and_its_figures_are_on_the_page(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_this_process(target: str, kwargs: dict[str, Any]) -> int:
        inference.load_and_run(**{**kwargs, "forget": False})
        return 10**6

    monkeypatch.setattr(inference, "peak_memory", in_this_process)
    words = ["inference", f"--network={network}", "--batch", "2", "--time-steps", "2"]
    words += ["--width", str(1 / 16), "--repeats", "1", f"--out={tmp_path / 'i.json'}"]
    monkeypatch.setattr("sys.argv", words)
    assert inference.main() == 0
    (found,) = json.loads((tmp_path / "i.json").read_text())["inference"]
    said = found["outputs against the unpacked file"]
    for precision in QUANTISED:
        assert said[precision] == "equal bit for bit, 2 of 2 answers the same"
    page = speed_page.figures(tmp_path)
    for form in inference.FORMS:
        assert f"| {form} | " in page


@pytest.mark.slow
def test_benchmark_memory_is_measured_in_processes(tmp_path: Path) -> None:
    inference.write_files(tmp_path, "stbp", 2, 1 / 4)
    which = {"method": "stbp", "time_steps": 2, "width": 1 / 4, "size": 1}
    whole = inference.peaks(tmp_path, **which, forget=False)  # type: ignore[arg-type]
    assert whole["binary"] < whole[inference.FP32]
