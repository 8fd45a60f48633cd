from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlemark.candles.raw import RawCandles, join
from candlemark.candles.series import CandleSeries, Gap
from candlemark.candles.summary import summarise
from candlemark.candles.terminal import draw, group

Make = Callable[..., CandleSeries]
HOUR = 3_600_000


def raw(stamps: list[int], **changes: Any) -> RawCandles:
    count = len(stamps)
    values = {"open": 1.0, "high": 3.0, "low": 0.5, "close": 2.0, "volume": 5.0}
    columns = {name: np.full(count, value) for name, value in values.items()}
    columns |= {name: np.array(value, float) for name, value in changes.items()}
    return RawCandles(open_time_ms=np.array(stamps, dtype=np.int64) * HOUR, **columns)


def test_a_series_is_described_in_full(make_series: Make) -> None:
    series = make_series(20, missing=(3, 4, 9))
    report = summarise(series)
    assert report.ok
    assert (report.count, report.slot_count, report.missing_count) == (17, 20, 3)
    assert report.gaps == series.gaps
    assert report.end_ms == int(series.open_time_ms[-1]) + HOUR
    assert report.low == series.low.min()
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["start"] == "2024-01-01 00:00"


def test_every_kind_of_damage_is_counted() -> None:
    report = summarise(
        raw(
            [0, 1, 1, 5, 3],
            high=[3, 0.1, 3, 3, 1],
            volume=[5, -1, 5, np.nan, 5],
            close=[np.inf, 2, 2, 2, 2],
        ),
        symbol="X",
        interval="1h",
    )
    assert not report.ok
    assert (report.count, report.slot_count, report.missing_count) == (4, 6, 2)
    assert report.duplicate_count == 1
    assert report.unordered_count == 1
    assert report.broken == {
        "price is not a number": 1,
        "volume is not a number": 1,
        "volume is negative": 1,
        "high is below low": 1,
        "open or close lies outside low..high": 1,
    }
    json.dumps(report.to_dict(), allow_nan=False)


def test_stamps_between_slots_are_counted() -> None:
    odd = raw([0, 1, 2])
    odd.open_time_ms[1] += 1
    report = summarise(odd, symbol="X", interval="1h")
    assert (report.off_grid_count, report.ok) == (1, False)


def test_zero_volume_runs_end_at_gaps_and_at_trades() -> None:
    report = summarise(
        raw([0, 1, 2, 3, 6, 7, 8], volume=[0, 0, 5, 0, 0, 0, 5]), symbol="X", interval="1h"
    )
    assert report.zero_volume_runs == (
        Gap(start_ms=0, slot_count=2),
        Gap(start_ms=3 * HOUR, slot_count=1),
        Gap(start_ms=6 * HOUR, slot_count=2),
    )


def test_nothing_is_described_as_nothing() -> None:
    report = summarise(join([]), symbol="X", interval="1h")
    assert (report.count, report.start_ms, report.low, report.ok) == (0, None, None, False)
    json.dumps(report.to_dict(), allow_nan=False)


@given(st.sets(st.integers(0, 200), min_size=1), st.sets(st.integers(0, 200)))
def test_gaps_and_runs_account_for_every_slot(slots: set[int], untraded: set[int]) -> None:
    stamps = sorted(slots)
    some = raw(stamps, volume=[0.0 if slot in untraded else 1.0 for slot in stamps])
    report = summarise(some, symbol="X", interval="1h")
    series = some.to_series(symbol="X", interval="1h")
    assert report.ok
    assert report.gaps == series.gaps
    assert report.slot_count == len(series.slots) == stamps[-1] - stamps[0] + 1
    assert report.missing_count == int((~series.slots.present).sum())
    runs = report.zero_volume_runs
    listed = {run.start_ms // HOUR + at for run in runs for at in range(run.slot_count)}
    assert listed == slots & untraded
    ends = [run.start_ms // HOUR + run.slot_count for run in runs]
    assert all(
        end < run.start_ms // HOUR or end not in listed
        for end, run in zip(ends, runs[1:], strict=False)
    )


def chart(prices: list[tuple[float, float, float, float] | None], **size: int) -> list[str]:
    rows = [(at, row) for at, row in enumerate(prices) if row is not None]
    series = CandleSeries.from_numpy(
        {
            "open_time_ms": 1_704_067_200_000 + np.array([at for at, _ in rows]) * HOUR,
            **{
                name: [row[column] for _, row in rows]
                for column, name in enumerate(("open", "high", "low", "close"))
            },
            "volume": np.ones(len(rows)),
        },
        symbol="X",
        interval="1h",
    )
    return draw(series, **size)


def test_candles_as_text() -> None:
    lines = chart([(1.5, 3.5, 0, 2.5), None, (3.5, 4, 1.5, 2.5), (2, 2.5, 1.5, 2)], height=4)
    assert lines[:4] == [
        "4 ┤│ ░ ",
        "  ┤█ ░│",
        "  ┤█ │█",
        "0 ┤│   ",
    ]
    assert lines[4].split() == ["2024-01-01", "00:00", "2024-01-01", "03:00"]


def test_a_market_that_never_moved_is_one_line() -> None:
    lines = chart([(5, 5, 5, 5)] * 3, height=4)
    assert [line[3:] for line in lines[:4]] == ["   ", "   ", "███", "   "]


@pytest.mark.parametrize(("count", "width", "columns"), [(10, 72, 10), (100, 72, 50), (73, 1, 1)])
def test_slots_are_grouped_evenly(make_series: Make, count: int, width: int, columns: int) -> None:
    series = make_series(count)
    grouped = group(series, width)
    assert grouped.shape == (4, columns)
    assert grouped[0, 0] == series.open[0]
    assert grouped[1].max() == series.high.max()
    assert grouped[2].min() == series.low.min()
    assert grouped[3, -1] == series.close[-1]
