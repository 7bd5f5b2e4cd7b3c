"""The report of a cohort in Chromium, without a network: cases are sorted, marked by keys, and saved as a review."""

import csv
import shutil
import sys

import pytest
from helpers import ROOT
from helpers.ohif import CHROMIUM, FLAGS

sys.path.insert(0, str(ROOT / "tests" / "unit"))
from test_cohort_report import LABELS, _Bundle, cohort, record

from unetpp_monai.cohort.report import About, write_report
from unetpp_monai.cohort.review import COLUMNS, apply_review, read_review

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def cases():
    return cohort(record("small", 0.5, 0.5), record('odd "name", with comma', 4.0, 1.0))


@pytest.fixture(scope="module", params=["light", "dark"])
def page(request, cases, tmp_path_factory):
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("report")
    (folder / "pictures").mkdir()
    write_report(cases, folder / "pictures", folder / "report.html", about=About(_Bundle, "images"))
    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        context = browser.new_context(color_scheme=request.param, offline=True, viewport={"width": 1280, "height": 900})
        found = context.new_page()
        found.on("request", lambda one: asked.append(one.url))
        found.on("pageerror", lambda error: pytest.fail(str(error)))
        found.goto((folder / "report.html").as_uri())
        yield found
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        browser.close()


def shown(page):
    return page.eval_on_selector_all(".case:not([hidden]) h3", "all => all.map(one => one.firstChild.textContent)")


def test_cases_are_sorted_and_filtered(page):
    assert set(shown(page)[:2]) == {"small", 'odd "name", with comma'} and len(shown(page)) == 23
    page.select_option("#sort", f"label:{LABELS[0].name}")
    assert shown(page)[0].startswith("odd") and shown(page)[-1] == "small"
    page.select_option("#sort", "case")
    assert shown(page)[:3] == ["case_0", "case_1", "case_2"]
    page.select_option("#show", "flagged")
    assert len(shown(page)) == 2
    page.fill("#find", "SMALL")
    assert shown(page) == ["small"]
    page.fill("#find", "")
    page.select_option("#show", "all")
    page.select_option("#sort", "suspicion")


def test_marks_by_keys_are_saved_and_read_back(page, cases, tmp_path):
    page.fill("#reviewer", "")
    page.click("#save")
    assert page.inner_text("#state") == "Say who reviews first."
    page.locator("h1").click()
    page.keyboard.press("j")
    first = page.get_attribute("[aria-current=true]", "aria-label")
    page.keyboard.press("f")
    page.keyboard.press("j")
    second = page.get_attribute("[aria-current=true]", "aria-label")
    page.keyboard.press("r")
    page.keyboard.press("k")
    assert page.get_attribute("[aria-current=true]", "aria-label") == first != second
    page.locator(".case", has_text="case_3").first.get_by_text("Good").click()
    page.locator("[aria-current=true] .marks input").fill('fine, "really"')
    page.fill("#reviewer", "A. Reader")
    with page.expect_download() as download:
        page.click("#save")
    shutil.copy(download.value.path(), tmp_path / "review.csv")
    with (tmp_path / "review.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and {row["reviewer"] for row in rows} == {"A. Reader"}
    assert {row["case"]: row["mark"] for row in rows} == {first: "exclude", second: "redo", "case_3": "keep"}
    assert [row["note"] for row in rows if row["case"] == "case_3"] == ['fine, "really"']
    found = apply_review(read_review(tmp_path / "review.csv"), cases)
    assert set(found.excluded) == {first} and found.outdated == ()


def test_it_can_be_read_and_used_without_a_mouse(page):
    """Every picture has a text, every field a name, and text stands out from what lies behind it."""
    assert page.eval_on_selector_all("img", "all => all.every(one => one.alt)")
    assert page.eval_on_selector_all("svg", "all => all.every(one => one.getAttribute('aria-label'))")
    names = page.eval_on_selector_all(
        "input, select", "all => all.every(one => one.labels.length || one.getAttribute('aria-label'))"
    )
    assert names
    for selector in (".soft", ".reasons li", "h3", "button.main"):
        colours = page.eval_on_selector(
            selector,
            """one => { const back = element => { const colour = getComputedStyle(element).backgroundColor;
                return colour === "rgba(0, 0, 0, 0)" && element.parentElement ? back(element.parentElement) : colour };
                return [getComputedStyle(one).color, back(one)] }""",
        )
        assert contrast(*colours) >= 4.5, (selector, colours)


def contrast(one, other):
    """Ratio of luminances (WCAG 2.2, 1.4.3)."""

    def luminance(colour):
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
