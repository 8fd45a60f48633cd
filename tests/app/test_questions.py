"""Questions bring what a model was trained on, and answers are told in words of people."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from candlemark.app import questions
from candlemark.app.questions import (
    Words,
    ask_given,
    ask_market,
    change_words,
    forecast_words,
    price_words,
)
from candlemark.benchmark.fusion.data import FusionData, caption_tokens
from candlemark.candles.source import CandlesConfig
from candlemark.config import parse
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.moment import config_of
from candlemark.errors import CandlemarkError, ConfigError, DatasetError
from candlemark.models.fusion.predictor import Answer, Predictor

Predictors = Callable[[str], Predictor]
CandleFile = Callable[..., Path]

START = "2024-01-01"


@pytest.mark.parametrize("inputs", ["both", "image", "text", "numbers"])
def test_a_market_is_asked_about_as_the_training_asked(
    inputs: Any, predictors: Predictors, candle_file: CandleFile, tmp_path: Path
) -> None:
    predictor, file = predictors(inputs), candle_file(200, missing=(120, 121))
    look = config_of(predictor.config.chart).model_dump(mode="json")
    look |= {"candles": {"kind": "file", "path": str(file)}, "label": {"name": "next_close"}}
    dataset = build_dataset(parse(DatasetConfig, look), tmp_path / "data")
    tokens = None
    if predictor.reads_text:
        tokenizer = predictor.fusion.tokenizer
        tokens = caption_tokens(dataset, tokenizer, style="window", max_tokens=128)
    rows = np.arange(0, len(dataset), 23)
    data = FusionData(
        dataset,
        rows,
        inputs=inputs,
        tokens=tokens,
        values=np.zeros(len(rows)),
        targets=dataset.targets(rows),
    )
    shown, _ = data.batch(np.arange(len(rows)))
    with torch.inference_mode():
        output = predictor.fusion.model(**predictor.fusion.prepare(shown))
    expected = output.logits.softmax(dim=-1).numpy()

    for place, row in enumerate(rows.tolist()):
        part = dataset.index.take(slice(row, row + 1))
        end = int(part.window_end_ms[0])
        asked = ask_market(predictor, str(file), at=questions.to_iso(end + 60_000))
        shares = list(asked.answer.probabilities.values())
        np.testing.assert_allclose(shares, expected[place], atol=1e-5)
        assert asked.moment is not None
        assert asked.moment.window_end_ms == end
        assert asked.answer.last_close == asked.moment.last_close
        assert asked.notes == ()


def test_what_is_told_of_a_market_is_json(predictors: Predictors, candle_file: CandleFile) -> None:
    asked = ask_market(predictors("both"), str(candle_file()), at="2024-01-05")
    told = json.loads(json.dumps(asked.to_dict(), allow_nan=False))
    assert told["symbol"] == "TEST"
    assert told["window_start"] == "2024-01-05T14:00:00Z"
    assert told["window_end"] == "2024-01-06T00:00:00Z"  # a day means its end
    assert told["text"].startswith("10 candles.")
    assert told["title"] == "TEST 1h, 2024-01-05 14:00 to 2024-01-06 00:00 UTC"
    assert set(told["probabilities"]) == {"bearish", "neutral", "bullish"}
    low, middle, high = told["next_close_low"], told["next_close"], told["next_close_high"]
    assert low < middle < high


def test_without_a_time_the_newest_candles_are_asked_about(
    predictors: Predictors, candle_file: CandleFile
) -> None:
    asked = ask_market(predictors("numbers"), str(candle_file(50)))
    assert asked.to_dict()["window_end"] == "2024-01-03T02:00:00Z"
    assert asked.text is None


def test_a_made_up_market_can_be_asked_about(predictors: Predictors) -> None:
    asked = ask_market(predictors("image"), "random_walk")
    assert asked.answer.next_close is not None
    assert asked.picture is not None
    assert asked.picture.shape == (32, 40, 3)


def test_another_interval_than_trained_on_is_noted(
    predictors: Predictors, candle_file: CandleFile
) -> None:
    asked = ask_market(predictors("image"), str(candle_file(interval="4h")))
    assert asked.notes == ("the model was trained on candles of 1h, these are 4h",)


def test_a_label_that_is_visible_is_called_recognition(
    new_predictor: Callable[..., Predictor],
) -> None:
    origin = {"label": "last_candle", "label_kind": "recognition"}
    asked = ask_market(new_predictor(inputs="numbers", origin=origin), "random_walk")
    (note,) = asked.notes
    assert "the label 'last_candle' is visible in the chart" in note


def test_a_window_that_ends_in_a_gap_has_no_price(
    predictors: Predictors, candle_file: CandleFile
) -> None:
    file = candle_file(100, missing=(40,))
    asked = ask_market(predictors("numbers"), str(file), at="2024-01-02T17:00")
    assert asked.answer.next_close is None
    assert asked.answer.log_return is not None
    assert "no price to start from" in asked.notes[0]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"at": "tomorrow"}, "'tomorrow' is not understood"),
        ({"at": "2024-02-01"}, "lies outside these candles"),
        ({"at": "2999-01-01"}, "is in the future"),
        ({"interval": "2x"}, "unknown interval"),
    ],
)
def test_questions_that_have_no_answer_are_one_line(
    question: dict[str, str], message: str, predictors: Predictors, candle_file: CandleFile
) -> None:
    with pytest.raises(CandlemarkError, match=message) as told:
        ask_market(predictors("image"), str(candle_file()), **question)
    assert "\n" not in str(told.value)


def test_a_model_that_does_not_say_how_its_charts_look_is_one_line(
    new_predictor: Callable[..., Predictor],
) -> None:
    predictor = new_predictor()
    predictor.config.chart = {"window": 10, "image_shape": [32, 40]}
    with pytest.raises(ConfigError, match="nobody can tell how its pictures were drawn"):
        ask_market(predictor, "random_walk")


@pytest.mark.parametrize("at", [None, "2024-05-31 13:00"])
def test_no_more_candles_are_loaded_than_the_window_needs(
    at: str | None,
    monkeypatch: pytest.MonkeyPatch,
    make_series: Callable[..., Any],
) -> None:
    wanted: list[CandlesConfig] = []

    def load(config: CandlesConfig) -> list[Any]:
        wanted.append(config)
        return [make_series(3)]

    monkeypatch.setattr(questions, "load", load)
    config = parse(
        DatasetConfig,
        {"window": 10, "style": {"kind": "candlestick", "moving_averages": [7]}},
    )
    candles = CandlesConfig(symbols=("BTCUSDT",), interval="4h")
    questions.load_window(candles, config, at=at)
    (asked,) = wanted
    if at is None:  # two windows, and what the average reads before them
        assert (asked.period, asked.start) == (f"{26 * 240}min", None)
    else:
        assert asked.start == "2024-05-27T05:00:00Z"
        assert asked.end == "2024-05-31T13:00:00Z"


def test_a_real_market_is_asked_about(predictors: Predictors, shared_data: Path) -> None:
    asked = ask_market(
        predictors("both"),
        "btcusdt",
        at="2024-05-20 13:30",
        base_url=(shared_data / "binance").resolve().as_uri(),
    )
    assert asked.title == "BTCUSDT 1h, 2024-05-20 03:00 to 2024-05-20 13:00 UTC"
    assert asked.answer.last_close == pytest.approx(66_936, abs=1)


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    path = tmp_path / "chart.png"
    Image.new("RGB", (80, 64), "white").save(path)
    return path


def test_a_chart_of_ones_own_is_resized_with_a_note(predictors: Predictors, chart: Path) -> None:
    asked = ask_given(predictors("image"), chart=chart, last_close=100.0)
    assert asked.title == "chart.png"
    assert asked.picture is not None
    assert asked.picture.shape == (32, 40, 3)
    assert "80 x 64 pixels and was resized to 40 x 32" in asked.notes[0]
    assert asked.answer.next_close == pytest.approx(100, rel=0.05)


def test_a_chart_and_its_text_go_together(predictors: Predictors, chart: Path) -> None:
    asked = ask_given(predictors("both"), chart=chart, text="  Price goes up. ")
    assert asked.text == "Price goes up."
    assert asked.answer.next_close is None
    alone = ask_given(predictors("text"), text="Price goes up.")
    assert alone.title == "a text"
    assert alone.picture is None


WORDS = Words(chart="--chart FILE", text="--text TEXT", market="--symbol SYMBOL")


OR_ALL = "; or give --symbol SYMBOL, and all of it is made"
EXAMPLE = "'30 candles. Price goes up, from 12 % to 88 % of its range. ...'"


@pytest.mark.parametrize(
    ("inputs", "parts", "message"),
    [
        ("both", "chart", f"a chart and a text: give --text TEXT too, such as {EXAMPLE}{OR_ALL}"),
        ("both", "text", f"a chart and a text: give --chart FILE too{OR_ALL}"),
        ("image", "chart text", "a chart and nothing else; leave out --text TEXT"),
        ("text", "chart text", "a text and nothing else; leave out --chart FILE"),
        (
            "numbers",
            "chart",
            "the numbers of candles, which no picture or text holds; give --symbol SYMBOL",
        ),
    ],
)
def test_what_is_missing_or_of_no_use_is_named(
    inputs: str, parts: str, message: str, predictors: Predictors, chart: Path
) -> None:
    with pytest.raises(ConfigError) as told:
        ask_given(
            predictors(inputs),
            chart=chart if "chart" in parts else None,
            text="Price goes up." if "text" in parts else None,
            words=WORDS,
        )
    assert str(told.value) == f"this model reads {message}"


@pytest.mark.parametrize("close", [0.0, -1.0, float("nan"), float("inf")])
def test_a_last_close_is_a_price(close: float, predictors: Predictors, chart: Path) -> None:
    with pytest.raises(ConfigError, match="a price must be above 0"):
        ask_given(predictors("image"), chart=chart, last_close=close)


def test_a_gap_names_a_time_that_can_be_asked_about(
    predictors: Predictors, candle_file: CandleFile
) -> None:
    file = candle_file(100, missing=(40, 41, 42, 43))
    with pytest.raises(DatasetError, match="with enough ends at 2024-01-02 16:00 UTC"):
        ask_market(predictors("image"), str(file), at="2024-01-02 22:00")


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (94_250.123, "94,250.1"),
        (1_234_567.8, "1,234,568"),
        (212.18811, "212.188"),
        (1.0, "1.00000"),
        (0.000123456, "0.000123456"),
        (1e-30, "0.000000000000"),
        (1.0479e300, "1.0479e+300"),
    ],
)
def test_prices_have_six_digits(price: float, words: str) -> None:
    assert price_words(price) == words


def test_a_market_that_is_made_up_goes_by_either_name(predictors: Predictors) -> None:
    names = ("random_walk", "RANDOM_WALK")  # as it is asked for, and as its candles are called
    one, other = (ask_market(predictors("numbers"), name, interval="1h") for name in names)
    assert one.to_dict() == other.to_dict()
    assert one.moment is not None
    assert questions.market_name(one.moment.symbol) == "random_walk"
    assert questions.market_name("BTCUSDT") == "BTCUSDT"


@pytest.mark.parametrize(
    ("log_return", "words"),
    [(0.0, "+0.00 %"), (-1e-9, "+0.00 %"), (0.01, "+1.01 %"), (-0.7, "-50.34 %")],
)
def test_changes_are_simple_returns_with_a_sign(log_return: float, words: str) -> None:
    assert change_words(log_return) == words


INTERVAL: dict[str, Any] = {"log_return_low": -0.01, "log_return_high": 0.02, "level": 0.9}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"forecast_reason": "nobody knows"}, "no forecast: nobody knows"),
        (
            {"log_return": 0.01, "interval_reason": "7 cases"},
            "next close +1.01 %; no interval: 7 cases",
        ),
        (
            {"log_return": 0.01, **INTERVAL},
            "next close +1.01 %; -1.00 % to +2.02 % in 90 % of cases",
        ),
        (
            {
                "log_return": 0.01,
                **INTERVAL,
                "next_close": 101.005,
                "next_close_low": 99.005,
                "next_close_high": 102.02,
            },
            "next close 101.005 (+1.01 %); 99.0050 to 102.020 in 90 % of cases",
        ),
    ],
)
def test_a_forecast_is_one_line(fields: dict[str, Any], words: str) -> None:
    assert forecast_words(Answer(probabilities={"up": 1.0}, **fields)) == words
