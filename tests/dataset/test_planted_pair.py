"""Each of the two planted facts is told in one place: the picture or the caption, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlemark.candles.planted_pair import VOLUME_STEP, PlantedPair, planted_pair
from candlemark.candles.series import CandleSeries
from candlemark.config import parse
from candlemark.dataset.build import build_dataset
from candlemark.dataset.captions import captions
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset

WINDOW = 24
WITHOUT_VOLUME: dict[str, dict[str, Any]] = {
    "ohlc4": {"kind": "ohlc4", "height": 64},
    "jkx": {"kind": "jkx", "height": 64, "volume": False},
    "candlestick": {"kind": "candlestick", "height": 96, "width": 96, "moving_averages": [5]},
}

Place = Callable[[str], tuple[PlantedPair, Dataset]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    def make(style: str) -> tuple[PlantedPair, Dataset]:
        settings = {"kind": "planted_pair", "count": 400, "strength": 0.9, "density": 0.9}
        config = parse(
            DatasetConfig,
            {
                "candles": settings,
                "window": WINDOW,
                "label": {"name": "direction"},
                "style": WITHOUT_VOLUME[style],
            },
        )
        market = planted_pair(400, strength=0.9, density=0.9)
        return market, build_dataset(config, tmp_path / style)

    return make


def over(dataset: Dataset, series: CandleSeries) -> Dataset:
    """The same windows over other candles."""
    return Dataset(dataset.path, dataset.manifest, dataset.index, [series])


def with_other_volume(series: CandleSeries, slot: int, fact: int) -> CandleSeries:
    """The candle's volume, from heavy to light or back; from nothing to heavy."""
    volume = series.volume.copy()
    volume[slot] *= VOLUME_STEP ** (-2.0 * fact or 1.0)
    return replace(series, volume=volume)


def with_other_shape(series: CandleSeries, slot: int) -> CandleSeries:
    """The candle's shadows exchanged: a hammer is a shooting star then."""
    high, low = series.high.copy(), series.low.copy()
    top = max(series.open[slot], series.close[slot])
    bottom = min(series.open[slot], series.close[slot])
    high[slot], low[slot] = top * bottom / low[slot], bottom * top / high[slot]
    return replace(series, high=high, low=low)


@pytest.mark.parametrize("style", WITHOUT_VOLUME)
def test_the_last_volume_is_in_the_caption_and_not_in_the_picture(place: Place, style: str) -> None:
    market, dataset = place(style)
    series = dataset.series[0]
    assert np.array_equal(series.volume, market.candles.volume)
    for row in range(0, len(dataset), 12):
        last = int(dataset.index.start_slot[row]) + WINDOW - 1
        fact = int(market.volume_fact[last])
        other = over(dataset, with_other_volume(series, last, fact))
        assert other.images([row]).tobytes() == dataset.images([row]).tobytes()
        (before,), (after,) = (captions(d, [row], style="classic") for d in (dataset, other))
        assert digits_of_volume(before) == {-1: 3, 0: 4, 1: 5}[fact]
        assert digits_of_volume(after) == {-1: 5, 0: 5, 1: 3}[fact]
        assert before.partition("volume")[0] == after.partition("volume")[0]


@pytest.mark.parametrize("style", WITHOUT_VOLUME)
def test_no_volume_at_all_is_in_the_picture(place: Place, style: str) -> None:
    _, dataset = place(style)
    series = dataset.series[0]
    random = np.random.default_rng(0)
    other = over(dataset, replace(series, volume=random.lognormal(5, 4, len(series))))
    rows = np.arange(len(dataset))
    assert other.images(rows).tobytes() == dataset.images(rows).tobytes()


@pytest.mark.parametrize("style", WITHOUT_VOLUME)
def test_the_shape_before_is_in_the_picture_and_not_in_the_caption(
    place: Place, style: str
) -> None:
    market, dataset = place(style)
    series = dataset.series[0]
    rows = range(0, len(dataset), 12)
    for row in rows:
        before_last = int(dataset.index.start_slot[row]) + WINDOW - 2
        other = over(dataset, with_other_shape(series, before_last))
        assert captions(other, [row], style="classic") == captions(dataset, [row], style="classic")
        if market.shape_fact[before_last]:
            changed = (other.images([row]) != dataset.images([row])).sum()
            assert changed >= WINDOW / 2  # the candle itself, be it one column, is long


def test_nothing_before_the_last_candle_is_in_the_caption(place: Place) -> None:
    _, dataset = place("ohlc4")
    series, random = dataset.series[0], np.random.default_rng(0)
    row = 100
    last = int(dataset.index.start_slot[row]) + WINDOW - 1
    factor = random.lognormal(0, 1, len(series))
    factor[last] = 1.0
    columns = {
        name: getattr(series, name) * factor for name in ("open", "high", "low", "close", "volume")
    }
    other = over(dataset, replace(series, **columns))
    assert captions(other, [row], style="classic") == captions(dataset, [row], style="classic")


def test_the_shape_can_be_read_off_the_pixels(place: Place) -> None:
    """At a height of 64: how far the bar of the last candle but one stands over its ticks."""
    market, dataset = place("ohlc4")
    ink = dataset.images(np.arange(len(dataset)))[:, :, 4 * (WINDOW - 2) :][:, :, :3] == 0
    rows = np.arange(ink.shape[1])[:, None]
    top = np.where(ink, rows, 99).min(axis=1)  # of the open tick, the bar and the close tick
    bottom = np.where(ink, rows, -1).max(axis=1)
    above = top[:, [0, 2]].min(axis=1) - top[:, 1]
    below = bottom[:, 1] - bottom[:, [0, 2]].max(axis=1)
    fact = market.shape_fact[dataset.index.start_slot + WINDOW - 2]
    longest = np.maximum(above, below)
    assert longest[fact == 0].max() < longest[fact != 0].min()
    np.testing.assert_array_equal(np.sign(below - above)[fact != 0], fact[fact != 0])


def digits_of_volume(caption: str) -> int:
    """Digits before the point; a number of more than six digits would be written otherwise."""
    number = caption.split("volume ")[1].rstrip(".")
    assert "e" not in number
    return len(number.partition(".")[0])


def test_the_neutral_class_is_where_the_facts_are_silent(place: Place) -> None:
    market, dataset = place("ohlc4")
    rows = np.arange(len(dataset))
    last = dataset.index.start_slot + WINDOW - 1
    spoken = market.volume_fact[last] + market.shape_fact[last - 1]
    np.testing.assert_array_equal(dataset.targets(rows) == 1, spoken == 0)
