"""Candles lie in the rows in which mplfinance draws them; the documentation shows it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from candlemark.candles.series import CandleSeries
from candlemark.charts.candlestick import PALETTES

DOCS = Path(__file__).parents[2] / "docs"
UP_IN_CHARLES = (0, 99, 64)


@pytest.fixture(scope="module")
def page() -> Iterator[ModuleType]:
    """docs/make_mplfinance.py, which finds its neighbour as a program there does."""
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("make_mplfinance")
    finally:
        sys.path.remove(str(DOCS))
        for name in ("make_mplfinance", "make_charts"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def mplfinance() -> None:
    """Skip where mplfinance cannot be imported, with what it says."""
    pytest.importorskip("mplfinance", exc_type=ImportError)


@pytest.mark.usefixtures("mplfinance")
@pytest.mark.parametrize("window", [20, 30, 40])
@pytest.mark.parametrize("part", ["BODY", "CANDLE"])
@pytest.mark.parametrize("seed", [None, 5])
def test_rows_are_those_of_mplfinance(
    page: ModuleType,
    make_series: Callable[..., CandleSeries],
    window: int,
    part: str,
    seed: int | None,
) -> None:
    series = page.walk() if seed is None else make_series(300, seed=seed, missing=(40, 41, 150))
    differences = page.compare(series.slots, window, part=getattr(page, part), count=8)
    assert differences.size > 8 * 2 * (window - 4)
    assert np.abs(differences).max() <= 1
    assert np.mean(differences == 0) > 0.99


@pytest.mark.usefixtures("mplfinance")
def test_rows_are_within_one_of_mplfinance_with_prices_in_the_middle_of_pixels(
    page: ModuleType,
) -> None:
    differences = page.compare(page.walk().slots, 30, page.CENTRED)
    assert set(differences.tolist()) == {0, 1}


@pytest.mark.usefixtures("mplfinance")
def test_real_candles_in_round_ticks_lie_within_one_row(
    page: ModuleType, shared_data: Path
) -> None:
    from candlemark import load_candles

    url = (shared_data / "binance").resolve().as_uri()
    series = load_candles("BTCUSDT", start="2024-01", end="2024-01", base_url=url)
    differences = page.compare(series.slots, 30, count=8)
    assert np.abs(differences).max() <= 1
    assert np.mean(differences == 0) > 0.99


@pytest.mark.usefixtures("mplfinance")
def test_both_agree_on_which_candles_rise(page: ModuleType) -> None:
    shown = (page.walk().slots, page.SHOWN_START, page.SHOWN)
    ours, theirs = page.draw_ours(*shown), page.draw_theirs(*shown)
    rising = 0
    for slot, (first, last) in enumerate(page.rows_of(ours, page.SHOWN)):
        if first != page.NOTHING:
            at = (first + last) // 2, (2 * slot + 1) * page.SIDE // (2 * page.SHOWN)
            up = tuple(ours[at]) == PALETTES["light"].up
            assert up == (tuple(theirs[at]) == UP_IN_CHARLES)
            rising += up
    assert 5 < rising < page.SHOWN - 5


@pytest.mark.usefixtures("mplfinance")
@pytest.mark.parametrize("rows", [-2, 1, 3])
def test_a_picture_some_rows_off_is_noticed(
    page: ModuleType, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    draw = page.draw_theirs

    def shifted(*arguments: object) -> object:
        return np.roll(draw(*arguments), rows, axis=0)

    monkeypatch.setattr(page, "draw_theirs", shifted)
    differences = page.compare(page.walk().slots, 30, count=2)
    # Candles at an edge come in again on the other side; most stay clear of it.
    assert np.median(differences) == rows


@pytest.mark.usefixtures("mplfinance")
def test_a_candle_that_is_missing_from_one_picture_is_an_error(
    page: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = page.draw_theirs

    def without_the_last(*arguments: object) -> object:
        picture = draw(*arguments)
        picture[:, -7:] = 255
        return picture

    monkeypatch.setattr(page, "draw_theirs", without_the_last)
    with pytest.raises(page.ChartError, match="mplfinance drew other candles than there are"):
        page.compare(page.walk().slots, 30, count=1)


def test_rows_of_bodies_and_candles_are_read_from_ink(page: ModuleType) -> None:
    art = """
        ...#........
        ..###.......
        ..###....#..
        ...#....###.
        ........###.
        ............
    """
    lines = [line.strip() for line in art.strip().splitlines()]
    gray = np.array([[0 if mark == "#" else 255 for mark in line] for line in lines], np.uint8)
    picture = np.repeat(gray[:, :, None], 3, axis=2)
    assert page.rows_of(picture, 2, page.BODY).tolist() == [[1, 2], [3, 4]]
    assert page.rows_of(picture, 2, page.CANDLE).tolist() == [[0, 3], [2, 4]]
    assert page.rows_of(np.full_like(picture, 255), 2).tolist() == [[page.NOTHING] * 2] * 2


def test_the_picture_in_the_documentation_shows_what_is_drawn_today(page: ModuleType) -> None:
    with Image.open(page.PICTURE) as opened:
        picture = np.asarray(opened.convert("RGB"))
    ours = page.draw_ours(page.walk().slots, page.SHOWN_START, page.SHOWN)
    expected = page.side_by_side(ours, ours)
    assert picture.shape == expected.shape
    side = page.SIDE * page.ZOOM
    assert np.array_equal(picture[:, :side], expected[:, :side]), (
        "the charts have changed; run: python docs/make_mplfinance.py"
    )
