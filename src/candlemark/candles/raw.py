"""Candles as a source gave them, before any rule is checked, and what their stamps mean.

    raw = join([january, february])
    series = raw.to_series(symbol="BTCUSDT", interval="1h")

Every source ends here, so that a damaged file can be described (`candlemark.candles.summary`)
as well as refused (`CandleSeries`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from candlemark.candles.series import (
    COLUMNS,
    INTERVAL_MS,
    CandleSeries,
    FloatArray,
    IntArray,
    format_time,
)
from candlemark.errors import CandleError

# A stamp's unit is decided by its size, never by its date. Each unit covers the years 1973
# to 5138, so the ranges cannot overlap for any candle there is.
_UNITS: dict[str, tuple[float, float]] = {
    "s": (1e8, 1e11),
    "ms": (1e11, 1e14),
    "us": (1e14, 1e17),
    "ns": (1e17, 9.3e18),
}
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawCandles:
    """Unchecked columns of equal length: open_time_ms int64[N], the others float64[N]."""

    open_time_ms: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        return len(self.open_time_ms)

    def take(self, rows: IntArray | slice) -> RawCandles:
        """The chosen rows, in the order given."""
        return RawCandles(
            open_time_ms=self.open_time_ms[rows],
            **{name: getattr(self, name)[rows] for name in COLUMNS},
        )

    def between(self, start_ms: int | None, end_ms: int | None) -> RawCandles:
        """Rows with start_ms <= open time < end_ms, in their order; a view where it can be."""
        keep = np.ones(len(self), dtype=np.bool_)
        if start_ms is not None:
            keep &= self.open_time_ms >= start_ms
        if end_ms is not None:
            keep &= self.open_time_ms < end_ms
        if keep.all():
            return self
        first, last = int(np.argmax(keep)), len(keep) - int(np.argmax(keep[::-1]))
        if keep[first:last].all():
            return self.take(slice(first, last))
        return self.take(np.flatnonzero(keep))

    def to_series(self, *, symbol: str, interval: str) -> CandleSeries:
        """The validated series; CandleError names the first broken rule."""
        return CandleSeries(
            symbol=symbol,
            interval=interval,
            open_time_ms=self.open_time_ms,
            **{name: getattr(self, name) for name in COLUMNS},
        )


def join(parts: Sequence[RawCandles]) -> RawCandles:
    """All rows of `parts`, in order; nothing is sorted or dropped."""
    if not parts:
        none = np.zeros(0)
        return RawCandles(open_time_ms=np.zeros(0, dtype=np.int64), **dict.fromkeys(COLUMNS, none))
    return RawCandles(
        open_time_ms=np.concatenate([part.open_time_ms for part in parts]),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS},
    )


def stamps_to_ms(
    stamps: IntArray | FloatArray, *, where: str, units: Sequence[str] = ("ms", "us")
) -> IntArray:
    """Numeric stamps in UTC milliseconds, their unit decided by value.

    Raises CandleError: a stamp fits none of `units`, stamps of two units stand in one file,
    or a stamp is no whole number of milliseconds.
    """
    if stamps.dtype.kind == "f" and not np.isfinite(stamps).all():
        row = int(np.flatnonzero(~np.isfinite(stamps))[0])
        raise CandleError(f"{where}: the stamp in row {row} is missing or not a number")
    chosen = ""
    for unit in units:
        low, high = _UNITS[unit]
        inside = (stamps >= low) & (stamps < high)
        if inside.all():
            chosen = unit
            break
        if inside.any():
            raise CandleError(_mixed(stamps, inside, unit, where))
    if not chosen:
        known = " or ".join(_UNIT_NAMES[unit] for unit in units)
        raise CandleError(
            f"{where}: stamp {stamps[0]} in row 0 is no UTC time in {known} after 1973"
        )
    if chosen == "s":
        return np.rint(stamps * 1000).astype(np.int64)
    whole = stamps.astype(np.int64, copy=False)
    if chosen == "ms" and whole is stamps:
        return whole
    milliseconds = whole // _PER_MS[chosen]
    odd = np.flatnonzero(milliseconds * _PER_MS[chosen] != stamps)
    if len(odd):
        raise CandleError(
            f"{where}: stamp {stamps[odd[0]]} in row {odd[0]} is no whole number of milliseconds"
        )
    return milliseconds


def _mixed(stamps: IntArray | FloatArray, inside: np.ndarray, unit: str, where: str) -> str:
    row = int(np.flatnonzero(inside != inside[0])[0])
    other = stamps[~inside][0]
    named = next(
        (_UNIT_NAMES[key] for key, (low, high) in _UNITS.items() if low <= other < high),
        "no known unit",
    )
    return (
        f"{where}: mixed units: some stamps are {_UNIT_NAMES[unit]} and some are {named} "
        f"(the change is at row {row}, {stamps[row - 1]} then {stamps[row]}); "
        "split the file where the unit changes"
    )


def infer_interval(open_time_ms: IntArray, *, where: str) -> str:
    """The interval that the stamps step by most often.

    Raises CandleError: fewer than two distinct stamps, or the step is no known interval.
    """
    steps = np.diff(np.unique(open_time_ms))
    if len(steps) == 0:
        raise CandleError(
            f"{where}: an interval cannot be told from {len(open_time_ms)} stamp(s); "
            "name it with --interval (interval=)"
        )
    values, counts = np.unique(steps, return_counts=True)
    step = int(values[np.argmax(counts)])
    for name, length in INTERVAL_MS.items():
        if length == step:
            return name
    raise CandleError(
        f"{where}: the stamps step by {step / 1000:g} s (from "
        f"{format_time(int(np.min(open_time_ms)))} UTC), which is no known interval; "
        f"known: {', '.join(INTERVAL_MS)}; name one with --interval (interval=)"
    )
