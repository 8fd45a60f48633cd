"""The real archives beside a checkout: units, headers, holes and outages as Binance left them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlemark.candles.mirror import Mirror
from candlemark.candles.series import format_time
from candlemark.candles.source import load_candles
from candlemark.candles.summary import summarise


@pytest.fixture(scope="session")
def url(shared_data: Path) -> str:
    return (shared_data / "binance").resolve().as_uri()


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_hours_across_the_change_of_unit_and_a_hole(url: str, symbol: str, messages: Any) -> None:
    started = time.perf_counter()
    series = load_candles(symbol, start="2022-01", end="2025-05", base_url=url)
    assert time.perf_counter() - started < 5
    assert len(series) == 21_167 + 5_088
    assert [(format_time(gap.start_ms), gap.slot_count) for gap in series.gaps] == [
        ("2023-03-24 13:00", 1),
        ("2024-06-01 00:00", 153 * 24),
    ]
    assert messages.warnings == [
        (
            f"{symbol} 1h: the archive has no file for 2024-06 to 2024-10; "
            "these candles are carried as gaps"
        )
    ]
    change = np.searchsorted(series.open_time_ms, 1_735_689_600_000)
    assert np.diff(series.open_time_ms[change - 2 : change + 2]).tolist() == [3_600_000] * 3


def test_the_period_before_the_newest_candle(url: str) -> None:
    series = load_candles("BTCUSDT", period="7days", base_url=url)
    assert len(series) == 168
    assert format_time(int(series.open_time_ms[-1])) == "2025-05-31 23:00"


def test_an_outage_day_has_a_gap_and_untraded_minutes(url: str) -> None:
    series = load_candles(
        "BTCUSDT", interval="1m", start="2023-03-24", end="2023-03-24", base_url=url
    )
    report = summarise(series)
    assert (report.count, report.slot_count) == (1360, 1440)
    assert [(format_time(gap.start_ms), gap.slot_count) for gap in report.gaps] == [
        ("2023-03-24 12:40", 80)
    ]
    assert sum(run.slot_count for run in report.zero_volume_runs) == 72
    assert report.ok


def test_days_stand_in_for_a_month(url: str) -> None:
    series = load_candles("BTCUSDT", interval="1m", start="2022-01", end="2022-01", base_url=url)
    assert len(series) == 14 * 1440


def test_futures_with_a_header_line_in_milliseconds(url: str) -> None:
    series = load_candles(
        "AVAXUSDT", interval="1m", start="2025-02", end="2025-02", market="um", base_url=url
    )
    assert len(series) == 28 * 1440
    assert (series.open[0], series.close[0], series.volume[0]) == (34.422, 34.36, 9896)


def test_folder_server_and_api_agree(url: str, shared_data: Path) -> None:
    from_folder = load_candles("BTCUSDT", start="2024-12", end="2025-01", base_url=url)
    with Mirror(shared_data / "binance") as mirror:
        for via in ("archive", "rest"):
            served = load_candles(
                "BTCUSDT", start="2024-12", end="2025-01", base_url=mirror.url, via=via
            )
            for name, column in from_folder.to_numpy().items():
                assert np.array_equal(column, served.to_numpy()[name]), (via, name)
