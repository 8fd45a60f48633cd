from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlemark.candles.export import write
from candlemark.candles.fetch import Fetcher
from candlemark.candles.mirror import Mirror
from candlemark.candles.series import format_time
from candlemark.candles.source import CandlesConfig, describe, load, load_candles, resolve
from candlemark.config import parse
from candlemark.errors import CandleError, ConfigError, FetchError, NotFoundError


def ends(series: Any) -> tuple[str, str]:
    return format_time(int(series.open_time_ms[0])), format_time(int(series.open_time_ms[-1]))


def test_a_period_ends_at_the_newest_candle(archive_folder: Any) -> None:
    archive_folder.month(2025, 1, count=31 * 24)
    series = load_candles("btcusdt", period="7days", base_url=archive_folder.url)
    assert (series.symbol, series.interval, len(series)) == ("BTCUSDT", "1h", 7 * 24)
    assert ends(series) == ("2025-01-25 00:00", "2025-01-31 23:00")


def test_a_period_ends_at_a_named_end(archive_folder: Any) -> None:
    archive_folder.month(2025, 1, count=31 * 24)
    series = load_candles("BTCUSDT", period="12h", end="2025-01-10", base_url=archive_folder.url)
    assert ends(series) == ("2025-01-10 12:00", "2025-01-10 23:00")


def test_without_a_range_the_last_thirty_days_come(archive_folder: Any) -> None:
    archive_folder.month(2025, 1, count=31 * 24)
    assert len(load_candles("BTCUSDT", base_url=archive_folder.url)) == 30 * 24


def test_archive_and_api_agree(archive_folder: Any) -> None:
    archive_folder.month(2025, 1, count=50, per_ms=1000)
    with Mirror(archive_folder.root) as mirror:
        options: dict[str, Any] = {"start": "2025-01", "end": "2025-01", "base_url": mirror.url}
        archive = load_candles("BTCUSDT", **options)
        api = load_candles("BTCUSDT", via="rest", **options)
        newest = load_candles("BTCUSDT", via="rest", period="5h", base_url=mirror.url)
    for name, column in archive.to_numpy().items():
        assert np.array_equal(column, api.to_numpy()[name]), name
    assert ends(newest) == ("2025-01-02 21:00", "2025-01-03 01:00")


def test_the_environment_names_a_mirror(
    archive_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_folder.month(2025, 1)
    monkeypatch.setenv("CANDLEMARK_BINANCE_URL", archive_folder.url)
    assert len(load_candles("BTCUSDT", start="2025-01", end="2025-01")) == 24


def test_resolving_makes_a_run_repeatable(archive_folder: Any) -> None:
    archive_folder.month(2025, 1)
    archive_folder.month(2025, 1, symbol="ETHUSDT", count=12)
    config = CandlesConfig(symbols=("BTCUSDT", "ethusdt"), period="1d", base_url=archive_folder.url)
    resolved = resolve(config)
    assert (resolved.start, resolved.end) == ("2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z")
    assert resolved.symbols == ("BTCUSDT", "ETHUSDT")
    assert resolve(resolved) == resolved
    archive_folder.month(2025, 2)
    assert resolve(config) != resolved
    assert [len(series) for series in load(resolved)] == [24, 12]
    assert parse(CandlesConfig, resolved.model_dump(mode="json")) == resolved


def test_a_start_after_the_newest_candle_is_refused(archive_folder: Any) -> None:
    archive_folder.month(2025, 1)
    with pytest.raises(NotFoundError, match=r"'2025-03' lies after the newest .* 2025-01-02 00:00"):
        load_candles("BTCUSDT", start="2025-03", base_url=archive_folder.url)


def test_files_tell_their_own_interval(tmp_path: Path, make_series: Any) -> None:
    series = make_series(40, interval="15m", missing=(5,))
    path = tmp_path / "ETHUSDT-any.csv"
    write(series, path)
    loaded = load_candles(path)
    assert (loaded.symbol, loaded.interval, len(loaded)) == ("ETHUSDT", "15m", 39)
    assert loaded.gaps == series.gaps
    assert len(load_candles(str(path), period="1h")) == 4
    resolved = resolve(describe(path))
    assert (resolved.interval, resolved.symbols) == ("15m", ("ETHUSDT",))
    assert (resolved.start, resolved.end) == ("2024-01-01T00:00:00Z", "2024-01-01T10:00:00Z")
    assert len(load(resolved)[0]) == 39


def test_a_file_that_breaks_a_rule_names_the_next_command(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "time,open,high,low,close,volume\n" + "1704067200,1,2,0.5,1,1\n" * 2, encoding="utf-8"
    )
    with pytest.raises(CandleError, match=r"duplicate .* row 1.*`candlemark candles show .*x.csv`"):
        load_candles(path, interval="1h")
    with pytest.raises(
        NotFoundError, match=r"no candles in that range; it has 2024-01-01 00:00 to"
    ):
        load_candles(path, interval="1h", end="2020")


def test_an_interval_too_short_is_warned_of(
    tmp_path: Path, make_series: Any, messages: Any
) -> None:
    write(make_series(10), tmp_path / "x.csv")
    load_candles(tmp_path / "x.csv", interval="1m")
    assert "531 of 541 1m slots have no candle; is the interval right?" in messages.warnings[0]


@pytest.mark.parametrize("kind", ["random_walk", "planted", "planted_pair"])
def test_synthetic_markets(kind: str) -> None:
    series = load_candles(kind, interval="4h")
    assert (len(series), series.interval) == (4000, "4h")
    config = CandlesConfig(kind=kind, count=50, seed=3, symbols=("MINE",))  # type: ignore[arg-type]
    assert resolve(config) is config
    (mine,) = load(config)
    assert (mine.symbol, len(mine)) == ("MINE", 50)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("BTC/USDT", {}, "no symbol.*did you mean BTCUSDT?"),
        ("BTCUSDT", {"interval": "7h"}, "interval = '7h': unknown interval; known: 1s"),
        ("BTCUSDT", {"interval": "auto"}, "interval auto is for files"),
        ("BTCUSDT", {"start": "01/02/2024"}, "start = '01/02/2024': .*not understood; write"),
        ("BTCUSDT", {"period": "soon"}, "period = 'soon': .*write a number and a unit"),
        ("BTCUSDT", {"market": "moon"}, "market = 'moon'"),
        ("BTCUSDT", {"start": "2024", "period": "7days"}, "start and period are both given"),
        ("BTCUSDT", {"start": "2024-05", "end": "2024-01"}, "is not before end"),
        ("BTCUSDT", {"start": "2200"}, "in the future"),
        ("BTCUSDT", {"base_url": "binance"}, "base address 'binance' is not understood"),
        ("x.csv", {"columns": {"prix": "a"}}, "columns names 'prix'; known"),
    ],
)
def test_wrong_arguments_are_one_line(source: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        load_candles(source, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "symbols is empty"),
        ({"symbols": ["A1", "A1"]}, "one symbol twice"),
        ({"kind": "file"}, "kind file needs a path"),
        ({"kind": "planted", "symbols": ["A1", "B1"]}, "has one series, not 2"),
        ({"kind": "planted", "strength": 0.4}, "strength = 0.4"),
        ({"symbol": ["BTCUSDT"]}, "unknown key 'symbol'; did you mean 'symbols'?"),
    ],
)
def test_wrong_configs_are_one_line(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(CandlesConfig, values)


def test_no_server_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = functools.partial(Fetcher, sleep=lambda seconds: None)
    monkeypatch.setattr("candlemark.candles.source.Fetcher", hasty)
    with pytest.raises(FetchError, match=r"could not be fetched in 5 attempts: .*--base-url"):
        load_candles("BTCUSDT", start="2025-01", end="2025-01", base_url="http://127.0.0.1:9")
