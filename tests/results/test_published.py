"""Published numbers: they cover every cell and agree; a foreign file is refused."""

from pathlib import Path

import pytest
from paths import ROOT

from repro.cells import CELLS, QUANTISED
from repro.errors import UserError
from repro.results.published import PublishedNumbers, read_published

PAPER = ROOT / "results" / "paper.csv"
FP32_FOUND, BINARY_FOUND, TERNARY_FOUND = 6, 6, 4
UNKNOWN_ACCURACIES = 3 * len(CELLS) - FP32_FOUND - BINARY_FOUND - TERNARY_FOUND


@pytest.fixture(scope="module")
def published() -> PublishedNumbers:
    return read_published(PAPER)


def test_the_published_accuracies_cover_every_cell(published: PublishedNumbers) -> None:
    accuracies = [item for item in published.values() if item.quantity == "accuracy"]
    assert {(item.cell, item.precision) for item in accuracies} == {
        (cell, precision) for cell in CELLS for precision in ("fp32", *QUANTISED)
    }
    unknown = [item for item in accuracies if item.value == "n/a"]
    assert len(unknown) == UNKNOWN_ACCURACIES
    assert {item.grade for item in unknown} == {"n/a"}
    assert {item.grade for item in published.values() if item.value != "n/a"} == {
        "P",
        "S",
        "D",
        "H",
    }


def test_the_published_numbers_agree_with_each_other(published: PublishedNumbers) -> None:
    known = {name: item.value for name, item in published.items()}
    for cell in CELLS:
        counts = [int(known[cell, "any", name]) for name in ("weights", "quantised_weights")]
        assert float(known[cell, "fp32", "memory"]) == pytest.approx(counts[0] * 4 / 1e6, abs=6e-4)
        for precision, bits in (("binary", 1), ("ternary", 2)):
            ours = (4 * (counts[0] - counts[1]) + counts[1] * bits / 8) / 1e6
            megabytes, ratio = (known[cell, precision, n] for n in ("memory", "memory_ratio"))
            assert float(megabytes) == pytest.approx(ours, abs=6e-4)
            percent = 100 * ours / (4 * counts[0] / 1e6)
            assert float(ratio) == pytest.approx(percent, abs=6e-3)
    for cell in (CELLS[3], CELLS[4]):
        share = int(known[cell, "fp32", "correct_images"]) / int(known[cell, "fp32", "test_images"])
        assert float(known[cell, "fp32", "accuracy"]) == pytest.approx(100 * share, abs=5e-3)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_a_foreign_file_of_published_numbers_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "paper.csv"
    with pytest.raises(
        UserError, match=": No such file or directory: run in the project's folder, or restore"
    ):
        read_published(path)
    path.write_text(text)
    with pytest.raises(UserError, match="columns"):
        read_published(path)
    path.write_text(PAPER.read_text().replace("vgg16", "vgg17"))
    with pytest.raises(UserError, match=r"line \d+: no cell .*vgg17"):
        read_published(path)
    path.write_text(PAPER.read_text().replace("97.92", "97,92", 1))  # two columns of one number
    with pytest.raises(UserError, match=r"line \d+: 11 columns, expected 10: run in"):
        read_published(path)
    path.write_text(PAPER.read_text().replace("97.92", "97.9x", 1))
    with pytest.raises(UserError, match=r"line \d+: value .*expected a number or n/a: run in"):
        read_published(path)
    header = PAPER.read_text().splitlines(keepends=True)[0]
    path.write_text(header)
    with pytest.raises(UserError, match=r"the line of .*, fp32, accuracy is missing: run in"):
        read_published(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="codec can't decode"):
        read_published(path)
