"""The page in a real browser, with every other host out of reach."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium(page_process: Any) -> Iterator[Any]:
    """A headless browser, or a skip that says why there is none; the page starts meanwhile."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip(f"no browser on this machine (looked for {', '.join(CHROMIUM)})")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_at(chromium: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page; what it asked of other hosts, or complained of, fails the test."""
    complaints: list[str] = []
    contexts = []

    def guard(route: Any) -> None:
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            complaints.append(f"asked for {route.request.url}")
            route.abort()

    def listen(message: Any) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def open_page(size: dict[str, int] = WIDE, scheme: str = "light") -> Any:
        context = chromium.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        context.route("**/*", guard)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#ask-market")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def ask(page: Any, symbol: str, time: str) -> None:
    page.locator("#symbol textarea, #symbol input").fill(symbol)
    page.locator("#time textarea, #time input").fill(time)
    page.click("#ask-market")


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (PHONE, "dark")])
def test_a_market_is_answered(
    size: dict[str, int], scheme: str, open_at: Callable[..., Any]
) -> None:
    page = open_at(size, scheme)
    assert page.title().startswith("both")
    ask(page, "random_walk", "")
    page.wait_for_selector(".answer .row")
    assert page.locator(".answer .row").count() == 3
    shares = page.locator(".answer .share").all_inner_texts()
    assert sum(float(share.removesuffix(" %")) for share in shares) == pytest.approx(100, abs=0.2)
    assert "in 90 % of cases" in page.locator(".answer .close").inner_text()
    page.wait_for_selector("#looked img")
    loaded = "() => document.querySelector('#looked img').naturalWidth"
    page.wait_for_function(f"{loaded} && ({loaded})() > 0")
    assert page.evaluate(loaded) >= 640
    assert page.locator("#read textarea").input_value().startswith("10 candles.")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= size["width"]


def test_what_is_wrong_stands_on_the_page_in_one_sentence(open_at: Callable[..., Any]) -> None:
    page = open_at()
    ask(page, "random_walk", "yesterday")
    told = page.wait_for_selector(".answer.problem").inner_text()
    assert told.startswith("End 'yesterday' is not understood")
    assert "Traceback" not in page.inner_text("body")
    ask(page, "/etc/passwd", "")
    page.wait_for_function(
        "() => document.querySelector('.answer.problem')?.innerText.includes('is no symbol')"
    )
    ask(page, "random_walk", "")
    page.wait_for_selector(".answer .row")
    assert page.locator(".answer.problem").count() == 0


def test_a_chart_of_ones_own_is_answered(open_at: Callable[..., Any], tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "mine.png")
    page = open_at(PHONE)
    page.get_by_role("tab", name="A chart of your own").click()
    page.set_input_files("#chart input[type=file]", tmp_path / "mine.png")
    page.wait_for_selector("#chart img")
    page.click("#ask-given")
    told = page.wait_for_selector(".answer.problem").inner_text()
    assert told.startswith("This model reads a chart and a text: give a text too")
    page.locator("#text textarea").fill("Price goes up.")
    page.locator("#last-close textarea, #last-close input").fill("94,250.5")
    page.click("#ask-given")
    page.wait_for_selector(".answer .row")
    text = page.locator(".answer").inner_text()
    assert "mine.png" in text
    assert "last close 94,250.5" in text
    assert "80 x 64 pixels and was resized to 40 x 32" in text
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
