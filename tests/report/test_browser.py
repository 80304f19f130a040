"""The report as people see it: in Chromium, on a wide screen and a narrow one, with a keyboard, and on paper."""

import os
import shutil

import pytest

from raydistill.report.html import render
from tests.report.builder import build

SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}
SERIOUS = {"moderate", "serious", "critical"}
WIDER_THAN_THE_SCREEN = "document.documentElement.scrollWidth > innerWidth"
BROKEN = """Promise.all([...document.images].map(image => {
  image.loading = "eager";
  return image.decode().then(() => null, () => image.src);
})).then(sources => sources.filter(Boolean))"""
OPENED = """Object.fromEntries([".numbers", ".held > :not(.again)", ".how"].map(name => {
  const folds = [...document.querySelectorAll(`details:is(${name}), ${name} details`)];
  return [name, folds.length > 0 && folds.every(one => one.open)];
}))"""
A4_PX = 1047
"""Height of a page at 96 pixels an inch, less margins of a centimetre; it is 718 wide."""

FOCUSED = "(document.activeElement.getAttribute('href') || document.activeElement.tagName)"


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        said = "no Chromium on the PATH: apt-get install chromium"
        pytest.fail(said) if os.environ.get("CI") else pytest.skip(said)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Write the internal report and the public one."""
    folder = tmp_path_factory.mktemp("pages")
    runner, summary = build(folder / "run")
    for name in ("internal", "public"):
        (folder / f"{name}.html").write_text(render(runner, summary, public=name == "public"))
    return {name: f"file://{folder}/{name}.html" for name in ("internal", "public")}


SEEN = (("internal", "wide"), ("internal", "narrow"), ("public", "wide"))


@pytest.fixture(params=SEEN, ids="-".join, scope="module")
def seen(request, browser, pages):
    """Open a report; give the page, what it said on the console, and what it asked for."""
    who, size = request.param
    page, said, asked = browser.new_page(viewport=SIZES[size]), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(pages[who])
    yield page, said, asked
    page.close()


def test_every_figure_is_drawn_without_a_word_and_nothing_is_asked_of_anybody(seen):
    page, said, asked = seen
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.url]
    plots = page.locator(".plot")
    assert plots.count() > 10
    for number in range(plots.count()):
        assert plots.nth(number).locator(".main-svg").count() > 0
    assert page.locator("img").count() > 10
    assert page.evaluate(BROKEN) == []


def test_nothing_is_wider_than_the_screen(seen):
    assert not seen[0].evaluate(WIDER_THAN_THE_SCREEN)


@pytest.mark.parametrize("seen", [one for one in SEEN if "wide" in one], ids="-".join, indirect=True, scope="module")
def test_axe_finds_nothing_that_keeps_somebody_out(seen):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(seen[0]).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in SERIOUS] == []


def test_a_keyboard_leads_through_it(seen):
    page = seen[0]
    page.evaluate("document.activeElement.blur()")
    links = page.locator("nav a")
    targets = [links.nth(number).get_attribute("href") for number in range(links.count())]
    reached = []
    for _ in range(len(targets) + 5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    assert [target for target in targets if target in reached] == targets
    for target in targets:
        assert page.locator(target).count() == 1
    summary = page.query_selector("details:not([open]) > summary")
    summary.focus()
    page.keyboard.press("Enter")
    assert summary.evaluate("it => it.parentElement.open")


@pytest.mark.parametrize("seen", [("internal", "narrow")], ids="-".join, indirect=True, scope="module")
def test_a_narrow_screen_shows_a_check_s_budget_and_has_room_for_its_metric(seen):
    page = seen[0]
    page.evaluate("document.querySelectorAll('.held details:not(.again)').forEach(one => one.open = true)")
    budget, metric = (
        page.locator(f".held .checks {cell}").first for cell in ("td[data-label=Budget]", "th[scope=row]")
    )
    inside = budget.bounding_box()
    assert inside["x"] + inside["width"] <= SIZES["narrow"]["width"]
    assert metric.bounding_box()["width"] > 300
    assert budget.evaluate("it => getComputedStyle(it, '::before').content") == '"Budget"'


def test_it_prints_verdict_and_numbers_on_top_and_leaves_folded_how_they_were_measured(seen):
    page = seen[0]
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = {OPENED}; }})")
    content = page.pdf(format="A4")
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") > 3
    assert page.evaluate("printed") == {".numbers": True, ".held > :not(.again)": True, ".how": False}
    screen = page.viewport_size
    page.set_viewport_size({"width": 718, "height": A4_PX})
    page.emulate_media(media="print")
    shown = page.evaluate("['.how', '.again', '.tiles'].map(one => document.querySelector(one).offsetHeight > 0)")
    tiles = page.locator(".tiles").bounding_box()
    page.emulate_media(media="screen")
    page.set_viewport_size(screen)
    assert shown == [False, False, True]
    assert tiles["y"] + tiles["height"] < A4_PX
