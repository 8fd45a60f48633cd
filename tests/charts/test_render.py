"""Which windows are drawn, into which buffer, on how many threads, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from candlemark.candles.series import COLUMNS, CandleSeries, Slots
from candlemark.charts.blocks import draw_bars, draw_candles
from candlemark.charts.indicators import window_averages
from candlemark.charts.ohlc import spread
from candlemark.charts.packed import unpack
from candlemark.charts.render import render, render_packed, render_windows
from candlemark.errors import ChartError

MakeSeries = Callable[..., CandleSeries]


@pytest.mark.parametrize(
    ("style", "shape"),
    [("ohlc4", (500, 40)), ("jkx", (43, 30)), ("candlestick", (224, 224, 3))],
)
def test_every_window_is_drawn_at_the_style_own_size(
    make_series: MakeSeries, style: str, shape: tuple[int, ...]
) -> None:
    pictures = render(make_series(30), style, window=10)
    assert pictures.shape == (21, *shape)
    assert pictures.dtype == np.uint8


def test_start_stride_and_count_are_in_slots(make_series: MakeSeries) -> None:
    series = make_series(60, missing=[7, 8, 31])
    every = render(series, "jkx", window=10)
    np.testing.assert_array_equal(
        render(series, "jkx", window=10, start=3, stride=5, count=4), every[3:23:5]
    )
    np.testing.assert_array_equal(render(series, "jkx", window=10, start=3, stride=5), every[3::5])
    assert len(render(series, "jkx", window=10, count=0)) == 0


def test_windows_come_in_the_order_asked(make_series: MakeSeries) -> None:
    series = make_series(40)
    every = render(series, "candlestick", window=10, height=32, width=40)
    starts = [5, 30, 0, 5]
    drawn = render_windows(
        series.slots, "candlestick", starts, window=10, height=32, width=40, threads=3
    )
    np.testing.assert_array_equal(drawn, every[starts])


def test_out_is_filled_and_returned(make_series: MakeSeries) -> None:
    series = make_series(20)
    out = np.full((11, 43, 30), 7, dtype=np.uint8)
    assert render(series, "jkx", window=10, out=out) is out
    np.testing.assert_array_equal(out, render(series, "jkx", window=10))


def test_threads_change_nothing(make_series: MakeSeries) -> None:
    series = make_series(400)
    one = render_windows(series.slots, "ohlc4", np.arange(300), window=100, threads=1)
    for threads in (None, 2, 7):
        many = render_windows(series.slots, "ohlc4", np.arange(300), window=100, threads=threads)
        np.testing.assert_array_equal(many, one)


def test_kernels_are_compiled_once(make_series: MakeSeries) -> None:
    """Whatever may be written, hidden or empty among the inputs: compiling takes seconds."""
    series = make_series(40)
    writable = Slots(
        start_ms=0,
        interval_ms=1000,
        **{name: np.array(getattr(series.slots, name)) for name in COLUMNS},
    )
    visible = np.ones((3, 10), dtype=np.bool_)
    for slots in (series.slots, writable):
        for style in ("ohlc4", "jkx", "candlestick"):
            render_windows(slots, style, [0, 5, 9], window=10)
            render_windows(slots, style, [0, 5, 9], window=10, visible=visible)
    visible.flags.writeable = False
    render_windows(writable, "jkx", np.arange(0, 9, 3), window=10, visible=visible)
    for style in ("ohlc4", "jkx"):
        packed = render_packed(slots, style, [0, 5, 9], window=10)
        unpack(packed, 8 * packed.shape[1], paper=255, ink=0)
    for kernel in (window_averages, spread, draw_bars, draw_candles):
        assert len(kernel.signatures) == 1


def test_drawing_from_several_threads_at_once(make_series: MakeSeries) -> None:
    series = make_series(300)
    expected = render(series, "jkx", window=20)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: render(series, "jkx", window=20), range(8)))
    for pictures in drawn:
        np.testing.assert_array_equal(pictures, expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": 0}, "window is 0 slots; it must be at least 1"),
        ({"window": 31}, "window is 31 slots but the series has 30; take a window of at most 30"),
        ({"stride": 0}, "stride is 0 slots; it must be at least 1"),
        ({"start": -1}, "start is slot -1; windows of 10 in 30 slots start at 0 to 20"),
        ({"start": 21}, "start is slot 21; windows of 10 in 30 slots start at 0 to 20"),
        ({"count": -1}, "count is -1 windows; it must be 0 or more"),
        ({"count": 22}, "count is 22 windows; from slot 0 with stride 1 only 21 fit"),
        ({"style": "ohlc5"}, r"unknown chart style 'ohlc5'; did you mean 'ohlc4'\? known: ohlc4, "),
        ({"style": "zzz"}, "unknown chart style 'zzz'; known: ohlc4, jkx, candlestick"),
        ({"width": 39}, "10 slots of ohlc4 at 4 px or more need a width of at least 40"),
        ({"height": 1}, "height is 1 px; ohlc4 needs a height of at least 2"),
        ({"height": 20_000}, "height is 20000 px; at most 16384 are allowed"),
        ({"style": "candlestick", "width": 9}, "need a width of at least 10"),
        ({"out": [1]}, r"out is a list; it must be a uint8 array of shape \(21, 500, 40\)"),
        ({"out": np.zeros((21, 500, 40))}, "out is float64 of shape"),
        ({"out": np.zeros((21, 500, 41), np.uint8)}, r"out is uint8 of shape \(21, 500, 41\)"),
        ({"out": np.zeros((21, 40, 500), np.uint8).swapaxes(1, 2)}, "out is not C-contiguous"),
        ({"out": np.frombuffer(bytes(420_000), np.uint8).reshape(21, 500, 40)}, "read-only"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    make_series: MakeSeries, wrong: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"style": "ohlc4", "window": 10} | wrong
    with pytest.raises(ChartError, match=message):
        render(make_series(30), **arguments)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"starts": [0, 21]}, r"starts\[1\] is slot 21; windows of 10 in 30 slots start at 0"),
        ({"starts": [-1]}, r"starts\[0\] is slot -1"),
        ({"starts": [0.5]}, r"starts is float64 of shape \(1,\); it must be whole slot numbers"),
        ({"starts": [[0]]}, r"starts is int64 of shape \(1, 1\)"),
        ({"visible": np.ones((1, 9), bool)}, r"visible is bool of shape \(1, 9\)"),
        ({"visible": np.ones((1, 10))}, "visible is float64"),
        ({"threads": 0}, "threads is 0; it must be at least 1, or None to choose"),
    ],
)
def test_windows_that_cannot_be_drawn_are_refused(
    make_series: MakeSeries, wrong: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"style": "jkx", "starts": [0], "window": 10} | wrong
    with pytest.raises(ChartError, match=message):
        render_windows(make_series(30).slots, **arguments)
