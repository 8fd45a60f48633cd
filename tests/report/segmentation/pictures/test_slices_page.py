"""The page with the slices: its text, and what it does in a browser with no network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from candlemark.report.segmentation.packing import LONGEST_SIDE, Packed, pack
from candlemark.report.segmentation.page import page, viewer, write_page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def written(
    fake: Any, board: Any, scans: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("page") / "segmentation.html"
    return write_page(board, pack(board, fake.loader(scans)), [], path, title="demo <1>")


def test_the_page_is_one_file_that_asks_for_nothing(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert "demo &lt;1&gt;" in text
    for loaded in ("<script src", '<link rel="style', "<img"):
        assert loaded not in text
    assert "the process was killed &lt;by&gt; the system" in text
    assert "killed <by>" not in text
    assert LONGEST_SIDE <= 512


def test_rows_say_what_they_are(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    for option in ("moved</option>", "sam oracle box (ORACLE)<", "all foreground (control)<"):
        assert option in text


def test_what_is_not_shown_is_said(board: Any, fake: Any, scans: list[Any]) -> None:
    some = pack(board, fake.loader(scans), budget_bytes=1)
    assert "1 case is here, the most telling; 3 cases more would make the" in viewer(board, some)
    gone = pack(board, fake.loader(scans[:3]))
    assert f"The files of {scans[3].case} are not there any more." in viewer(board, gone)
    nothing = page(board, Packed(rows=(), classes={}, cases=()), title="demo")
    assert "No slice is shown: no case has an answer whose files are still there." in nothing
    assert 'href="#slices"' not in nothing


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip(f"no browser on this machine (looked for {', '.join(CHROMIUM)})")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["wide", "phone"])
def browsed(chromium: Any, written: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, opened once, and what it complained of or wished from elsewhere."""
    complaints: list[str] = []
    context = chromium.new_context(viewport=WIDE if request.param == "wide" else PHONE)
    page_ = context.new_page()
    page_.on("pageerror", lambda error: complaints.append(str(error)))
    page_.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page_.on("request", lambda r: complaints.append(r.url) if r.url.startswith("http") else None)
    page_.goto(written.as_uri())
    page_.wait_for_function("document.getElementById('slices-told').textContent !== ''")
    yield page_, complaints
    context.close()


@pytest.fixture
def opened(browsed: Any) -> Iterator[Any]:
    """The page at its first case and row; an error on it fails the test."""
    page_, complaints = browsed
    page_.select_option("#slices-case", "0")
    page_.select_option("#slices-row", "clinic/moved")
    for box in ("reference", "prediction"):
        page_.check(f"#slices-{box}")
    page_.evaluate("document.activeElement.blur()")
    yield page_
    assert complaints == []
    assert page_.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def pixels(page_: Any, tmp_path: Path) -> np.ndarray:
    page_.locator("#slices-view").screenshot(path=str(tmp_path / "view.png"))
    return np.asarray(Image.open(tmp_path / "view.png").convert("RGB")).astype(int)


def near(drawn: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(drawn - colour).max(axis=-1) < 12).sum())


ORANGE = (0xFF, 0xB0, 0x00)


def bluish(drawn: np.ndarray) -> int:
    return int((drawn[..., 2] - drawn[..., 0] > 25).sum())


def test_the_slice_shows_reference_and_prediction_and_hides_them(
    opened: Any, tmp_path: Path
) -> None:
    both = pixels(opened, tmp_path)
    assert near(both, ORANGE) > 50
    assert bluish(both) > 200
    opened.keyboard.press("p")
    without = pixels(opened, tmp_path)
    assert near(without, ORANGE) == 0
    assert bluish(without) > 200
    opened.keyboard.press("r")
    bare = pixels(opened, tmp_path)
    assert bluish(bare) == 0
    assert bare.std() > 5  # the scan itself is there
    assert not opened.is_checked("#slices-reference")
    opened.check("#slices-reference")
    assert bluish(pixels(opened, tmp_path)) > 200


def test_the_sides_of_the_patient_are_told(opened: Any, written: Path, tmp_path: Path) -> None:
    assert "Letters: R and L the right and left of the patient" in written.read_text("utf-8")
    label = opened.get_attribute("#slices-view", "aria-label")
    assert label.endswith("; R is to the left, A at the top")
    for box in ("reference", "prediction"):
        opened.uncheck(f"#slices-{box}")
    seen = pixels(opened, tmp_path)
    height, width = seen.shape[:2]
    for edge in (seen[height // 2 - 9 : height // 2 + 9, :20], seen[:20, width // 2 - 9 :][:, :18]):
        assert near(edge, (255, 255, 255)) > 10  # a letter, on the black around the phantom


def test_keys_and_the_slider_change_slice_row_and_case(opened: Any) -> None:
    def where() -> str:
        return str(opened.inner_text("#slices-where"))

    first = where()
    number = int(first.split()[1])
    opened.keyboard.press("ArrowRight")
    assert where() == first.replace(f"slice {number} ", f"slice {number + 1} ")
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("ArrowLeft")
    assert int(where().split()[1]) == number - 1
    opened.focus("#slices-view")
    opened.keyboard.press("Home")
    assert where().startswith("slice 1 of")
    opened.keyboard.press("ArrowLeft")
    assert where().startswith("slice 1 of")
    opened.fill("#slices-place", "2")
    assert where().startswith("slice 3 of")
    told = opened.inner_text("#slices-told")
    opened.keyboard.press("n")
    other = opened.inner_text("#slices-told")
    assert other != told
    assert where().startswith("slice 3 of")
    opened.keyboard.press("m")
    assert opened.inner_text("#slices-told") == told
    opened.keyboard.press(".")
    assert opened.inner_text("#slices-told").split(",")[0] != told.split(",")[0]


def test_a_case_without_an_answer_says_so(opened: Any, scans: list[Any]) -> None:
    case = opened.locator("#slices-case option", has_text=scans[1].case).get_attribute("value")
    opened.select_option("#slices-case", case)
    opened.select_option("#slices-row", "hub/thinner")
    told = opened.inner_text("#slices-told")
    assert told.startswith(f"{scans[1].case}, thinner: crashed: the network raised ValueError;")
    assert told.endswith("; no mask")


def test_on_paper_no_column_is_cut_off(chromium: Any, written: Path) -> None:
    paper = chromium.new_page(viewport={"width": 718, "height": 1000})  # A4 within its margins
    paper.emulate_media(media="print")
    paper.goto(written.as_uri())
    found = paper.evaluate(
        "[...document.querySelectorAll('.scroll')]"
        ".map(one => [one.scrollWidth - one.clientWidth, getComputedStyle(one).overflowX])"
    )
    paper.close()
    assert found
    assert all(over < 5 and how == "visible" for over, how in found)


def test_keys_in_a_list_are_the_lists_own(opened: Any) -> None:
    opened.focus("#slices-row")
    before = opened.is_checked("#slices-prediction")
    opened.keyboard.press("p")
    assert opened.is_checked("#slices-prediction") is before
