from __future__ import annotations

import builtins
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from candlemark.candles.series import CandleSeries, Gap, format_time, interval_ms
from candlemark.errors import CandleError, MissingExtraError

Make = Callable[..., CandleSeries]
START = 1_704_067_200_000
HOUR = 3_600_000


def columns(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "open_time_ms": START + np.arange(4) * HOUR,
        "open": [1.0, 2.0, 3.0, 4.0],
        "high": [2.0, 3.0, 4.0, 5.0],
        "low": [0.5, 1.5, 2.5, 3.5],
        "close": [1.5, 2.5, 3.5, 4.5],
        "volume": [1.0, 0.0, 2.0, 3.0],
    }
    return {**values, **changes}


def series(**changes: Any) -> CandleSeries:
    return CandleSeries.from_numpy(columns(**changes), symbol="X", interval="1h")


def same(one: CandleSeries, other: CandleSeries) -> bool:
    return all(
        np.array_equal(column, other.to_numpy()[name]) for name, column in one.to_numpy().items()
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"high": [2, 3, np.nan, 5]}, "high is not a finite number in row 2, 2024-01-01 02:00"),
        ({"close": [1.5, np.inf, 3.5, 4.5]}, "close is not a finite number in row 1"),
        ({"volume": [1, -1, -1, 0]}, "volume is negative in row 1, .* UTC .and 1 more"),
        ({"high": [0.4, 3, 4, 5]}, "high is below low in row 0"),
        ({"open": [1, 2, 3, 9]}, "open or close lies outside low..high in row 3"),
        ({"open_time_ms": START + np.array([0, 1, 1, 2]) * HOUR}, "duplicate .* in row 2"),
        ({"open_time_ms": START + np.array([0, 2, 1, 3]) * HOUR}, "earlier than .* in row 2"),
        ({"open_time_ms": START + np.array([0, HOUR, HOUR + 1, 9 * HOUR])}, "not on the 1h grid"),
        (
            {"open_time_ms": (START + np.arange(4) * HOUR) * 1000},
            "outside the years .* milliseconds",
        ),
        ({"open_time_ms": START + np.array([0, 0.5, 1, 2])}, "in row 1 is no whole millisecond"),
        ({"open_time_ms": np.array([START, np.nan, 1, 2])}, "stamp nan in row 1"),
        ({"open_time_ms": ["a", "b", "c", "d"]}, "stamps are <U1"),
        ({"open_time_ms": np.array(["NaT"] * 4, "datetime64[ms]")}, "stamp in row 0 is missing"),
        ({"low": ["a"] * 4}, "column low holds no numbers"),
        ({"low": [0.5]}, r"column low has shape \(1,\), open_time_ms \(4,\)"),
        ({name: [] for name in columns()}, "stamps are|no candles"),
    ],
)
def test_every_broken_rule_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CandleError, match=words):
        series(**changes)


def test_missing_columns_and_unknown_intervals_are_named() -> None:
    values = columns()
    del values["volume"]
    with pytest.raises(CandleError, match="X: missing columns volume"):
        CandleSeries.from_numpy(values, symbol="X", interval="1h")
    with pytest.raises(CandleError, match="unknown interval '1M'; known: 1s, 1m"):
        interval_ms("1M")


def test_gaps_are_missing_slots_and_never_filled() -> None:
    gappy = series(open_time_ms=START + np.array([0, 1, 4, 6]) * HOUR)
    assert gappy.gaps == (
        Gap(start_ms=START + 2 * HOUR, slot_count=2),
        Gap(start_ms=START + 5 * HOUR, slot_count=1),
    )
    assert len(gappy.slots) == 7
    assert gappy.slots.present.tolist() == [True, True, False, False, True, False, True]
    assert np.isnan(gappy.slots.volume[2])
    assert gappy.slots.close[4] == 3.5


def test_between_is_half_open_and_refuses_nothing_left() -> None:
    part = series().between(START + HOUR, START + 3 * HOUR)
    assert part.open_time_ms.tolist() == [START + HOUR, START + 2 * HOUR]
    with pytest.raises(CandleError, match="no candles"):
        series().between(START + 4 * HOUR)


def test_a_series_cannot_be_changed_and_leaves_the_callers_arrays_alone() -> None:
    values = {name: np.array(column) for name, column in columns().items()}
    made = CandleSeries.from_numpy(values, symbol="X", interval="1h")
    with pytest.raises(ValueError, match="read-only"):
        made.close[0] = 9
    values["close"][0] = 9
    values["open_time_ms"][0] = 0
    assert made.close[0] == 1.5
    assert made.open_time_ms[0] == START


def test_round_trips(make_series: Make) -> None:
    original = make_series(40, missing=(3, 4))
    options = {"symbol": original.symbol, "interval": original.interval}
    assert same(original, CandleSeries.from_numpy(original.to_numpy(), **options))
    assert same(original, CandleSeries.from_arrow(original.to_arrow(), **options))
    assert same(original, CandleSeries.from_pandas(original.to_pandas(), **options))
    assert same(original, pickle.loads(pickle.dumps(original)))  # noqa: S301  # made here


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_pandas_times_of_every_unit_and_zone(
    make_series: Make, unit: str, zone: str | None
) -> None:
    original = make_series(10)
    frame = original.to_pandas()
    index: Any = frame.index
    frame.index = index.as_unit(unit).tz_convert(zone)
    options = {"symbol": "TEST", "interval": "1h"}
    assert same(original, CandleSeries.from_pandas(frame, **options))
    as_column = frame.rename_axis("open_time").reset_index()
    assert same(original, CandleSeries.from_pandas(as_column, **options))


def test_a_frame_without_times_is_told(make_series: Make) -> None:
    frame = make_series(5).to_pandas().reset_index(drop=True)
    with pytest.raises(CandleError, match="missing columns open_time_ms"):
        CandleSeries.from_pandas(frame, symbol="X", interval="1h")


def test_a_frame_is_the_callers_own(make_series: Make) -> None:
    original = make_series(5)
    frame = original.to_pandas()
    before = float(original.close[0])
    frame.loc[frame.index[0], "close"] = 0.0
    assert original.close[0] == before
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert str(frame.index.tz) == "UTC"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_arrow_timestamps(make_series: Make, unit: str) -> None:
    original = make_series(10)
    stamps = pa.array(original.open_time_ms, pa.timestamp("ms", tz="UTC"))
    stamps = stamps.cast(pa.timestamp(unit, tz="UTC"))
    table = original.to_arrow().set_column(0, "open_time_ms", stamps)
    assert same(original, CandleSeries.from_arrow(table, symbol="TEST", interval="1h"))


def test_arrow_nulls_are_refused(make_series: Make) -> None:
    table = make_series(3).to_arrow()
    table = table.set_column(1, "open", pa.array([1.0, None, 2.0]))
    with pytest.raises(CandleError, match="column open has 1 empty rows"):
        CandleSeries.from_arrow(table, symbol="X", interval="1h")


def test_without_pandas_one_line_names_the_command(
    make_series: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'candlemark\[pandas\]'"):
        make_series(3).to_pandas()


def test_times_are_written_with_seconds_only_where_there_are_any() -> None:
    assert format_time(START) == "2024-01-01 00:00"
    assert format_time(START + 1000) == "2024-01-01 00:00:01"


BREAKS: dict[str, tuple[str, float]] = {
    "open is not a finite number": ("open", np.nan),
    "high is not a finite number": ("high", np.inf),
    "low is not a finite number": ("low", -np.inf),
    "close is not a finite number": ("close", -np.inf),
    "volume is not a finite number": ("volume", np.nan),
    "volume is negative": ("volume", -1e-300),
    "high is below low": ("high", 0.0),
    "open or close lies outside low..high": ("open", 1e9),
}


@pytest.mark.parametrize("row", [0, 16_383, 16_384, 16_385, 32_767, 32_768, 39_999])
@pytest.mark.parametrize("rule", [*BREAKS, "infinite volume"])
def test_no_broken_rule_hides_at_the_edge_of_a_block(make_series: Any, rule: str, row: int) -> None:
    columns = {name: column.copy() for name, column in long_series(make_series).items()}
    name, value = BREAKS.get(rule, ("volume", np.inf))
    columns[name][row] = value
    words = rule if rule in BREAKS else "volume is not a finite number"
    with pytest.raises(CandleError, match=rf"{words} in row {row}, "):
        CandleSeries.from_numpy(columns, symbol="T", interval="1h")


@pytest.mark.parametrize("row", [1, 16_383, 16_384, 16_385, 32_768, 39_999])
@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (-3_600_000, "stamp is a duplicate of the row before"),
        (-7_200_000, "stamp is earlier than the row before"),
        (1, "stamp is not on the 1h grid of the first candle"),
    ],
)
def test_no_step_hides_at_the_edge_of_a_block(
    make_series: Any, shift: int, words: str, row: int
) -> None:
    columns = {name: column.copy() for name, column in long_series(make_series).items()}
    columns["open_time_ms"][row:] += shift
    with pytest.raises(CandleError, match=rf"{words} in row {row}, "):
        CandleSeries.from_numpy(columns, symbol="T", interval="1h")


def test_gaps_at_the_edges_of_blocks_are_sound(make_series: Any) -> None:
    series = make_series(40_000, missing=(5, 16_383, 16_384, 16_385, 32_768))
    assert [gap.slot_count for gap in series.gaps] == [1, 3, 1]
    assert np.isnan(series.slots.close).sum() == 5


def long_series(make_series: Any) -> dict[str, Any]:
    return dict(make_series(40_000).to_numpy())
