"""Bits and back, and pictures that go past the cache: the same pixels every way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.candles.series import CandleSeries
from candlemark.charts.packed import pack, packed_shape, unpack
from candlemark.charts.render import Renderer, render_packed, render_windows
from candlemark.charts.style import ChartStyle, levels
from candlemark.charts.vectors import STREAM_FROM_BYTES
from candlemark.errors import ChartError

MakeSeries = Callable[..., CandleSeries]


def test_a_byte_holds_eight_rows_of_a_column() -> None:
    picture = np.full((1, 10, 3), 255, np.uint8)
    picture[0, 0, 0] = picture[0, 7, 1] = picture[0, 9, 2] = 0
    assert packed_shape((10, 3)) == (2, 3)
    packed = pack(picture, ink=0)
    assert packed.tolist() == [[[0b00000001, 0b10000000, 0], [0, 0, 0b00000010]]]
    np.testing.assert_array_equal(unpack(packed, 10, paper=255, ink=0), picture)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 5),
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    paper=st.integers(0, 255),
    offset=st.integers(0, 63),
    threads=st.integers(1, 3),
)
def test_unpacking_is_what_numpy_says(  # noqa: PLR0917 -- as drawn
    seed: int, count: int, height: int, width: int, paper: int, offset: int, threads: int
) -> None:
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2, (count, height, width), dtype=np.uint8)
    packed = np.packbits(bits, axis=1, bitorder="little")
    ink = 255 - paper if paper != 127 else 0
    room = np.full(count * height * width + 128, 77, np.uint8)
    out = room[offset : offset + bits.size].reshape(bits.shape)
    unpack(packed, height, paper=paper, ink=ink, out=out, threads=threads)
    np.testing.assert_array_equal(out, np.where(bits == 1, ink, paper))
    assert (room[:offset] == 77).all()
    assert (room[offset + bits.size :] == 77).all()
    np.testing.assert_array_equal(pack(out, ink), packed)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_pictures_drawn_packed_are_the_pictures_drawn(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["ohlc4", "jkx"]))
    window = data.draw(st.integers(1, 24))
    unit = {"ohlc4": 4, "jkx": 3}[kind]
    style = ChartStyle(
        kind=kind,
        theme=data.draw(st.sampled_from(["light", "dark"])),
        height=data.draw(st.integers(24, 200)),
        width=unit * window + data.draw(st.integers(0, 2 * unit * window)),
        moving_averages=() if kind == "ohlc4" else data.draw(st.sampled_from([(), (3,), (2, 9)])),
    )
    slots = _series(data.draw(st.integers(0, 1000)), missing=[5, 6, 20]).slots
    starts = np.array(data.draw(st.lists(st.integers(0, 80 - window), max_size=6)), np.int64)
    paper, ink = levels(style)
    pictures = render_windows(slots, style, starts, window=window)
    packed = render_packed(slots, style, starts, window=window, threads=2)
    np.testing.assert_array_equal(packed, pack(pictures, ink))
    height = pictures.shape[1]
    np.testing.assert_array_equal(unpack(packed, height, paper=paper, ink=ink), pictures)


@pytest.mark.parametrize("kind", ["ohlc4", "jkx", "candlestick"])
@pytest.mark.parametrize("offset", [0, 1, 16, 40])
@pytest.mark.parametrize("width", [None, 131])
def test_pictures_past_the_cache_are_the_same(
    make_series: MakeSeries, kind: str, offset: int, width: int | None
) -> None:
    """Large batches are streamed and small ones are not, at any alignment and on any threads."""
    series = make_series(400, missing=[30, 31, 200])
    renderer = Renderer(series.slots, kind, window=20, width=width)
    count = STREAM_FROM_BYTES // int(np.prod(renderer.shape)) + 7
    starts = np.arange(count) * 7 % 380
    room = np.full(count * int(np.prod(renderer.shape)) + 128, 77, np.uint8)
    out = room[offset : offset + room.size - 128].reshape(count, *renderer.shape)
    assert out.nbytes >= STREAM_FROM_BYTES
    renderer.draw(starts, out=out, threads=3)
    for begin in range(0, count, 50):
        small = renderer.draw(starts[begin : begin + 50])
        np.testing.assert_array_equal(out[begin : begin + 50], small)
    assert (room[:offset] == 77).all()
    assert (room[offset + out.nbytes :] == 77).all()


def test_averages_of_a_whole_series_are_those_of_its_windows(make_series: MakeSeries) -> None:
    """Once enough windows were drawn, averages are computed for all slots at once."""
    series = make_series(300, missing=[0, 40, 41, 42, 250])
    style = ChartStyle(kind="candlestick", moving_averages=(1, 7, 50))
    renderer = Renderer(series.slots, style, window=30)
    starts = np.arange(0, 270, 13)
    first = renderer.draw(starts[:3])
    assert len(renderer._means) == 0
    everything = renderer.draw(starts)
    assert len(renderer._means) == 1
    np.testing.assert_array_equal(everything[:3], first)
    hidden = np.ones((len(starts), 30), np.bool_)
    np.testing.assert_array_equal(renderer.draw(starts, visible=hidden), everything)


def test_prices_too_large_to_sum_are_averaged_window_by_window(make_series: MakeSeries) -> None:
    series = make_series(60)
    columns = {name: np.array(getattr(series.slots, name)) for name in ("open", "high", "low")}
    huge = type(series.slots)(
        start_ms=0,
        interval_ms=1000,
        close=np.array(series.slots.close) * 2.0**1000,
        volume=np.array(series.slots.volume),
        **{name: column * 2.0**1000 for name, column in columns.items()},
    )
    starts = np.arange(40)
    renderer = Renderer(huge, "jkx", window=20)
    expected = render_windows(series.slots, "jkx", starts, window=20)
    for _ in range(3):
        np.testing.assert_array_equal(renderer.draw(starts), expected)
    assert len(renderer._means) == 0


def test_colours_cannot_be_packed(make_series: MakeSeries) -> None:
    slots = make_series(40).slots
    with pytest.raises(ChartError, match="more than two levels; only ohlc4 and jkx can be packed"):
        render_packed(slots, "candlestick", [0], window=20)
    with pytest.raises(ChartError, match="candlestick is drawn in colour"):
        levels(ChartStyle(kind="candlestick"))


def test_bits_of_another_height_are_refused() -> None:
    with pytest.raises(ChartError, match=r"shape \(1, 2, 3\); 17 rows need uint8 \(N, 3, W\)"):
        unpack(np.zeros((1, 2, 3), np.uint8), 17, paper=0, ink=255)


def _series(seed: int, missing: list[int]) -> CandleSeries:
    random = np.random.default_rng(seed)
    keep = np.setdiff1d(np.arange(80), missing)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 80)))
    open_ = np.roll(close, 1)
    columns = {
        "open_time_ms": keep * 3_600_000,
        "open": open_[keep],
        "high": (np.maximum(open_, close) * (1 + random.random(80) / 100))[keep],
        "low": (np.minimum(open_, close) * (1 - random.random(80) / 100))[keep],
        "close": close[keep],
        "volume": random.lognormal(3, 1, 80)[keep],
    }
    return CandleSeries.from_numpy(columns, symbol="WALK", interval="1h")
