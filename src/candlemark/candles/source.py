"""One door to every source of candles: archive, API, file or synthetic market.

    series = load_candles("BTCUSDT", interval="1h", period="7days")
    series = load_candles("prices.csv")
    series = load_candles("random_walk")

A `CandlesConfig` is the same as a complete, repeatable description: `resolve` works out
"the last seven days" once, as absolute times, and `load` always gives the same candles for a
resolved config.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from candlemark.candles.archive import PUBLIC_URL, Archive
from candlemark.candles.archive_files import check_symbol
from candlemark.candles.dates import parse_date, parse_period, parse_range, to_iso
from candlemark.candles.fetch import Fetcher
from candlemark.candles.files import is_file_name, read_file, symbol_of
from candlemark.candles.raw import RawCandles, infer_interval
from candlemark.candles.rest import REST_URLS, RestClient
from candlemark.candles.series import INTERVAL_MS, CandleSeries, format_time, interval_ms
from candlemark.config import Config, parse
from candlemark.errors import CandleError, ConfigError, NotFoundError
from candlemark.progress import warning

if TYPE_CHECKING:
    from candlemark.candles.planted_pair import PlantedPair
    from candlemark.candles.synthetic import PlantedMarket

Market = Literal["spot", "um", "cm"]
Kind = Literal["archive", "rest", "file", "random_walk", "planted", "planted_pair"]

URL_ENVIRONMENT = "CANDLEMARK_BINANCE_URL"
DEFAULT_PERIOD = "30days"
"""What is loaded of a symbol when neither start nor period is named."""

SYNTHETIC = ("random_walk", "planted", "planted_pair")
_MISSING_WARNED = 0.5
_SYMBOLS_AT_ONCE = 4


class CandlesConfig(Config):
    """Which candles, from where, of which time.

    kind: where they come from
    symbols: one series each; a file and a synthetic market have one, named by default
    interval: "1s" to "1w"; "auto" (files only, and their default): told from the stamps
    start, end: dates (see `candlemark.candles.dates`); period: a length up to `end`, by
        default up to the newest candle there is, and 30 days if nothing is named
    market: spot, um (USD-M futures) or cm (COIN-M futures)
    base_url: a mirror, instead of CANDLEMARK_BINANCE_URL or Binance itself
    path, columns: the file, and what its columns are called where that is unusual
    count, seed: length and seed of a synthetic market
    strength: planted markets: how often the label agrees with the pattern, 0.5 to 1; with
        both facts of a `planted_pair`
    density: planted markets: share of slots that carry the pattern, 0 to 1; each of the two
    """

    kind: Kind = "archive"
    symbols: tuple[str, ...] = ()
    interval: str = "1h"
    start: str | None = None
    end: str | None = None
    period: str | None = None
    market: Market = "spot"
    base_url: str | None = None
    path: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    count: int = Field(default=4000, ge=2)
    seed: int = Field(default=0, ge=0)
    strength: float = Field(default=0.8, ge=0.5, le=1)
    density: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _tell_a_files_interval(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("kind") == "file" and "interval" not in value:
            return {**value, "interval": "auto"}
        return value

    @field_validator("interval")
    @classmethod
    def _known_interval(cls, value: str) -> str:
        if value not in INTERVAL_MS and value != "auto":
            raise ValueError(f"unknown interval; known: {', '.join(INTERVAL_MS)}")
        return value

    @field_validator("start", "end")
    @classmethod
    def _readable_date(cls, value: str | None) -> str | None:
        if value is not None:
            _as_value_error(lambda: parse_date(value))
        return value

    @field_validator("period")
    @classmethod
    def _readable_period(cls, value: str | None) -> str | None:
        if value is not None:
            _as_value_error(lambda: parse_period(value))
        return value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind in {"archive", "rest"}:
            if not self.symbols:
                raise ValueError("symbols is empty; name at least one, such as BTCUSDT")
            _as_value_error(lambda: [check_symbol(symbol) for symbol in self.symbols])
        elif len(self.symbols) > 1:
            raise ValueError(f"kind {self.kind} has one series, not {len(self.symbols)}")
        if len(set(self.symbols)) < len(self.symbols):
            raise ValueError("symbols names one symbol twice")
        if self.kind == "file" and self.path is None:
            raise ValueError("kind file needs a path")
        if self.interval == "auto" and self.kind != "file":
            raise ValueError("interval auto is for files; name one, such as 1h")
        if self.start is not None and self.period is not None:
            raise ValueError("start and period are both given; a period ends at end, name one")
        return self


def _as_value_error(check: Callable[[], object]) -> None:
    """Pydantic collects ValueErrors, so that all problems of a config are told at once."""
    try:
        check()
    except ConfigError as error:
        raise ValueError(str(error)) from error


def resolve(config: CandlesConfig) -> CandlesConfig:
    """A copy whose start and end are absolute UTC times, so that a run can be repeated.

    A synthetic market comes back as it is. Of several symbols the newest candle counts.
    Raises NotFoundError, FetchError: the newest candle cannot be found out.
    """
    if config.kind in SYNTHETIC:
        return config
    if config.kind == "file":
        series = _load_file(config)
        start_ms, end_ms = int(series.open_time_ms[0]), _end_ms(series)
        update: dict[str, Any] = {"interval": series.interval, "symbols": (series.symbol,)}
    else:
        start, end = parse_range(config.start, config.end)
        end_ms = _newest_ms(config) if end is None else end
        period = config.period or (DEFAULT_PERIOD if start is None else None)
        start_ms = start if start is not None else end_ms - parse_period(period or DEFAULT_PERIOD)
        if start_ms >= end_ms:
            raise NotFoundError(
                f"start '{config.start}' lies after the newest candle of "
                f"{', '.join(config.symbols)}, which ends {format_time(end_ms)} UTC"
            )
        update = {"symbols": tuple(check_symbol(symbol) for symbol in config.symbols)}
    times = {"start": to_iso(start_ms), "end": to_iso(end_ms), "period": None}
    return config.model_copy(update={**update, **times})


def load(config: CandlesConfig, *, refresh: bool = False) -> list[CandleSeries]:
    """The candles of every symbol, in the config's order; archive files all at once.

    refresh: ask the archive again what it publishes of what is in the cache

    Raises NotFoundError, FetchError, ChecksumError, RateLimitError: they cannot be had.
    CandleError: they break a rule.
    """
    if config.kind == "file":
        return [_load_file(config)]
    if config.kind in SYNTHETIC:
        return [_synthetic(config)]
    config = resolve(config)
    start_ms, end_ms = parse_range(config.start, config.end)
    if start_ms is None or end_ms is None:
        raise ConfigError("candles have no start or end")
    with open_fetcher(config) as fetcher:
        found = _fetch(config, fetcher, start_ms, end_ms, refresh=refresh)
        return [
            raw.to_series(symbol=symbol, interval=config.interval)
            for symbol, raw in zip(config.symbols, found, strict=True)
        ]


def load_candles(
    source: str | Path,
    *,
    interval: str | None = None,
    start: str | None = None,
    end: str | None = None,
    period: str | None = None,
    market: Market = "spot",
    base_url: str | None = None,
    via: Literal["archive", "rest"] = "archive",
    columns: Mapping[str, str] | None = None,
) -> CandleSeries:
    """The candles of one source: a symbol, a file, or the name of a synthetic market.

    The synthetic ones are "random_walk", "planted" and "planted_pair".

        load_candles("BTCUSDT", interval="1h", start="2024-01", end="2024-03")

    interval: 1h by default; told from the stamps for a file
    start, end, period: see `CandlesConfig`; an end that is a month or day is all of it

    Raises ConfigError: an argument is wrong. NotFoundError, FetchError, ChecksumError,
    RateLimitError: the candles cannot be had. CandleError: they break a rule.
    """
    config = describe(
        source,
        interval=interval,
        start=start,
        end=end,
        period=period,
        market=market,
        base_url=base_url,
        via=via,
        columns=columns,
    )
    return load(config)[0]


def describe(
    source: str | Path,
    *,
    interval: str | None = None,
    start: str | None = None,
    end: str | None = None,
    period: str | None = None,
    market: str = "spot",
    base_url: str | None = None,
    via: str = "archive",
    columns: Mapping[str, str] | None = None,
) -> CandlesConfig:
    """The config that `load_candles` loads. Raises ConfigError."""
    text = str(source)
    values: dict[str, Any] = {
        "start": start,
        "end": end,
        "period": period,
        "market": market,
        "base_url": base_url,
        "columns": dict(columns or {}),
    }
    if interval is not None:
        values["interval"] = interval
    if text in SYNTHETIC:
        values["kind"] = text
    elif isinstance(source, Path) or is_file_name(text):
        values |= {"kind": "file", "path": text}
    else:
        values |= {"kind": via, "symbols": (text.strip().upper(),)}
    return parse(CandlesConfig, values, where="candles")


def read_raw(config: CandlesConfig) -> tuple[RawCandles, str, str]:
    """(unchecked rows in range, symbol, interval) of a file; for a look at a damaged one."""
    if config.path is None:
        raise ConfigError("no file is named")
    path = Path(config.path).expanduser()
    raw = read_file(path, columns=config.columns, market=config.market)
    interval = config.interval
    if interval == "auto":
        interval = infer_interval(raw.open_time_ms, where=path.name)
    start_ms, end_ms = parse_range(config.start, config.end)
    if config.period is not None:
        last = int(raw.open_time_ms.max()) + interval_ms(interval) if end_ms is None else end_ms
        start_ms = last - parse_period(config.period)
    chosen = raw.between(start_ms, end_ms)
    if len(chosen) == 0:
        raise NotFoundError(
            f"{path.name} has no candles in that range; it has "
            f"{format_time(int(raw.open_time_ms.min()))} to "
            f"{format_time(int(raw.open_time_ms.max()))} UTC"
        )
    symbol = config.symbols[0] if config.symbols else symbol_of(path)
    return chosen, symbol, interval


def open_fetcher(config: CandlesConfig) -> Fetcher:
    """A fetcher for the config's mirror, CANDLEMARK_BINANCE_URL, or Binance itself."""
    public = PUBLIC_URL if config.kind == "archive" else REST_URLS[config.market]
    return Fetcher(config.base_url or os.environ.get(URL_ENVIRONMENT) or public)


def _fetch(
    config: CandlesConfig, fetcher: Fetcher, start_ms: int, end_ms: int, *, refresh: bool
) -> list[RawCandles]:
    span = {"start_ms": start_ms, "end_ms": end_ms}
    if config.kind == "rest":
        client = RestClient(fetcher, market=config.market)
        return [client.load(symbol, config.interval, **span) for symbol in config.symbols]
    archive = Archive(fetcher, refresh=refresh)
    return archive.load_all(config.symbols, config.interval, **span, market=config.market)


def _newest_ms(config: CandlesConfig) -> int:
    with open_fetcher(config) as fetcher:
        if config.kind == "rest":
            client = RestClient(fetcher, market=config.market)
            return max(client.newest_ms(symbol, config.interval) for symbol in config.symbols)
        archive = Archive(fetcher)

        def newest(symbol: str) -> int:
            return archive.newest_ms(symbol, config.interval, market=config.market)

        with ThreadPoolExecutor(max_workers=min(_SYMBOLS_AT_ONCE, len(config.symbols))) as pool:
            return max(pool.map(newest, config.symbols))


def _load_file(config: CandlesConfig) -> CandleSeries:
    raw, symbol, interval = read_raw(config)
    try:
        series = raw.to_series(symbol=symbol, interval=interval)
    except CandleError as error:
        raise CandleError(
            f"{config.path}: {error}; `candlemark candles show {config.path}` counts all that is "
            "wrong; repair the file and load it again"
        ) from error
    missing = len(series.slots) - len(series)
    if missing > _MISSING_WARNED * len(series.slots):
        warning(
            f"{config.path}: {missing} of {len(series.slots)} {interval} slots have no candle; "
            "is the interval right?"
        )
    return series


def _synthetic(config: CandlesConfig) -> CandleSeries:
    from candlemark.candles import planted_pair, synthetic

    names = {"symbol": config.symbols[0]} if config.symbols else {}
    if config.kind == "random_walk":
        return synthetic.random_walk(
            config.count, interval=config.interval, seed=config.seed, **names
        )
    plant: Callable[..., PlantedMarket | PlantedPair] = (
        synthetic.planted_market if config.kind == "planted" else planted_pair.planted_pair
    )
    market = plant(
        config.count,
        interval=config.interval,
        seed=config.seed,
        strength=config.strength,
        density=config.density,
        **names,
    )
    return market.candles


def _end_ms(series: CandleSeries) -> int:
    return int(series.open_time_ms[-1]) + series.interval_ms
