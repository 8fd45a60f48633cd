"""The kernels against a slow second implementation, written from the specification alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.candles.series import CandleSeries, Slots
from candlemark.charts.candlestick import PALETTES
from candlemark.charts.render import render, render_windows
from candlemark.charts.style import ChartStyle, image_shape

Pixels = dict[tuple[int, int], tuple[int, ...]]


def reference(
    slots: Slots, style: ChartStyle, start: int, window: int, hidden: frozenset[int] = frozenset()
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """One picture, in plain Python."""
    shape = image_shape(style, window)
    height, width = shape[:2]
    drawn = [i for i in range(window) if not math.isnan(slots.close[start + i]) and i not in hidden]
    volume_rows = height // 5 if style.draws_volume else 0
    spacer = max(1, height // 50) if style.kind == "candlestick" else 1
    panel = height - volume_rows - spacer if volume_rows else height
    pixels: Pixels = {}
    paper = reference_paper(style)
    if drawn:
        top = max(float(slots.high[start + i]) for i in drawn)
        low = min(float(slots.low[start + i]) for i in drawn)
        largest = max(float(slots.volume[start + i]) for i in drawn)

        def row(price: float) -> int:
            if top == low:
                middle = (panel - 1) // 2
                return middle if price == top else (-panel if price > top else 2 * panel)
            place = math.floor((top - price) / (top - low) * (panel - 1) + 0.5 - 2**-20)
            return max(-panel, min(2 * panel, place))

        def tall(volume: float) -> int:
            if not volume_rows or volume == 0:
                return 0
            return max(1, math.floor(volume / largest * volume_rows + 0.5 - 2**-20))

        draw = candles_of if style.kind == "candlestick" else bars_of
        centres = draw(slots, style, start, window, drawn, row, tall, pixels)
        for k, length in enumerate(style.average_lengths(window)):
            dots = {i: row(reference_average(slots, start, i, length, hidden)) for i in drawn}
            draw_line(dots, centres, panel, style, k, (height, width), pixels)
    picture = np.full(shape, paper, dtype=np.uint8)
    for (y, x), color in pixels.items():
        picture[y, x] = color if len(shape) == 3 else color[0]
    return picture


def reference_paper(style: ChartStyle) -> int:
    if style.kind == "candlestick":
        return PALETTES["dark" if style.is_dark else "light"].background
    return 0 if style.is_dark else 255


def reference_average(
    slots: Slots, start: int, i: int, length: int, hidden: frozenset[int]
) -> float:
    closes = [
        float(slots.close[s])
        for s in range(max(0, start + i - length + 1), start + i + 1)
        if not math.isnan(slots.close[s]) and s - start not in hidden
    ]
    total = 0.0
    for close in closes:
        total += close
    return total / len(closes)


def bars_of(  # noqa: PLR0917 -- called once, in the order of the text
    slots: Slots,
    style: ChartStyle,
    start: int,
    window: int,
    drawn: list[int],
    row: Callable[[float], int],
    tall: Callable[[float], int],
    pixels: Pixels,
) -> dict[int, int]:
    height, width = image_shape(style, window)[:2]
    unit = (width // window) // (4 if style.kind == "ohlc4" else 3)
    ink = (255 - reference_paper(style),)
    centres = {}
    for i in drawn:
        s, x = start + i, i * width // window
        centres[i] = x + unit + (unit - 1) // 2
        for u in range(unit):
            pixels[row(slots.open[s]), x + u] = ink
            pixels[row(slots.close[s]), x + 2 * unit + u] = ink
            for y in range(row(slots.high[s]), row(slots.low[s]) + 1):
                pixels[y, x + unit + u] = ink
            for y in range(height - tall(slots.volume[s]), height):
                pixels[y, x + unit + u] = ink
    return centres


def candles_of(  # noqa: PLR0917 -- called once, in the order of the text
    slots: Slots,
    style: ChartStyle,
    start: int,
    window: int,
    drawn: list[int],
    row: Callable[[float], int],
    tall: Callable[[float], int],
    pixels: Pixels,
) -> dict[int, int]:
    height, width = image_shape(style, window)[:2]
    palette = PALETTES["dark" if style.is_dark else "light"]
    slot = width // window
    wick = body = {1: 1, 2: 1, 3: 2}.get(slot, 0)
    if slot >= 4:
        body = slot - max(1, slot // 4)
        wick = max(1, body // 5)
        if (body - wick) % 2 == 1:
            body -= 1
    centres = {}
    for i in drawn:
        s = start + i
        x = i * width // window + (slot - body) // 2
        centres[i] = x + (body - 1) // 2
        opened, closed = float(slots.open[s]), float(slots.close[s])
        color = palette.flat
        if closed != opened:
            color = palette.up if closed > opened else palette.down
        pale = tuple((level + palette.background) // 2 for level in color)
        inset = (body - wick) // 2
        for y in range(row(slots.high[s]), row(slots.low[s]) + 1):
            for c in range(x + inset, x + inset + wick):
                pixels[y, c] = pale if slot < 4 else color
        first, last = sorted((row(opened), row(closed)))
        for c in range(x, x + body):
            for y in range(first, last + 1):
                pixels[y, c] = color
            for y in range(height - tall(slots.volume[s]), height):
                pixels[y, c] = pale
    return centres


def draw_line(  # noqa: PLR0917 -- called once, in the order of the text
    dots: dict[int, int],
    centres: dict[int, int],
    panel: int,
    style: ChartStyle,
    k: int,
    size: tuple[int, int],
    pixels: Pixels,
) -> None:
    color: tuple[int, ...] = (255 - reference_paper(style),)
    thick = 1
    if style.kind == "candlestick":
        color = PALETTES["dark" if style.is_dark else "light"].averages[k]
        thick = max(1, min(size) // 256)

    def paint(first: int, last: int, x: int) -> None:
        for y in range(first, last + thick):
            if 0 <= y < panel:
                pixels[y, x] = color

    for i, y1 in dots.items():
        if i - 1 not in dots:
            paint(y1, y1, centres[i])
            continue
        y0, x0, x1 = dots[i - 1], centres[i - 1], centres[i]
        before = y0
        for x in range(x0 + 1, x1 + 1):
            y = y0 + (2 * (x - x0) * (y1 - y0) + (x1 - x0)) // (2 * (x1 - x0))
            if y > before:
                paint(before + 1, y, x)
            elif y < before:
                paint(y, before - 1, x)
            else:
                paint(y, y, x)
            before = y


STYLE_CASES = [
    ChartStyle(kind="ohlc4", height=40),
    ChartStyle(kind="ohlc4", height=33, width=131, theme="dark"),
    ChartStyle(kind="jkx"),
    ChartStyle(kind="jkx", height=77, width=150, moving_averages=(3, 40), theme="light"),
    ChartStyle(kind="candlestick", height=61, width=12),
    ChartStyle(kind="candlestick", height=48, width=41, moving_averages=(1, 5, 9, 30)),
    ChartStyle(kind="candlestick", height=90, width=100, volume=True, theme="dark"),
    ChartStyle(kind="candlestick", height=64, width=257, volume=True, moving_averages=(4,)),
    ChartStyle(kind="candlestick", height=513, width=600, volume=True, moving_averages=(2, 7)),
]


@pytest.mark.parametrize("style", STYLE_CASES, ids=lambda style: f"{style.kind}-{style.width}")
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_kernels_follow_the_specification(style: ChartStyle, data: st.DataObject) -> None:
    count, window = 40, 12
    seed = data.draw(st.integers(0, 2**32 - 1), label="seed")
    ticks = data.draw(st.integers(1, 60), label="price range in ticks")
    random = np.random.default_rng(seed)
    prices = np.sort(random.integers(0, ticks + 1, (count, 4)), axis=1) * 0.01 + 20
    swap = random.random(count) < 0.5
    missing = random.random(count) < 0.2
    columns = {
        "open": np.where(swap, prices[:, 1], prices[:, 2]),
        "high": prices[:, 3],
        "low": prices[:, 0],
        "close": np.where(swap, prices[:, 2], prices[:, 1]),
        "volume": random.integers(0, 50, count) * 1.0,
    }
    for column in columns.values():
        column[missing] = np.nan
    slots = Slots(start_ms=0, interval_ms=1000, **columns)
    starts = random.integers(0, count - window + 1, 5)
    visible = random.random((5, window)) < 0.8
    pictures = render_windows(slots, style, starts, window=window, visible=visible)
    for n, begin in enumerate(starts):
        hidden = frozenset(int(i) for i in np.flatnonzero(~visible[n]))
        expected = reference(slots, style, int(begin), window, hidden)
        np.testing.assert_array_equal(pictures[n], expected)


def test_real_candles(shared_data: Path) -> None:
    """Hours of Bitcoin, the outage of 2023-03-24 included."""
    import zipfile

    folder = shared_data / "binance/data/spot/monthly/klines/BTCUSDT/1h"
    with zipfile.ZipFile(folder / "BTCUSDT-1h-2023-03.zip") as archive:
        table = np.loadtxt(
            archive.read(archive.namelist()[0]).decode().splitlines(),
            delimiter=",",
            usecols=range(6),
        )
    series = CandleSeries(
        symbol="BTCUSDT",
        interval="1h",
        open_time_ms=table[:, 0].astype(np.int64),
        open=table[:, 1],
        high=table[:, 2],
        low=table[:, 3],
        close=table[:, 4],
        volume=table[:, 5],
    )
    assert len(series.gaps) == 1
    hole = (series.gaps[0].start_ms - series.slots.start_ms) // series.interval_ms
    for style, window in (
        (ChartStyle(kind="ohlc4"), 60),
        (ChartStyle(kind="jkx"), 20),
        (ChartStyle(kind="candlestick", volume=True, moving_averages=(7, 25)), 30),
    ):
        begin = hole - window // 2
        picture = render(series, style, window=window, start=begin, count=1)[0]
        np.testing.assert_array_equal(picture, reference(series.slots, style, begin, window))
