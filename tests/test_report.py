"""Tables and figures of ``results/``: the same files from the same rows."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_rows import make_row, right
from torch import nn

import repro.memory
from repro.cells import CELLS, QUANTISED, Cell
from repro.errors import UserError
from repro.memory import Memory
from repro.recipes.shipped import RECIPES
from repro.recipes.spec import shipped_hash
from repro.report.linear_model import LinearModel, read_linear_model
from repro.report.publish import generate, write_tables
from repro.report.tier_rows import current_hashes
from repro.report.weight_memory import computed_memory, memory_table
from repro.results.published import read_published
from repro.results.row import Row
from repro.results.rows import read_rows, write_row

PAPER = Path(__file__).parent.parent / "results" / "paper.csv"
LINEAR = LinearModel("cifar10", 100, 20, 1e-3, 0.4, 0.35, "2b")


@pytest.fixture
def family() -> list[Row]:
    """A parent and its binary child, 15 and 14 right of 20."""
    return [make_row(right(15)), make_row(right(14), right(15))]


@pytest.fixture
def results(tmp_path: Path, family: list[Row]) -> Path:
    """A results folder with the published numbers and the rows of the family."""
    folder = tmp_path / "results"
    for row in family:
        write_row(row, folder / "rows")
    shutil.copy(PAPER, folder / "paper.csv")
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_generate_writes_the_same_files_twice_and_smoke_apart(
    tmp_path: Path, family: list[Row]
) -> None:
    published, out = read_published(PAPER), tmp_path / "out"
    without = generate([], published, out, memory={})
    tables = ("accuracy", "claims", "control", "conversion", "comparison", "files")
    names = [f"{n}_{t}" for t in ("paper", "desk") for n in tables]
    expected = {f"{name}.{kind}" for name in [*names, "memory"] for kind in ("csv", "tex")}
    expected |= {"runs.csv"}
    expected |= {"accuracy_paper.md", "accuracy_desk.md", "memory.md"}
    assert {path.name for path in without} == expected
    assert {path.name for path in out.iterdir()} == expected
    empty = (out / "accuracy_desk.md").read_text()
    rows = [*family, make_row(right(3), tier="smoke", data="digits")]
    paths = generate(rows, published, out)
    assert out / "smoke" / "accuracy_smoke.md" in paths
    assert "digits" in (out / "smoke" / "accuracy_smoke.md").read_text()
    assert "](accuracy_against_memory_desk.svg)" in (out / "accuracy_desk.md").read_text()
    texts = contents(out)
    assert set(paths) <= set(texts)
    generate(rows, published, out)
    assert contents(out) == texts
    assert (out / "accuracy_desk.md").read_text() != empty


def test_a_figure_goes_when_its_rows_are_gone(tmp_path: Path, family: list[Row]) -> None:
    published = read_published(PAPER)
    generate(family, published, tmp_path)
    assert (tmp_path / "accuracy_against_memory_desk.svg").exists()
    generate([], published, tmp_path)
    assert not (tmp_path / "accuracy_against_memory_desk.svg").exists()


def test_a_tier_is_shown_in_the_terminal_with_its_own_cells_only(
    tmp_path: Path,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_tables(read_rows(results / "rows"), results, "desk")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 80  # the first is the summary, one paragraph
    text = "\n".join(lines)
    assert "Accuracy, desk tier" in text
    assert "Weight memory of the paper's networks" in text
    assert "stbp/cifar10" in text
    assert "vgg16" not in text
    assert text.count("Grade of a published number") == 1


def test_the_linear_model_is_comparable_only_on_the_same_images(
    results: Path, tmp_path: Path, family: list[Row]
) -> None:
    path = results / "linear_cifar10_desk.json"
    fields = vars(LINEAR) | {"val_images": 10, "accuracy_train": 0.5}
    path.write_text(json.dumps(fields))
    assert read_linear_model(path) == LINEAR
    same = LINEAR.note(family)
    assert same.startswith("On the same images as stbp/cifar10 a linear model")
    assert f"{100 * 0.35:.2f} % of 20 test images, {100 * 0.4:.2f} % on validation" in same
    other = replace(LINEAR, data_checksum="4d").note(family)
    assert other.startswith("≠ On other images than the runs' (their data checksums differ;")
    assert LINEAR.note([*family, replace(family[0], data_checksum="4d")])[0] == "≠"
    assert "no run of this tier read that data set" in LINEAR.note([])
    write_tables(read_rows(results / "rows"), results, None)
    assert same in (results / "accuracy_desk.md").read_text()
    assert "linear model" not in (results / "accuracy_paper.md").read_text()


@pytest.mark.parametrize(
    "change", [{"C": "a"}, {"data_checksum": 1}, {"dataset": "digits"}, {"accuracy_val": None}]
)
def test_a_damaged_linear_model_is_one_clear_line(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "linear_cifar10_desk.json"
    path.write_text(json.dumps(vars(LINEAR) | change))
    with pytest.raises(UserError, match=r"is no linear model \(.*restore it from git, or delete"):
        read_linear_model(path)
    path.write_text("[" if "C" in change else "{}")
    with pytest.raises(UserError, match="is no linear model"):
        read_linear_model(path)


# Weights, quantised weights, FP32, binary and ternary MB with their share of FP32 in percent:
# counted from the layer definitions, paper.md section 3.
MEMORY = {
    "tssl_bp/cifar10": (21_156_384, 21_143_552, 84.626, 2.694, 3.18, 5.337, 6.31),
    "stbp/cifar10": (62_103_936, 62_095_360, 248.416, 7.796, 3.14, 15.558, 6.26),
    "stbp/cifar100": (62_150_016, 62_095_360, 248.600, 7.981, 3.21, 15.742, 6.33),
    "surrogate/dvs128_gesture": (129_952, 129_024, 0.520, 0.020, 3.82, 0.036, 6.92),
    "surrogate/cifar10_dvs": (1_255_808, 1_253_376, 5.023, 0.166, 3.31, 0.323, 6.43),
    "surrogate/imagenet/sew_resnet18": (
        *(11_678_912, 11_157_504, 46.716),
        *(3.480, 7.45, 4.875, 10.44),
    ),
    "surrogate/imagenet/sew_resnet34": (
        *(21_779_648, 21_258_240, 87.119),
        *(4.743, 5.44, 7.400, 8.49),
    ),
    "snn_calibration/cifar10": (14_715_584, 14_708_736, 58.862, 1.866, 3.17, 3.705, 6.29),
    "snn_calibration/cifar100": (14_761_664, 14_708_736, 59.047, 2.050, 3.47, 3.889, 6.59),
}


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_networks_have_the_papers_memory(cell: Cell) -> None:
    found = computed_memory(cell)
    weights, quantised, full, *sizes = MEMORY[str(cell)]
    for name, megabytes, share in zip(QUANTISED, sizes[::2], sizes[1::2], strict=True):
        memory = found[name]
        assert (memory.weights, memory.quantised_weights) == (weights, quantised)
        assert round(memory.fp32_bytes / 1e6, 3) == full
        assert round(memory.weights_only_bytes / 1e6, 3) == megabytes
        assert round(100 * memory.ratio, 2) == share
        bits = {"binary": 1, "ternary": 2}[name]
        assert memory.weights_only_bytes == ((weights - quantised) * 32 + quantised * bits) / 8


def test_the_memory_page_prints_the_papers_3_47_percent_and_agrees_with_it() -> None:
    computed = {str(cell): computed_memory(cell) for cell in CELLS}
    table = memory_table(read_published(PAPER), computed)
    lines = {line[:3]: line for line in table.lines}
    binary = table.header.index("binary MB (of FP32)")
    assert lines["snn_calibration/cifar100", "vgg16", "computed"][binary] == "2.050 (3.47 %)"
    agreeing = sum(bool(memory) for memory in computed.values())
    assert agreeing >= len(MEMORY)
    assert f"in {agreeing} of the {agreeing} cells that are computed" in table.notes[0]


def test_no_weight_of_the_papers_networks_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def count(network: nn.Module, bits: dict[str, int]) -> Memory:
        seen.extend(parameter.device.type for parameter in network.parameters())
        return real(network, bits)

    real = repro.memory.count
    monkeypatch.setattr(repro.memory, "count", count)
    computed_memory(CELLS[-1])
    assert set(seen) == {"meta"}


def test_a_recipe_that_is_gone_makes_its_rows_stale(
    family: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = CELLS[2]
    monkeypatch.setattr(
        "repro.recipes.spec.RECIPES",
        {name: r for name, r in RECIPES.items() if name[0] != gone},
    )
    hashes = current_hashes([*family, make_row(right(3), cell=gone)])
    assert hashes == {str(row.key): shipped_hash(row.key) for row in family}


def test_a_converted_cell_goes_through_the_whole_report(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = CELLS[-1]
    for row in (
        make_row(right(18), cell=cell, precision="ann"),
        make_row(right(15), right(18), cell, precision="fp32"),
        make_row(right(16), right(15), cell, precision="fp32_control"),
        make_row(right(14), right(15), cell),
    ):
        write_row(row, results / "rows")
    readme = results.parent / "README.md"
    readme.write_text("Ours\n<!-- table -->\nold\n<!-- /table -->\nend")
    write_tables(read_rows(results / "rows"), results, "desk")
    printed = capsys.readouterr().out
    assert "Conversion, desk tier" in printed
    text = readme.read_text()
    assert "old" not in text
    assert text.startswith("Ours\n<!-- table -->\n6 runs of the desk tier")
    assert "snn_calibration/cifar100: binary is 5.00 points below its parent" in text
    assert "CBP itself costs 10.00 points" in text


def test_an_ann_alone_is_no_figure_of_memory(tmp_path: Path, results: Path) -> None:
    for path in (results / "rows").iterdir():
        path.unlink()
    write_row(make_row(right(18), cell=CELLS[-1], precision="ann"), results / "rows")
    write_tables(read_rows(results / "rows"), results, None)
    assert not (results / "accuracy_against_memory_desk.svg").exists()


def test_no_published_numbers_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"paper\.csv is missing: run in the project's folder"):
        write_tables([], tmp_path, None)
    assert not list(tmp_path.iterdir())
