"""What holds for every style, whatever the prices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.candles.series import CandleSeries, Slots
from candlemark.charts import geometry
from candlemark.charts.indicators import read_only
from candlemark.charts.render import render, render_windows
from candlemark.charts.style import ChartStyle, image_shape

STYLES = [
    ChartStyle(kind="ohlc4", height=50),
    ChartStyle(kind="jkx", moving_averages=(3,)),
    ChartStyle(kind="candlestick", height=60, width=80, volume=True, moving_averages=(2, 6)),
]
every_style = pytest.mark.parametrize("style", STYLES, ids=lambda style: style.kind)
WINDOW = 8
FloatArray = npt.NDArray[np.float64]


def slots_of(prices: FloatArray, volume: FloatArray | None = None) -> Slots:
    """Slots from float64[S, 4], any four prices a slot; the middle two open and close."""
    ordered = np.sort(prices, axis=1)
    even = np.arange(len(prices)) % 2 == 0
    return Slots(
        start_ms=0,
        interval_ms=1000,
        open=np.where(even, ordered[:, 1], ordered[:, 2]),
        high=ordered[:, 3].copy(),
        low=ordered[:, 0].copy(),
        close=np.where(even, ordered[:, 2], ordered[:, 1]),
        volume=np.ones(len(prices)) if volume is None else volume,
    )


def draw(slots: Slots, style: ChartStyle) -> npt.NDArray[np.uint8]:
    starts = np.arange(len(slots) - WINDOW + 1)
    return render_windows(slots, style, starts, window=WINDOW)


def price_tables(low: float, high: float) -> st.SearchStrategy[FloatArray]:
    price = st.floats(low, high)
    rows = st.lists(st.tuples(price, price, price, price), min_size=WINDOW, max_size=WINDOW + 3)
    return rows.map(lambda values: np.array(values, dtype=np.float64))


@every_style
@settings(max_examples=25, deadline=None)
@given(prices=price_tables(1e-3, 1e6), power=st.integers(-300, 300))
def test_a_power_of_two_changes_no_pixel(style: ChartStyle, prices: FloatArray, power: int) -> None:
    np.testing.assert_array_equal(
        draw(slots_of(prices), style), draw(slots_of(prices * 2.0**power), style)
    )


@every_style
@settings(max_examples=25, deadline=None)
@given(
    ticks=st.lists(st.tuples(*[st.integers(0, 100)] * 4), min_size=WINDOW - 1, max_size=WINDOW - 1),
    factor=st.sampled_from([0.01, 0.1, 1 / 3, 7.0, 83.91, 1000.0]),
)
def test_another_unit_changes_no_pixel_of_round_prices(
    style: ChartStyle, ticks: list[tuple[int, int, int, int]], factor: float
) -> None:
    """100 ticks on 51 rows: every other tick is half-way, and rounding must not decide there."""
    bars_only = style.model_copy(update={"moving_averages": (), "volume": False, "height": 51})
    prices = np.array([(0, 0, 100, 100), *ticks], dtype=np.float64) + 20_000
    np.testing.assert_array_equal(
        draw(slots_of(prices), bars_only), draw(slots_of(prices * factor), bars_only)
    )


@every_style
@settings(max_examples=40, deadline=None)
@given(prices=price_tables(-1.7e308, 1.7e308))
def test_extreme_prices_are_drawn(style: ChartStyle, prices: FloatArray) -> None:
    """Ratios and differences that overflow draw every candle, the highest on top."""
    slots = slots_of(prices)
    paper = 255 if style.kind != "jkx" else 0
    for start, picture in enumerate(draw(slots, style)):
        inside = slice(start, start + WINDOW)
        if slots.high[inside].max() > slots.low[inside].min():
            assert (picture[0] != paper).any()


@every_style
@settings(max_examples=25, deadline=None)
@given(prices=price_tables(0.0, 1e-320))
def test_subnormal_prices_are_drawn(style: ChartStyle, prices: FloatArray) -> None:
    bars_only = style.model_copy(update={"moving_averages": ()})
    whole = np.round(prices / 5e-324)
    np.testing.assert_array_equal(
        draw(slots_of(prices), bars_only), draw(slots_of(whole), bars_only)
    )


@settings(max_examples=60, deadline=None)
@given(prices=price_tables(-1e9, 1e9), panel=st.integers(1, 400))
def test_a_higher_price_is_never_drawn_lower(prices: FloatArray, panel: int) -> None:
    slots = slots_of(prices)
    rows = np.empty((1, geometry.PLANES, WINDOW), dtype=np.int32)
    geometry.measure(
        *(read_only(c) for c in (slots.open, slots.high, slots.low, slots.close, slots.volume)),
        np.empty((1, 0, WINDOW)),
        False,
        read_only(np.zeros(1, np.int64)),
        read_only(np.empty((0, 0), np.bool_)),
        panel,
        0,
        rows,
        np.empty((1, 0, WINDOW), np.int32),
    )
    columns = (slots.open, slots.high, slots.low, slots.close)
    price = np.concatenate([column[:WINDOW] for column in columns])
    row = rows[0, [geometry.OPEN, geometry.HIGH, geometry.LOW, geometry.CLOSE]].ravel()
    order = np.argsort(price, kind="stable")
    assert (np.diff(row[order]) <= 0).all()
    assert row.min() >= 0
    assert row.max() <= panel - 1
    if price.max() > price.min():
        assert row[price.argmax()] == 0
        assert row[price.argmin()] == panel - 1


@every_style
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_missing_and_hidden_slots_are_blank(style: ChartStyle, data: st.DataObject) -> None:
    prices = data.draw(price_tables(1.0, 100.0))
    gone = data.draw(st.sets(st.integers(0, WINDOW - 1), min_size=1))
    slots = slots_of(prices)
    visible = np.ones((1, WINDOW), dtype=np.bool_)
    visible[0, list(gone)] = False
    hidden = render_windows(slots, style, [0], window=WINDOW, visible=visible)[0]
    for column in (slots.open, slots.high, slots.low, slots.close, slots.volume):
        column[list(gone)] = np.nan
    missing = render_windows(slots, style, [0], window=WINDOW)[0]
    np.testing.assert_array_equal(hidden, missing)
    shape = image_shape(style, WINDOW)
    edges = np.arange(WINDOW + 1) * shape[1] // WINDOW
    background = missing[-1, -1] if style.kind == "ohlc4" else (0 if style.kind == "jkx" else 255)
    for slot in gone:
        assert (missing[:, edges[slot] : edges[slot + 1]] == background).all()


@every_style
def test_nothing_to_draw_is_background(style: ChartStyle) -> None:
    slots = slots_of(np.full((WINDOW, 4), np.nan), np.full(WINDOW, np.nan))
    assert len(np.unique(draw(slots, style))) == 1


@every_style
def test_candles_before_the_window_change_only_the_averages(
    style: ChartStyle, make_series: Callable[..., CandleSeries]
) -> None:
    series = make_series(40)
    bars_only = style.model_copy(update={"moving_averages": ()})
    late = CandleSeries.from_numpy(
        {name: column[20:] for name, column in series.to_numpy().items()},
        symbol="TEST",
        interval="1h",
    )
    np.testing.assert_array_equal(
        render(series, bars_only, window=WINDOW, start=20, count=1),
        render(late, bars_only, window=WINDOW, count=1),
    )
    if style.average_lengths(WINDOW):
        assert (
            render(series, style, window=WINDOW, start=20, count=1)
            != render(late, style, window=WINDOW, count=1)
        ).any()


def test_a_broken_candle_is_not_drawn() -> None:
    """Hand-made slots may break the rules that a CandleSeries keeps; memory stays safe."""
    slots = slots_of(np.full((WINDOW, 4), 5.0))
    slots.high[2] = 1.0
    slots.open[3] = np.inf
    slots.volume[4] = np.inf
    slots.volume[5] = np.nan
    picture = draw(slots, ChartStyle(kind="jkx"))[0]
    assert (picture[:, 6:18] == 0).all()
    assert (picture[:, :6] == 255).any()
    assert (picture[:, 18:] == 255).any()
