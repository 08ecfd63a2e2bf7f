"""The headline as a curve: gain against the parent's accuracy, where it is zero, table, figure."""

from pathlib import Path

import pytest
from made_rows import family, make_row, other_recipe, right
from page_parser import Page
from reading import PAPER

from repro.cells import CELLS
from repro.errors import UserError
from repro.report.headline import (
    curve,
    headline_figure,
    headline_in_words,
    headline_table,
    read_headline,
    zero,
)
from repro.report.page.document import write_page
from repro.report.publish import publish
from repro.report.tier_rows import all_tiers
from repro.results.published import read_published
from repro.results.rows import write_row

VGG = CELLS[-1]
ROOT = Path(__file__).parents[2]
# Images of 200 that are right: parent, control, binary.
PARENTS = {"none": (20, 120, 100), "light": (80, 125, 110), "weights": (140, 142, 120)}
NAMES = ["without calibration", "light", "weights"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A folder of rows: three parents of the ANNs of three seeds."""
    folder = tmp_path / "rows"
    for seed in range(3):
        for name, (parent, control, binary) in PARENTS.items():
            counts = {"ann": 160, "fp32": parent, "fp32_control": control, "binary": binary}
            made = family(VGG, seed=seed, images=200, shift=seed, **counts)
            for row in made:
                phase = "fp32" if row.precision == "fp32" else "cbp"  # the control's is CBP's
                recipe = other_recipe(conversion={"pipeline": name}, of=phase)
                if row.precision == "ann":
                    recipe = other_recipe(of="ann")
                for field, value in recipe.items():
                    object.__setattr__(row, field, value)
                if row.conversion is not None:
                    steps = {"ann": 0.8, "uncalibrated": 0.1, name: row.accuracy_file}
                    steps |= {"light": 0.4} if name == "weights" else {}
                    steps |= {"uncalibrated": row.accuracy_file} if name == "none" else {}
                    steps.pop("none", None)
                    object.__setattr__(row, "conversion", steps)
                write_row(row, folder / "headline" / row.recipe_hash)
    return folder


def test_a_point_for_every_parent_weakest_first(rows: Path) -> None:
    points = curve(read_headline(rows))
    assert [name for name, *_ in points] == NAMES
    assert [accuracy for _, accuracy, _ in points] == pytest.approx([10, 40, 70])
    gains = [parts.whole.mean for *_, parts in points]
    assert gains == pytest.approx([0.4, 0.15, -0.1])
    assert all(parts.seeds == (0, 1, 2) for *_, parts in points)


def test_one_sentence_says_where_the_gain_is_zero(rows: Path) -> None:
    """40 % gains 15 points and 70 % loses 10, so the line between them meets 0 at 58 %."""
    points = curve(read_headline(rows))
    assert "zero at a parent's accuracy of about 58.0 %" in headline_in_words(points)
    assert "above zero for all parents, from 10.0 to 40.0 %" in headline_in_words(points[:2])
    assert "no interval holds 0)" in headline_in_words(points)
    assert "Two parents or more" in headline_in_words(points[:1])
    upwards = [(name, 100 - accuracy, parts) for name, accuracy, parts in reversed(points)]
    assert "does not fall steadily" in headline_in_words(upwards)
    assert zero([(1.0, -1.0), (2.0, 3.0)]) is None


def test_the_table_has_the_control_beside_it(rows: Path) -> None:
    table = headline_table(read_headline(rows))
    assert [line[0] for line in table.lines] == NAMES
    assert table.lines[0][4].startswith("+50.00")
    assert table.lines[0][5].startswith("+40.00")
    assert table.lines[0][6].startswith("-10.00")
    figure = headline_figure(read_headline(rows))
    assert figure.data.splitlines()[1:3] == [
        "without calibration,10.00,binary,40.00",
        "without calibration,10.00,fp32_control,50.00",
    ]


def test_tables_hold_it_once_there_are_rows(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = rows.parent
    for name in ("paper.csv", "rivals.csv"):
        (results / name).write_bytes((ROOT / "results" / name).read_bytes())
    publish([], results, None, read_headline(rows))
    page = (results / "headline.md").read_text("utf-8")
    assert page.startswith("# Gain of CBP over its parent")
    assert "![" in page
    assert (results / "headline.svg").read_text("utf-8").startswith("<svg ")
    assert str(results / "headline.csv") in capsys.readouterr().out
    assert read_headline(results / "elsewhere") == {}


def test_parents_alone_are_not_shown_yet(rows: Path) -> None:
    for path in (rows / "headline").rglob("*.json"):
        if not {"ann", "fp32"} & set(path.stem.split("-")):
            path.unlink()
    assert read_headline(rows) == {}


def test_a_pipeline_that_nobody_knows_is_named(rows: Path) -> None:
    strange = other_recipe(conversion={"pipeline": "magic"}, of="cbp")
    row = make_row(right(10), right(12), VGG, **strange)
    write_row(row, rows / "headline" / row.recipe_hash)
    with pytest.raises(UserError, match="pipeline 'magic': one of"):
        read_headline(rows)


def test_the_report_has_it_as_figure_and_table(rows: Path) -> None:
    published, tiers = read_published(PAPER), all_tiers(family(VGG))
    page, without = (
        Page(write_page(tiers, published, rows, rows, rows / "r.html", study).read_text("utf-8"))
        for study in (read_headline(rows), {})
    )
    assert page.by_id("gain").text == "Gain of CBP over parents of different accuracy"
    drawn = page.by_id("csv-headline").text
    assert drawn.count("fp32_control") == drawn.count("binary") == len(NAMES)
    assert all(name in page.by_id("csv-headline-table").text for name in NAMES)
    assert len(page.ids()) == len(set(page.ids()))
    assert "gain" not in without.ids()
