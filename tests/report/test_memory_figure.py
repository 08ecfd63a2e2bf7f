"""The figure of ``results/``: deterministic, one tier at a time, and readable without a page."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from made_rows import family, make_row, right
from reading import desk

from repro.cells import CELLS, SIMULATED
from repro.report.page.figure import LIGHT, in_one_file
from repro.report.page.memory_panels import memory_figure
from repro.results.published import read_published
from repro.results.row import Row

PUBLISHED = read_published(Path(__file__).parents[2] / "results" / "paper.csv")
SVG = "{http://www.w3.org/2000/svg}"


def draw(rows: list[Row]) -> str:
    return in_one_file(memory_figure(desk(rows), PUBLISHED))


def test_a_figure_is_the_same_bytes_twice_and_changes_with_the_rows() -> None:
    rows = family(fp32=15, binary=14)
    first = draw(rows)
    assert draw(rows) == first
    rows[1] = make_row(right(13), right(15))
    assert draw(rows) != first


def test_a_panel_per_cell_none_on_another_and_all_colours_in_the_file() -> None:
    root = ElementTree.fromstring(draw(family(fp32=15, binary=14)))
    panels = root.findall(f"{SVG}svg")
    places = {(panel.get("x"), panel.get("y")) for panel in panels}
    assert len(panels) == len(places) == len(CELLS) + 1  # and the key
    width, height = int(root.get("width", "")), int(root.get("height", ""))
    for panel in panels:
        x, y, w, h = (int(panel.get(name, "")) for name in ("x", "y", "width", "height"))
        assert x + w <= width
        assert y + h <= height
    (style,) = root.findall(f"{SVG}style")
    used = {part.partition(")")[0] for part in (style.text or "").split("var(--")[1:]}
    assert used <= LIGHT.keys()


def test_all_cells_in_one_figure_but_never_two_tiers_simulated_events_or_an_ann() -> None:
    rows = []
    for cell in CELLS:
        rows += [make_row(right(15), cell=cell, seed=seed) for seed in (0, 1)]
        rows += [make_row(right(14), right(15), cell=cell)]
    alone = draw(rows)
    rows += [make_row(right(16), right(15), cell=c, precision="fp32_control") for c in CELLS]
    drawn = draw(rows)
    texts = {element.text for element in ElementTree.fromstring(drawn).iter(f"{SVG}text")}
    assert {*map(str, CELLS), "FP32", "FP32 control", "binary", "ternary"} <= texts
    assert drawn.count("fp32 hollow") == alone.count("fp32 hollow") + len(CELLS)
    others = [make_row(right(3), tier="smoke"), make_row(right(9), cell=SIMULATED[0])]
    others.append(make_row(right(18), cell=CELLS[-1], precision="ann"))
    assert draw([*rows, *others]) == drawn
