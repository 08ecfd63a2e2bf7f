"""Figures and the report page: deterministic, self-contained, and only one tier at a time."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_rows import make_row, right

from repro.cells import CELLS
from repro.errors import UserError
from repro.figures import accuracy_against_memory_figure, curves_figure, report_page
from repro.text_table import Table

EPOCHS = [
    {"epoch": e, "train_loss": 1.0, "val_accuracy": e / 9, "cfs": 0.5 / (e + 1), "g": 1 + e}
    for e in range(9)
]


def panels(path: Path) -> list[str]:
    """The texts of a figure, panel titles among them."""
    root = ElementTree.fromstring(path.read_text())
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_curves_are_the_same_bytes_twice_and_change_with_the_data(tmp_path: Path) -> None:
    first = curves_figure({"run": EPOCHS}, tmp_path / "a.svg").read_bytes()
    assert curves_figure({"run": EPOCHS}, tmp_path / "b.svg").read_bytes() == first
    other = [line | {"g": 2.0} for line in EPOCHS]
    assert curves_figure({"run": other}, tmp_path / "b.svg").read_bytes() != first


def test_a_readers_own_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    rows = [make_row(right(15)), make_row(right(14), right(15))]
    curves = curves_figure({"run": EPOCHS}, tmp_path / "a.svg").read_bytes()
    memory = accuracy_against_memory_figure(rows, tmp_path / "b.svg").read_bytes()
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 5, "axes.titlesize": 30}):
        assert curves_figure({"run": EPOCHS}, tmp_path / "a.svg").read_bytes() == curves
        assert accuracy_against_memory_figure(rows, tmp_path / "b.svg").read_bytes() == memory


def test_epochs_are_drawn_from_1(tmp_path: Path) -> None:
    one = panels(curves_figure({"run": EPOCHS[:1]}, tmp_path / "a.svg"))
    nine = panels(curves_figure({"run": EPOCHS}, tmp_path / "b.svg"))
    assert "1" in one
    assert "0" not in one
    assert one != nine


def test_missing_columns_leave_their_panel_out(tmp_path: Path) -> None:
    full = panels(curves_figure({"run": EPOCHS}, tmp_path / "a.svg"))
    assert "constraint failure score" in full
    assert "Lagrangian" not in full
    parent = [{"epoch": 0, "test_accuracy": 0.5, "cfs": 0.0, "lagrangian": float("nan")}]
    both = panels(curves_figure({"parent": parent}, tmp_path / "b.svg"))
    assert "constraint failure score" not in both
    assert "Lagrangian" not in both
    assert "parent" in both


def test_nothing_to_draw_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no curves in 1 runs; train at least one epoch"):
        curves_figure({"run": [{"epoch": 0, "lr": 0.1}]}, tmp_path / "a.svg")
    with pytest.raises(UserError, match="no rows to draw"):
        accuracy_against_memory_figure([], tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []


def test_all_cells_in_one_figure_but_never_two_tiers(tmp_path: Path) -> None:
    rows = []
    for cell in CELLS:
        rows += [make_row(right(15), cell=cell, seed=seed) for seed in (0, 1)]
        rows += [make_row(right(14), right(15), cell=cell)]
    alone = accuracy_against_memory_figure(rows, tmp_path / "b.svg").read_text()
    rows += [make_row(right(16), right(15), cell=c, precision="fp32_control") for c in CELLS]
    texts = panels(accuracy_against_memory_figure(rows, tmp_path / "a.svg"))
    assert {str(cell) for cell in CELLS} <= set(texts)
    assert any("desk tier: ● FP32, ○ FP32 control, ■ binary, ▲ ternary" in t for t in texts)
    hollow = "fill-opacity: 0; stroke: #0072b2"
    assert hollow in (tmp_path / "a.svg").read_text()
    assert hollow not in alone
    rows.append(make_row(right(3), tier="smoke"))
    with pytest.raises(ValueError, match="tiers desk, smoke in one figure"):
        accuracy_against_memory_figure(rows, tmp_path / "a.svg")


class Page(HTMLParser):
    """Collects ids, and tags that were not closed."""

    def __init__(self) -> None:
        """Start with no ids and no tags."""
        super().__init__()
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone(tmp_path: Path) -> None:
    table = Table("Loss < 1", ("cell", "value"), (("a & b", "<script>"),), ("A note.",))
    figures = [curves_figure({"run": EPOCHS}, tmp_path / f"{name}.svg") for name in ("one", "two")]
    out = tmp_path / "page.html"
    text = report_page([table], figures, "1 < 2.", out, title="A & B").read_text()
    assert text.count("A &amp; B") == 2
    assert "<h2>Figures</h2>" in text
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids)) > 0
    named = re.findall(r'(?:url\(#|href="#)([^)"]+)', text)
    assert set(named) <= set(page.ids)
    addresses = set(re.findall(r"\w+://[^\s\"<]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<script" not in text
    assert "a &amp; b" in text
    for word in ("prefers-color-scheme: dark", "@media print", "width=device-width"):
        assert word in text
    assert "currentColor" in text
    assert "currentColor" not in figures[0].read_text()  # the file itself keeps its ink


def test_a_page_refuses_what_is_no_figure(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    with pytest.raises(UserError, match="cannot be read"):
        report_page([], [path], "", tmp_path / "page.html")
    path.write_text("no picture")
    with pytest.raises(UserError, match="is no SVG"):
        report_page([], [path], "", tmp_path / "page.html")
