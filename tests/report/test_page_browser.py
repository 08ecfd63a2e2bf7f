"""The report in a real browser: nothing is fetched, views, colours, files to take away, a phone.

Needs the extra ``browser`` and Chromium: the one of playwright, or the system's.
"""

import csv
import io
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_rows import make_row, right
from page_parser import Page as Parsed
from test_page import page_of, three_runs, write_folder

from repro.cells import SIMULATED

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra browser is not installed")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHILD = "stbp-cifar10-binary-desk-s0"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    rows = [*three_runs(), make_row(right(9), cell=SIMULATED[0])]
    for row in rows[:3]:
        write_folder(row, folder / "runs")
    page_of(folder, rows)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    own = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(
                executable_path=own, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
        except sync_api.Error as error:
            pytest.skip(f"no Chromium starts here: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The open page; afterwards, whether it asked for anything or complained."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: wrong.append(request.url))
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    asked = [text for text in wrong if not text.startswith(report.as_uri())]
    assert [text for text in asked if not text.startswith(("data:", "blob:"))] == []


def colour(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def taken(page: Any, selector: str) -> tuple[str, str]:
    """Name and text of the file that a button gives."""
    with page.expect_download() as found:
        page.locator(selector).click()
    return found.value.suggested_filename, Path(found.value.path()).read_text("utf-8")


def test_a_run_is_reached_by_its_name_and_left_by_going_back(page: Any) -> None:
    assert page.locator("#overview").is_visible()
    assert page.locator(".run:visible").count() == 0
    page.locator(f'#desk-list a[href="#{CHILD}"]').click()
    assert page.locator("#overview").is_hidden()
    assert page.locator(".run:visible").get_attribute("id") == CHILD
    assert page.title().startswith(f"{CHILD} · ")
    assert page.evaluate("document.activeElement.textContent") == CHILD
    page.locator(".run:visible .back a").click()
    assert page.locator("#overview").is_visible()
    page.go_back()
    assert page.locator(".run:visible").get_attribute("id") == CHILD
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") in ("A", "DIV")


def test_colours_follow_the_system_and_the_switch(page: Any) -> None:
    light = colour(page)
    page.emulate_media(color_scheme="dark")
    dark = colour(page)
    assert dark != light
    switch = page.locator("#theme")
    for text, expected in (("light", light), ("dark", dark), ("auto", dark)):
        switch.focus()
        page.keyboard.press("Enter")
        assert switch.text_content() == f"Colours: {text}"
        assert colour(page) == expected
    page.emulate_media(color_scheme="dark", media="print")
    assert colour(page) == light


def test_the_choice_of_colours_is_kept(page: Any, report: Path) -> None:
    page.locator("#theme").click()
    page.locator("#theme").click()
    page.reload()
    assert page.locator("#theme").text_content() == "Colours: dark"


def test_a_figure_is_taken_away_as_a_drawing_of_its_own(page: Any, report: Path) -> None:
    name, text = taken(page, '[data-svg="memory-desk"]')
    assert name == "memory-desk.svg"
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"stbp/cifar10", "snn_calibration/cifar100", "FP32, published"} <= set(texts)
    assert "var(" not in text
    page.goto(f"{report.as_uri()}#{CHILD}")
    name, other = taken(page, f'[data-svg="latent-{CHILD}"]')
    assert name == f"latent-{CHILD}.svg"
    assert ElementTree.fromstring(other).get("width") != root.get("width")


def test_data_are_taken_away_and_shown_as_they_are_in_the_page(page: Any, report: Path) -> None:
    parsed = Parsed(report.read_text("utf-8"))
    page.goto(f"{report.as_uri()}#{CHILD}")
    name, text = taken(page, f'[data-csv="curves-{CHILD}"]')
    assert name == f"curves-{CHILD}.csv"
    assert text == parsed.by_id(f"csv-curves-{CHILD}").text
    page.locator(f'details[data-table="curves-{CHILD}"] summary').click()
    shown = page.locator(f'details[data-table="curves-{CHILD}"] tr')
    lines = list(csv.reader(io.StringIO(text)))
    assert shown.count() == len(lines)
    assert shown.nth(1).locator("td").all_text_contents() == lines[1]
    page.goto(f"{report.as_uri()}#overview")
    _, text = taken(page, '[data-csv="memory-table"]')
    assert text == parsed.by_id("csv-memory-table").text


def test_quoted_fields_are_shown_whole(page: Any) -> None:
    fields = page.evaluate("line => fields(line)", 'a,"b, ""c""",,d')
    assert fields == ["a", 'b, "c"', "", "d"]
    assert page.evaluate("line => fields(line)", ",x") == ["", "x"]


def test_the_filter_leaves_what_has_all_words(page: Any) -> None:
    box = page.locator('[data-filter="desk-list"]')
    rows = page.locator("#desk-list tbody tr:visible")
    assert rows.count() == 3
    box.fill("stbp control")
    assert rows.count() == 1
    box.fill("nothing of it")
    assert rows.count() == 0


@pytest.mark.parametrize("view", ["overview", CHILD, "stbp-cifar10-fp32-desk-s0"])
@pytest.mark.parametrize("width", [320, PHONE["width"], 1280])
def test_no_page_is_wider_than_the_screen(page: Any, report: Path, view: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": PHONE["height"]})
    page.goto(f"{report.as_uri()}#{view}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width <= PHONE["width"] and view == "overview":
        box = page.locator('[aria-label="Accuracy, desk tier"]')
        assert box.evaluate("box => box.scrollWidth > box.clientWidth"), "it scrolls in its own box"


def test_notes_are_printed(page: Any, tmp_path: Path) -> None:
    closed = "details.notes:not([open])"
    before = page.locator(closed).count()
    assert before > 0
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator(closed).count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator(closed).count() == before
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_without_scripts_everything_but_the_tools_is_there(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(f"{report.as_uri()}#{CHILD}")
    assert opened.locator(".run:visible").get_attribute("id") == CHILD
    assert opened.locator("#overview").is_hidden()
    assert opened.locator("svg:visible").count() > 5
    assert opened.locator("button:visible").count() == 0
    context.close()
