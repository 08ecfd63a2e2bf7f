"""The figure of ``results/``: deterministic, and only one tier at a time."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from made_rows import family, make_row, right
from reading import desk

from repro.cells import CELLS, SIMULATED
from repro.report.accuracy_memory import our_points
from repro.report.memory_figure import draw_memory_figure
from repro.results.row import Row


def draw(rows: list[Row], out: Path) -> Path:
    return draw_memory_figure(our_points(desk(rows)), "desk", out)


def panels(path: Path) -> list[str]:
    """The texts of a figure, panel titles among them."""
    root = ElementTree.fromstring(path.read_text())
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_figure_is_the_same_bytes_twice_and_changes_with_the_rows(tmp_path: Path) -> None:
    rows = family(fp32=15, binary=14)
    first = draw(rows, tmp_path / "a.svg").read_bytes()
    assert draw(rows, tmp_path / "b.svg").read_bytes() == first
    rows[1] = make_row(right(13), right(15))
    assert draw(rows, tmp_path / "b.svg").read_bytes() != first


def test_a_readers_own_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    rows = family(fp32=15, binary=14)
    memory = draw(rows, tmp_path / "b.svg").read_bytes()
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 5, "axes.titlesize": 30}):
        assert draw(rows, tmp_path / "b.svg").read_bytes() == memory


def test_all_cells_in_one_figure_but_never_two_tiers_simulated_events_or_an_ann(
    tmp_path: Path,
) -> None:
    rows = []
    for cell in CELLS:
        rows += [make_row(right(15), cell=cell, seed=seed) for seed in (0, 1)]
        rows += [make_row(right(14), right(15), cell=cell)]
    alone = draw(rows, tmp_path / "b.svg").read_text()
    rows += [make_row(right(16), right(15), cell=c, precision="fp32_control") for c in CELLS]
    texts = panels(draw(rows, tmp_path / "a.svg"))
    assert {str(cell) for cell in CELLS} <= set(texts)
    assert any("desk tier: ● FP32, ○ FP32 control, ■ binary, ▲ ternary" in t for t in texts)
    hollow = "fill-opacity: 0; stroke: #0072b2"
    assert hollow in (tmp_path / "a.svg").read_text()
    assert hollow not in alone
    others = [make_row(right(3), tier="smoke"), make_row(right(9), cell=SIMULATED[0])]
    others.append(make_row(right(18), cell=CELLS[-1], precision="ann"))
    again = draw([*rows, *others], tmp_path / "b.svg").read_bytes()
    assert again == (tmp_path / "a.svg").read_bytes()
