"""Questions that people ask a fusion model, and its answers in words.

    asked = ask_market(predictor, "BTCUSDT", at="2024-05-31 13:00")
    asked = ask_given(predictor, chart="chart.png", text="30 candles. Price goes up, ...")
    asked.answer.probabilities, forecast_words(asked.answer), asked.notes

A question about a market needs nothing but its name and a time: candles are loaded, drawn and
described as those that the model was trained on. A chart of one's own comes with its text,
where the model reads one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlemark.candles.dates import parse_range, to_iso
from candlemark.candles.series import CandleSeries, format_time, interval_ms
from candlemark.candles.source import SYNTHETIC, CandlesConfig, describe, load
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.moment import Moment, config_of, moment
from candlemark.errors import ConfigError

if TYPE_CHECKING:
    from candlemark.models.fusion.predictor import Answer, Predictor, UInt8Array

DEFAULT_INTERVAL = "1h"

EXAMPLE_TEXT = "30 candles. Price goes up, from 12 % to 88 % of its range. ..."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """A question and what was answered.

    picture: what the model looked at, uint8 (H, W) or (H, W, 3); text: what it read; None
        where it did neither
    moment: None where the question was not about a market
    notes: what one should know of this answer, a sentence each
    """

    answer: Answer
    title: str
    picture: UInt8Array | None
    text: str | None
    moment: Moment | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON types; pictures are left out."""
        about: dict[str, Any] = {}
        if self.moment is not None:
            about = {
                "symbol": self.moment.symbol,
                "interval": self.moment.interval,
                "window_start": to_iso(self.moment.window_start_ms),
                "window_end": to_iso(self.moment.window_end_ms),
            }
        return {
            "title": self.title,
            **about,
            "text": self.text,
            **self.answer.to_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What is given where the question is typed."""

    chart: str = "a chart"
    text: str = "a text"
    market: str = "a symbol"


def ask_market(
    predictor: Predictor,
    source: str,
    *,
    interval: str | None = None,
    at: str | None = None,
    market: str = "spot",
    base_url: str | None = None,
    via: str = "archive",
) -> Asked:
    """What the model says of a market, as it was at one time.

    source: a symbol, a file of candles, or a synthetic market
    interval: None: the one that the model was trained on
    at: a date as people write it, in UTC; a day or a month means its end. None: the newest

    Raises ConfigError: the time or the interval is not understood. FetchError and its kinds:
    the candles cannot be had. DatasetError: there is no such window. ModelError: the model
    keeps too little of how its charts were drawn.
    """
    source = market_name(source)
    config = config_of(predictor.config.chart)
    trained_on = known_interval(predictor.config)
    series = load_window(
        describe(
            source,
            interval=interval or (None if _tells_itself(source) else trained_on),
            market=market,
            base_url=base_url,
            via=via,
        ),
        config,
        at=at,
    )
    at_ms = None if at is None else parse_range(None, at)[1]
    caption = predictor.config.caption if predictor.reads_text else None
    seen = moment(series, config, caption=caption, at_ms=at_ms)
    (answer,) = predictor.predict(
        images=seen.image[None] if predictor.reads_image else None,
        texts=[seen.caption] if seen.caption is not None else None,
        numbers=seen.features[None] if predictor.reads_numbers else None,
        last_close=[seen.last_close],
    )
    notes = []
    if trained_on is not None and series.interval != trained_on:
        notes.append(
            f"the model was trained on candles of {trained_on}, these are {series.interval}"
        )
    if seen.last_close is None:
        notes.append(
            "the last slot of the window has no candle, so there is no price to start from"
        )
    return Asked(
        answer=answer,
        title=f"{seen.symbol} {seen.interval}, {format_time(seen.window_start_ms)} to "
        f"{format_time(seen.window_end_ms)} UTC",
        picture=seen.image,
        text=seen.caption,
        moment=seen,
        notes=(*notes, *notes_of(predictor.config)),
    )


def ask_given(
    predictor: Predictor,
    *,
    chart: str | Path | None = None,
    text: str | None = None,
    last_close: float | None = None,
    words: Words = Words(),
) -> Asked:
    """What the model says of a chart, a text or both.

    chart: a picture file; another size than the model's is resized, with a note
    last_close: so that the answer holds a price; without one it is a change in per cent

    Raises ModelError: the picture cannot be read, or the text is longer than the model reads.
    ConfigError: something that this model reads is missing, or it has no use for it.
    """
    from candlemark.models.fusion.predictor import fit_picture, read_picture, shown_name

    text = text.strip() if text is not None else None
    _check_parts(predictor, chart is not None, bool(text), words)
    notes: list[str] = []
    picture = None
    if chart is not None:
        picture, note = fit_picture(
            read_picture(chart), predictor.image_shape, grey=predictor.is_grey
        )
        notes += [note] if note else []
    if last_close is not None and not 0 < last_close < math.inf:
        raise ConfigError(f"the last close is {last_close:g}; a price must be above 0 and finite")
    (answer,) = predictor.predict(
        images=None if picture is None else picture[None],
        texts=[text] if text else None,
        last_close=[last_close],
    )
    return Asked(
        answer=answer,
        title=shown_name(chart) if chart is not None else "a text",
        picture=picture,
        text=text or None,
        moment=None,
        notes=(*notes, *notes_of(predictor.config)),
    )


def _check_parts(predictor: Predictor, has_chart: bool, has_text: bool, words: Words) -> None:
    """ConfigError unless a chart and a text are there exactly where the model reads them."""
    if predictor.reads_numbers:
        raise ConfigError(
            "this model reads the numbers of candles, which no picture or text holds; give "
            f"{words.market}"
        )
    parts = (
        ("a chart", words.chart, predictor.reads_image, has_chart),
        ("a text", words.text, predictor.reads_text, has_text),
    )
    reads = " and ".join(name for name, _, read, _ in parts if read)
    for name, typed, read, there in parts:
        if there and not read:
            raise ConfigError(f"this model reads {reads} and nothing else; leave out {typed}")
        if read and not there:
            example = f", such as '{EXAMPLE_TEXT}'" if name == "a text" else ""
            raise ConfigError(
                f"this model reads {reads}: give {typed} too{example}; or give {words.market}, "
                "and all of it is made"
            )


def load_window(
    candles: CandlesConfig, config: DatasetConfig, *, at: str | None = None
) -> CandleSeries:
    """Candles for the window that ends at a time, with what its moving averages read.

    A window's length more is loaded, so that an error can name an earlier window. Files and
    synthetic markets are loaded whole.
    """
    if candles.kind in {"archive", "rest"}:
        slots = 2 * config.window + config.history
        span_ms = slots * interval_ms(candles.interval)
        end_ms = parse_range(None, at)[1] if at is not None else None
        times: dict[str, Any] = {"period": f"{-(-span_ms // 60_000)}min"}
        if end_ms is not None:
            times = {"start": to_iso(end_ms - span_ms), "end": to_iso(end_ms)}
        candles = candles.model_copy(update=times)
    return load(candles)[0]


def known_interval(config: Any) -> str | None:
    """The interval that a model was trained on, as far as its config tells."""
    for place in (config.chart, config.origin):
        if place.get("interval"):
            return str(place["interval"])
    return None


def known_symbols(config: Any) -> tuple[str, ...]:
    """The symbols that a model was trained on, as far as its config tells."""
    return tuple(market_name(symbol) for symbol in config.origin.get("symbols") or ())


def market_name(source: str) -> str:
    """The name to load a market by: candles of made-up ones are called in capitals."""
    return source.lower() if source.lower() in SYNTHETIC else source


def notes_of(config: Any) -> tuple[str, ...]:
    """What holds for every answer of a model: that its label is visible, that it knows nothing."""
    notes = []
    origin: Mapping[str, Any] = config.origin
    if origin.get("label_kind") == "recognition":
        notes.append(
            f"the label '{origin.get('label')}' is visible in the chart: naming it is "
            "recognition and forecasts nothing"
        )
    return tuple(notes)


def forecast_words(answer: Answer) -> str:
    """The next close in one line: a price where there is one, else a change in per cent."""
    if answer.log_return is None:
        return f"no forecast: {answer.forecast_reason}"
    if answer.next_close is not None:
        said = f"next close {price_words(answer.next_close)} ({change_words(answer.log_return)})"
    else:
        said = f"next close {change_words(answer.log_return)}"
    ends = interval_words(answer)
    return f"{said}; {ends}" if ends else f"{said}; no interval: {answer.interval_reason}"


def interval_words(answer: Answer) -> str | None:
    """The interval as prices or as changes: "70,699 to 72,235 in 90 % of cases"."""
    low, high, words = answer.next_close_low, answer.next_close_high, price_words
    if low is None or high is None:
        low, high, words = answer.log_return_low, answer.log_return_high, change_words
    if low is None or high is None or answer.level is None:
        return None
    return f"{words(low)} to {words(high)} in {100 * answer.level:.4g} % of cases"


def price_words(number: float) -> str:
    """A price, with six digits, or all before the point: 94,250.1, 0.000123456, 1e+30."""
    if number >= 1e15:
        return f"{number:.6g}"
    whole = math.floor(math.log10(number)) if number > 0 else 0
    return f"{number:,.{min(max(5 - whole, 0), 12)}f}"


def change_words(number: float) -> str:
    """A log return, as people read it: +0.12 %."""
    return f"{100 * math.expm1(number):+z.2f} %"


def _tells_itself(source: str) -> bool:
    """Whether the source is a file, whose stamps tell its interval."""
    from candlemark.candles.files import is_file_name

    return is_file_name(source)
