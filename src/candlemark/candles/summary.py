"""What a series holds and what is wrong with it, before or after validation.

    report = summarise(series)
    report.count, report.gaps, report.zero_volume_runs

Unlike `CandleSeries`, which refuses a broken row, this counts every kind of damage, so that
one look at a file tells all that has to be repaired.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.candles.raw import RawCandles
from candlemark.candles.series import (
    PRICE_COLUMNS,
    CandleSeries,
    Gap,
    format_time,
    interval_ms,
)

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleSummary:
    """Range, count, gaps and damage of some candles.

    start_ms, end_ms: first open time, and the end of the last candle; None without candles
    count: candles with distinct stamps; slot_count: slots from start to end
    missing_count: slots without a candle, in `gaps`
    zero_volume_runs: runs of neighbouring candles in which nothing was traded
    duplicate_count: rows that repeat an earlier stamp; unordered_count: rows earlier than
        the row before; off_grid_count: stamps between two slots
    broken: rows that break a rule, counted by rule
    low, high: lowest and highest finite price; None without one
    """

    symbol: str
    interval: str
    start_ms: int | None
    end_ms: int | None
    count: int
    slot_count: int
    missing_count: int
    gaps: tuple[Gap, ...]
    zero_volume_runs: tuple[Gap, ...]
    duplicate_count: int
    unordered_count: int
    off_grid_count: int
    broken: dict[str, int]
    low: float | None
    high: float | None
    volume: float

    @property
    def ok(self) -> bool:
        """Whether a `CandleSeries` can be made of the rows; gaps do no harm."""
        damage = self.duplicate_count + self.unordered_count + self.off_grid_count
        return self.count > 0 and damage == 0 and not self.broken

    def to_dict(self) -> dict[str, Any]:
        """JSON types only, with the times also as text."""
        value = asdict(self)
        value["ok"] = self.ok
        for name in ("start", "end"):
            time_ms = value[f"{name}_ms"]
            value[name] = None if time_ms is None else format_time(time_ms)
        return value


def summarise(
    candles: CandleSeries | RawCandles, *, symbol: str | None = None, interval: str | None = None
) -> CandleSummary:
    """Describe candles; raw ones need their symbol and interval. Never raises for damage."""
    if isinstance(candles, CandleSeries):
        symbol, interval = candles.symbol, candles.interval
    symbol, interval = symbol or "", interval or ""
    step = interval_ms(interval)
    stamps = candles.open_time_ms
    if len(stamps) == 0:
        return _nothing(symbol, interval)
    unique, first_row = np.unique(stamps, return_index=True)
    slot = (unique - unique[0]) // step
    off_grid = (unique - unique[0]) % step != 0
    slots = np.unique(slot)
    volume = candles.volume[first_row]
    prices = np.concatenate([getattr(candles, name) for name in PRICE_COLUMNS])
    prices = prices[np.isfinite(prices)]
    slot_count = int(slots[-1]) + 1
    return CandleSummary(
        symbol=symbol,
        interval=interval,
        start_ms=int(unique[0]),
        end_ms=int(unique[-1]) + step,
        count=len(unique),
        slot_count=slot_count,
        missing_count=slot_count - len(slots),
        gaps=_gaps(slots, int(unique[0]), step),
        zero_volume_runs=_zero_runs(volume == 0, slot, unique),
        duplicate_count=len(stamps) - len(unique),
        unordered_count=int((np.diff(stamps) < 0).sum()),
        off_grid_count=int(off_grid.sum()),
        broken=_broken(candles),
        low=float(prices.min()) if len(prices) else None,
        high=float(prices.max()) if len(prices) else None,
        volume=float(np.nansum(candles.volume[np.isfinite(candles.volume)])),
    )


def _nothing(symbol: str, interval: str) -> CandleSummary:
    return CandleSummary(
        symbol=symbol,
        interval=interval,
        start_ms=None,
        end_ms=None,
        count=0,
        slot_count=0,
        missing_count=0,
        gaps=(),
        zero_volume_runs=(),
        duplicate_count=0,
        unordered_count=0,
        off_grid_count=0,
        broken={},
        low=None,
        high=None,
        volume=0.0,
    )


def _gaps(slots: npt.NDArray[np.int64], start_ms: int, step: int) -> tuple[Gap, ...]:
    missing = np.diff(slots) - 1
    return tuple(
        Gap(start_ms=start_ms + (int(slots[at]) + 1) * step, slot_count=int(missing[at]))
        for at in np.flatnonzero(missing)
    )


def _zero_runs(
    zero: BoolArray, slot: npt.NDArray[np.int64], stamps: npt.NDArray[np.int64]
) -> tuple[Gap, ...]:
    rows = np.flatnonzero(zero)
    if len(rows) == 0:
        return ()
    # A run ends where the next zero-volume candle is not in the very next slot.
    breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(slot[rows]) != 1)) + 1
    return tuple(
        Gap(start_ms=int(stamps[run[0]]), slot_count=len(run)) for run in np.split(rows, breaks)
    )


def _broken(candles: CandleSeries | RawCandles) -> dict[str, int]:
    open_, high, low, close = (getattr(candles, name) for name in PRICE_COLUMNS)
    finite = np.isfinite(open_) & np.isfinite(high) & np.isfinite(low) & np.isfinite(close)
    outside = (np.maximum(open_, close) > high) | (np.minimum(open_, close) < low)
    rules = {
        "price is not a number": ~finite,
        "volume is not a number": ~np.isfinite(candles.volume),
        "volume is negative": candles.volume < 0,
        "high is below low": finite & (high < low),
        "open or close lies outside low..high": finite & (high >= low) & outside,
    }
    return {rule: int(rows.sum()) for rule, rows in rules.items() if rows.any()}
