"""A moment is the window that a dataset would hold, or one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from candlemark import progress
from candlemark.candles.series import CandleSeries
from candlemark.dataset.captions import captions
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.moment import config_of, look_of, moment
from candlemark.errors import ConfigError, DatasetError
from candlemark.progress import Event

HOUR = 3_600_000
GAPS = (57, 58, 130, 131, 132, 133, 240)
CANDLESTICK = {"kind": "candlestick", "height": 48, "width": 48, "volume": True}
LOOKS: dict[str, dict[str, Any]] = {
    "bars": {"style": {"kind": "ohlc4", "height": 40}},
    "averages": {"style": {**CANDLESTICK, "moving_averages": [3, 15]}},
    "jkx": {"style": {"kind": "jkx"}},
    "full": {"style": {"kind": "candlestick"}, "experiment": "fullimage"},
    "hidden": {"style": {**CANDLESTICK, "moving_averages": [4]}, "experiment": "irregular"},
    "hidden otherwise": {
        "style": {"kind": "ohlc4"},
        "experiment": "irregular",
        "seed": 7,
        "missing_share": 0.3,
    },
}


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What is reported."""
    told: list[str] = []

    class Listener:
        def handle(self, event: Event) -> None:
            told.append(event.text)

    before = progress.set_reporter(Listener())
    yield told
    progress.set_reporter(before)


@pytest.mark.parametrize("caption", ["window", "classic"])
@pytest.mark.parametrize("look", LOOKS)
def test_is_what_a_dataset_of_the_same_candles_holds(
    look: str,
    caption: str,
    make_series: Callable[..., CandleSeries],
    make_dataset: Callable[..., Dataset],
) -> None:
    series = make_series(320, missing=GAPS)
    dataset = make_dataset(series=[series], max_missing=0.3, **LOOKS[look])
    rows = np.arange(len(dataset))[:: len(dataset) // 12]
    texts = captions(dataset, rows, style=caption)
    pictures, numbers = dataset.images(rows), dataset.features(rows)
    for n, row in enumerate(rows):
        part = dataset.index.take(slice(row, row + 1))
        end = int(part.window_end_ms[0])
        # Half an hour later the next candle has not closed.
        found = moment(series, dataset.config, caption=caption, at_ms=end + HOUR // 2)
        np.testing.assert_array_equal(found.image, pictures[n])
        np.testing.assert_array_equal(found.features, numbers[n])
        assert found.features.dtype == np.float32
        assert found.caption == texts[n]
        assert (found.window_start_ms, found.window_end_ms) == (part.window_start_ms[0], end)
        close = series.slots.close[int(part.start_slot[0]) + dataset.window - 1]
        assert found.last_close == (None if np.isnan(close) else close)


@pytest.mark.parametrize("look", LOOKS)
def test_needs_no_more_candles_than_window_and_history(
    look: str, make_series: Callable[..., CandleSeries], make_config: Callable[..., DatasetConfig]
) -> None:
    config = make_config(**LOOKS[look])
    series = make_series(320)
    end = int(series.open_time_ms[200]) + HOUR
    cut = series.between(end - (config.window + config.history) * HOUR, end)
    assert len(cut) == config.window + config.history
    short, whole = moment(cut, config), moment(series, config, at_ms=end)
    np.testing.assert_array_equal(short.image, whole.image)
    assert short.caption == whole.caption
    assert short.window_end_ms == end


def test_the_newest_candles_are_taken_when_no_time_is_named(
    make_series: Callable[..., CandleSeries], make_config: Callable[..., DatasetConfig]
) -> None:
    series = make_series(60)
    now = moment(series, make_config())
    assert now.window_end_ms == int(series.open_time_ms[-1]) + HOUR
    assert now.last_close == series.close[-1]
    assert moment(series, make_config(), caption=None).caption is None


def test_says_when_averages_lack_candles_before_the_window(
    make_series: Callable[..., CandleSeries],
    make_config: Callable[..., DatasetConfig],
    warnings: list[str],
) -> None:
    config = make_config(**LOOKS["averages"])
    moment(make_series(config.window + 14), config)
    assert warnings == []
    moment(make_series(config.window + 5), config)
    assert len(warnings) == 1
    assert "read 14 candles before the window, and there are 5" in warnings[0]


def test_too_few_candles_are_one_line(
    make_series: Callable[..., CandleSeries], make_config: Callable[..., DatasetConfig]
) -> None:
    with pytest.raises(DatasetError, match=r"TEST 1h has 9 candle slots, .* one window is 10"):
        moment(make_series(9), make_config())


@pytest.mark.parametrize("hours", [-1, 9, 61, 1000])
def test_a_time_outside_the_candles_is_one_line_with_the_range(
    hours: int, make_series: Callable[..., CandleSeries], make_config: Callable[..., DatasetConfig]
) -> None:
    series = make_series(60)
    with pytest.raises(DatasetError, match="from 2024-01-01 10:00 to 2024-01-03 12:00 UTC"):
        moment(series, make_config(), at_ms=int(series.open_time_ms[0]) + hours * HOUR)


def test_a_gap_names_the_last_window_that_can_be_had(
    make_series: Callable[..., CandleSeries], make_config: Callable[..., DatasetConfig]
) -> None:
    series, config = make_series(60, missing=(40, 41)), make_config()
    start = int(series.open_time_ms[0])
    with pytest.raises(DatasetError) as told:
        moment(series, config, at_ms=start + 45 * HOUR)
    assert str(told.value) == (
        "TEST 1h lacks 2 of the 10 candles up to 2024-01-02 21:00 UTC, the first at "
        "2024-01-02 16:00, and at most 1 may be missing; the last window before that with enough "
        "ends at 2024-01-02 16:00 UTC"
    )
    assert moment(series, config, at_ms=start + 40 * HOUR).last_close == series.close[39]


def test_a_window_that_ends_in_a_gap_has_no_last_close(
    make_series: Callable[..., CandleSeries], make_config: Callable[..., DatasetConfig]
) -> None:
    series = make_series(60, missing=(40, 41))
    found = moment(series, make_config(), at_ms=int(series.open_time_ms[0]) + 41 * HOUR)
    assert found.last_close is None
    assert np.isnan(found.features[-1]).all()


def test_a_gap_at_the_very_beginning_says_that_nothing_is_before_it(
    make_series: Callable[..., CandleSeries], make_config: Callable[..., DatasetConfig]
) -> None:
    with pytest.raises(DatasetError, match="no earlier window has enough"):
        moment(make_series(12, missing=(3, 4)), make_config())


def test_an_unknown_caption_style_is_named(
    make_series: Callable[..., CandleSeries], make_config: Callable[..., DatasetConfig]
) -> None:
    with pytest.raises(ConfigError, match="unknown caption style 'poem'"):
        moment(make_series(60), make_config(), caption="poem")


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_is_json_and_draws_the_same(
    look: str, make_series: Callable[..., CandleSeries], make_config: Callable[..., DatasetConfig]
) -> None:
    config = make_config(**LOOKS[look])
    kept = json.loads(json.dumps(look_of(config)))
    again = config_of({**kept, "input_shape": [48, 48]})  # a model keeps more than this
    series = make_series(80)
    np.testing.assert_array_equal(moment(series, again).image, moment(series, config).image)
    assert moment(series, again).caption == moment(series, config).caption
    assert again.max_missing == config.max_missing


def test_a_look_without_a_style_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"has no 'style', .* it has: window"):
        config_of({"window": 10})
