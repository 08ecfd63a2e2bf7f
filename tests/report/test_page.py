"""The report: one file that needs nothing else, whose numbers are those of rows and run folders."""

import csv
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from made_rows import family, make_row, other_recipe, right
from page_parser import Page
from reading import PAPER

from repro.cells import CELLS, SIMULATED
from repro.cli import main
from repro.errors import UserError
from repro.report.page.document import DARK, LIGHT, write_page
from repro.report.page.gathering import chosen
from repro.report.page.panel import linear, logarithmic
from repro.report.page.trace import read_trace
from repro.report.tier_rows import all_tiers
from repro.results.published import read_published
from repro.results.row import Row
from repro.results.rows import write_row
from repro.run.latent_histograms import BINS, CSV_COLUMNS

VGG = CELLS[-1]
LAYERS = ("conv2", "conv10")


def three_runs() -> list[Row]:
    """A parent, its control and its binary child, with firing rates."""
    parent, control, child = family(fp32=15, fp32_control=16, binary=14)
    rates = [
        replace(r, firing_rates=dict.fromkeys(LAYERS, s))
        for r, s in ((parent, 0.25), (child, 0.125))
    ]
    return [rates[0], control, rates[1]]


def write_folder(row: Row, runs: Path, epochs: int = 4, layers: tuple[str, ...] = LAYERS) -> Path:
    """A run folder whose epochs end as the row says."""
    folder = runs / str(row.key)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"epoch": e, "train_loss": 0.5 / (e + 1), "val_accuracy": 0.5}
        | {"test_accuracy": row.accuracy_last, "lr": 0.1}
        | ({} if row.cfs_last is None else {"lagrangian": 9.5 - e, "cfs": 0.5 / 2**e, "g": 1.0 + e})
        for e in range(epochs)
    ]
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[-1]))
        writer.writeheader()
        writer.writerows(lines)
    if row.cfs_last is not None:
        counts = ["1"] * BINS
        table = [",".join(CSV_COLUMNS)]
        for epoch in range(epochs + 1):
            counts[16] = str(100 * epoch)
            table += [",".join([str(epoch), name, "1000", *counts]) for name in layers]
        (folder / "latent.csv").write_text("\n".join(table))
    return folder


def page_of(tmp_path: Path, rows: list[Row], hashes: dict[str, str] | None = None) -> Page:
    places = (tmp_path / "results", tmp_path / "runs", tmp_path / "report.html")
    page = write_page(all_tiers(rows, hashes), read_published(PAPER), *places)
    return Page(page.read_text("utf-8"))


def data_of(page: Page, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(page.by_id(f"csv-{name}").text)))


def missing(page: Page, key: str) -> list[str]:
    """What the page of a run says it does not show."""
    found = page.within(key, "p")
    return [e.text for e in found if e.attributes.get("class") == "missing"]


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Page]:
    rows = three_runs()
    for row in rows:
        write_folder(row, tmp_path / "runs")
    return page_of(tmp_path, rows)


def test_the_page_stands_alone(whole: Page) -> None:
    addresses = set(re.findall(r"\w+://[^\s\"'<)]+", whole.source))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, in the script; nothing is fetched
    named = [e.attributes[n] for e in whole.elements for n in ("href", "src") if n in e.attributes]
    assert named
    ids = whole.ids()
    assert len(ids) == len(set(ids))
    for target in named:
        assert target == "data:," or (target[0] == "#" and target[1:] in ids), target
    assert not {"img", "iframe", "object", "image", "use"} & {e.tag for e in whole.elements}
    (policy,) = (
        e.attributes["content"]
        for e in whole.elements
        if e.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "@import" not in whole.source
    assert "url(" not in whole.source
    for word in ("prefers-color-scheme: dark", "@media print", "width=device-width"):
        assert word in whole.source
    assert whole.source.startswith("<!DOCTYPE html>")


def test_it_can_be_read_without_seeing_it(whole: Page) -> None:
    levels = [int(e.tag[1]) for e in whole.elements if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels))
    for table in (e for e in whole.elements if e.tag == "table"):
        at = whole.elements.index(table)
        assert whole.elements[at + 1].tag == "caption"
    drawings = [e for e in whole.elements if e.tag == "svg"]
    assert drawings
    assert all(e.attributes["role"] == "img" and e.attributes["aria-label"] for e in drawings)
    scrolling = [e for e in whole.elements if e.attributes.get("role") == "region"]
    assert all(e.attributes["tabindex"] == "0" and e.attributes["aria-label"] for e in scrolling)
    buttons = [e for e in whole.elements if {"data-csv", "data-svg"} & e.attributes.keys()]
    assert all(e.attributes.get("aria-label") or len(e.text) > len("CSV") for e in buttons)
    for button in buttons:
        name = button.attributes.get("data-csv")
        assert name is None or whole.by_id(f"csv-{name}").text


def test_every_run_has_a_page_with_all_that_is_known(whole: Page) -> None:
    for row in three_runs():
        key = str(row.key)
        text = whole.by_id(key).text
        for known in (
            *(row.recipe_hash, row.git_sha, row.device, row.data_checksum, row.key.command()),
            *(f"torch {row.versions['torch']}", "tier desk", "§ not comparable"),
            *("picked on validation", "last epoch", "best test epoch", "optimistic"),
        ):
            assert known in text, known
        assert whole.by_id(key).tag == "article"
        links = [e for e in whole.within("desk-list", "a") if e.attributes["href"] == f"#{key}"]
        assert len(links) == 1
    child = whole.by_id("stbp-cifar10-binary-desk-s0").text
    assert "McNemar p, exact, two-sided" in child
    assert "-5.00 [" in child
    assert "-10.00 [" in child, "the control, too"
    assert "cbp" not in whole.by_id("memory").text
    assert "Tier paper (the recipe as published, on the data it names): not run." in whole.source


def test_data_are_those_of_the_rows_and_run_folders(whole: Page, tmp_path: Path) -> None:
    rows = three_runs()
    ours = [line for line in data_of(whole, "memory-desk") if line["source"] == "this project"]
    assert [
        (line["precision"], float(line["accuracy_percent"]), float(line["weights_only_bytes"]))
        for line in ours
    ] == [(r.precision, 100 * r.accuracy_selected, r.weights_only_bytes) for r in rows]
    theirs = [line for line in data_of(whole, "memory-desk") if line["source"] == "published"]
    (parent,) = (x for x in theirs if (x["method"], x["precision"]) == ("tssl_bp", "fp32"))
    assert parent["accuracy_percent"] == "88.98"
    assert (float(parent["weights_only_bytes"]), parent["grade"]) == (84.626e6, "P")
    child = rows[-1]
    with (tmp_path / "runs" / str(child.key) / "metrics.csv").open() as file:
        recorded = list(csv.DictReader(file))
    shown = data_of(whole, f"curves-{child.key}")
    assert len(shown) == len(recorded)
    for line, epoch in zip(shown, recorded, strict=True):
        assert int(line.pop("epoch")) == int(epoch["epoch"]) + 1
        assert {n: float(v) for n, v in line.items()} == {n: float(epoch[n]) for n in line}
    assert {"train_loss", "lagrangian", "cfs", "g"} <= set(shown[0])
    latent = data_of(whole, f"latent-{child.key}")
    assert {line["epoch"] for line in latent} == {"0", "1", "2", "3", "4"}
    assert float(latent[3]["-2"]) == 2 * 300 / 2000
    assert float(latent[3]["-1"]) == 2 * 1 / 2000
    layers = data_of(whole, f"latent-layers-{child.key}")
    assert [(x["layer"], x["epoch"]) for x in layers] == [(n, e) for n in LAYERS for e in "04"]
    assert float(layers[-1]["-2"]) == 400 / 1000
    assert data_of(whole, f"firing-{child.key}") == [
        {
            "layer": name,
            "spikes_per_neuron_and_step_parent": "0.25",
            "spikes_per_neuron_and_step_run": "0.125",
        }
        for name in LAYERS
    ]
    names = [line["run"] for line in data_of(whole, "runs")]
    assert names == sorted(str(row.key) for row in rows)
    assert missing(whole, str(child.key)) == []


def test_equal_runs_make_equal_pages(whole: Page, tmp_path: Path) -> None:
    rows = three_runs()
    assert page_of(tmp_path, rows).source == whole.source
    rows[0] = replace(rows[0], wall_seconds=99.0)
    assert page_of(tmp_path, rows).source != whole.source


def test_what_is_not_here_is_said(tmp_path: Path) -> None:
    parent, control, child = three_runs()
    old = replace(child, firing_rates=None, seed=1, parent="stbp-cifar10-fp32-desk-s1")
    ann = make_row(right(18), cell=VGG, precision="ann")
    converted = make_row(right(15), right(18), VGG, precision="fp32")
    runs = tmp_path / "runs"
    write_folder(replace(control, accuracy_last=0.5), runs)
    (write_folder(old, runs) / "latent.csv").unlink()
    write_folder(child, runs, epochs=2)
    page = page_of(tmp_path, [parent, control, child, old, ann, converted])
    absent = "no run folder here: its epochs are not on this machine"
    another = "no run folder here: the one of this name holds another run than the row"
    unquantised = "n/a: no layer of this run is quantised"
    assert missing(page, str(parent.key)) == [absent, unquantised]
    unrecorded = "not recorded: the code that made this row measured no firing rates"
    assert missing(page, str(control.key)) == [another, unquantised, unrecorded]
    assert missing(page, str(child.key)) == [another, another]
    assert missing(page, str(old.key))[0].startswith("not recorded: the code that made this run")
    assert missing(page, str(old.key))[1] == unrecorded
    assert "interval n/a without the parent's row" in page.by_id(str(old.key)).text
    assert "FP32 controlnot run" in page.by_id(str(old.key)).text.replace("\n", "")
    assert missing(page, str(ann.key))[2] == "n/a: an ANN has no spikes"
    assert missing(page, str(converted.key))[0] == "n/a: a conversion trains no epochs"
    assert "ours: not run" in page.by_id("figure-memory-desk").text
    (said,) = (e.text for e in page.within("overview", "p") if e.text.startswith("No run folder"))
    assert str(child.key) in said
    assert str(old.key) not in said


def test_what_weakens_a_run_stands_beside_it(tmp_path: Path) -> None:
    parent, _, child = three_runs()
    hashes = {str(row.key): row.recipe_hash for row in (parent, child)}
    words = ("stale: the recipe has changed", "dirty: the tree had changes", "missing or has ch")
    clean = page_of(tmp_path, [parent, child], hashes).by_id(str(child.key)).text
    assert not any(word in clean for word in words)
    weak = page_of(tmp_path, [replace(child, git_dirty=True)], {str(child.key): "other"})
    assert all(word in weak.by_id(str(child.key)).text for word in words)
    assert "†‡¶" in weak.by_id("desk-list").text
    assert "not on this page" in weak.by_id(str(child.key)).text


def test_simulated_data_and_tiers_keep_apart(tmp_path: Path) -> None:
    rows = [*three_runs(), make_row(right(3), tier="smoke", data="digits")]
    rows.append(make_row(right(9), cell=SIMULATED[0]))
    page = page_of(tmp_path, rows)
    assert {"desk", "simulated-desk", "smoke"} <= set(page.ids())
    for name in ("desk", "simulated-desk", "smoke"):
        tiers = {line["tier"] for line in data_of(page, f"memory-{name}")} - {""}
        assert tiers == {name.removeprefix("simulated-")}
    assert "a simulated camera makes" in page.by_id(str(rows[-1].key)).text
    assert "read digits, not cifar10" in page.by_id(str(rows[-2].key)).text
    assert {x["source"] for x in data_of(page, "memory-simulated-desk")} == {"this project"}


def test_what_rows_say_is_text_and_no_markup(tmp_path: Path) -> None:
    evil = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    parent, _, child = three_runs()
    rows = [replace(parent, device=evil), replace(child, data=evil, git_sha=evil)]
    page = page_of(tmp_path, [replace(row, **other_recipe(**{evil: evil})) for row in rows])
    assert [e.tag for e in page.elements].count("script") == 1
    assert "img" not in {e.tag for e in page.elements}
    assert evil in page.by_id(str(parent.key)).text
    assert data_of(page, "runs")[1]["device"] == evil


def test_a_page_of_a_hundred_runs_is_a_few_megabytes(tmp_path: Path) -> None:
    layers = tuple(f"features.{index}.conv" for index in range(14))
    rates = dict.fromkeys(layers, 0.1)
    rows = []
    for seed in range(2):
        changes = {"seed": seed, "epochs": 40, "epochs_done": 40, "firing_rates": rates}
        rows.append(make_row(right(15), **changes))
        rows.append(make_row(right(14), right(15), **changes))
    for row in rows[:4]:
        write_folder(row, tmp_path / "runs", 40, layers)
    two, four = (len(page_of(tmp_path, rows[:count]).source) for count in (2, 4))
    assert two < four
    assert four + 48 * (four - two) < 6e6


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear_ = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear_[0] + 0.7152 * linear_[1] + 0.0722 * linear_[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_told_from_the_paper(palette: dict[str, str]) -> None:
    for name in ("ink", "quiet", "link"):
        assert contrast(palette[name], palette["paper"]) >= 4.5
        assert contrast(palette[name], palette["band"]) >= 4.5
    for name in ("binary", "ternary", "warn"):
        assert contrast(palette[name], palette["paper"]) >= 3
    assert palette.keys() == LIGHT.keys()
    assert contrast("#777777", "#888888") < 3


def test_damaged_files_are_one_clear_line(tmp_path: Path) -> None:
    row = three_runs()[-1]
    folder = write_folder(row, tmp_path)
    assert read_trace(row, tmp_path).latent is not None
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text.replace(str(row.accuracy_last), "x"))
    with pytest.raises(UserError, match=r"metrics\.csv: .*: delete it"):
        read_trace(row, tmp_path)
    (folder / "metrics.csv").write_text("epoch\n1\n")
    with pytest.raises(UserError, match="epoch or test_accuracy is missing"):
        read_trace(row, tmp_path)
    (folder / "metrics.csv").write_text("")
    assert read_trace(row, tmp_path).missing.startswith("no run folder here")


def test_axes_hold_what_they_show() -> None:
    for values in ([0.0], [5.0, 5.0], [-3.2, 7.1], [1e-9, 2e-9], [1e7, 3e7]):
        axis = linear(values)
        assert axis.low < axis.high
        assert all(0 <= axis.at(value) <= 1 for value in values)
        assert 2 <= len(axis.ticks) <= 8
    for values in ([1e-5], [0.02, 250.0], [3.0, 3.1]):
        axis = logarithmic(values)
        assert all(0 < axis.at(value) < 1 for value in values)
        assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert len(chosen(500)) == len(set(chosen(500))) == 9


def test_the_command_writes_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, runs = tmp_path / "results", tmp_path / "runs"
    words = ["report", f"--rows={results / 'rows'}", f"--results={results}", f"--runs={runs}"]
    assert main(words) == 2
    assert (
        "paper.csv: No such file or directory: run in the project's folder"
        in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())
    for row in three_runs():
        write_row(row, results / "rows")
    shutil.copy(PAPER, results / "paper.csv")
    before = sorted(results.rglob("*"))
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(f"Report: {runs / 'report.html'}, ")
    assert sorted(results.rglob("*")) == before
    assert [path.name for path in runs.iterdir()] == ["report.html"]
    assert main([*words, f"--out={tmp_path / 'other.html'}"]) == 0
    same = (tmp_path / "other.html").read_bytes() == (runs / "report.html").read_bytes()
    assert same
