"""`CandleSeries`: the validated candles of one symbol and interval, with gaps known.

    series = CandleSeries.from_pandas(frame, symbol="BTCUSDT", interval="1h")
    series.gaps            # where candles are missing, never silently filled
    series.slots.close     # one value per time slot, NaN where no candle exists

Stamps are open times in UTC milliseconds, sorted, unique and on the interval's own grid.
A *slot* is one interval of time between the first and the last candle; a slot without a
candle is a gap and carries NaN. Windows, charts and labels count in slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import CandleError, MissingExtraError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

INTERVAL_MS: dict[str, int] = {
    "1s": 1_000,
    "1m": 60_000,
    "3m": 180_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "2h": 7_200_000,
    "4h": 14_400_000,
    "6h": 21_600_000,
    "8h": 28_800_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
    "3d": 259_200_000,
    "1w": 604_800_000,
}
"""Intervals of fixed length. A month ("1M") has none, so it has no slots and is refused."""

_FIRST_MS = -5_364_662_400_000  # 1800-01-01
_LAST_MS = 7_258_118_400_000  # 2200-01-01

_BLOCK_ROWS = 16_384

PRICE_COLUMNS = ("open", "high", "low", "close")
COLUMNS = (*PRICE_COLUMNS, "volume")


def interval_ms(interval: str) -> int:
    """Length of an interval in milliseconds; CandleError names the known ones."""
    if interval not in INTERVAL_MS:
        raise CandleError(f"unknown interval '{interval}'; known: {', '.join(INTERVAL_MS)}")
    return INTERVAL_MS[interval]


def format_time(time_ms: int) -> str:
    """UTC milliseconds as `2024-01-05 13:00`, with seconds only where there are any."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S" if moment.second else "%Y-%m-%d %H:%M")


def _whole_milliseconds(stamps: npt.ArrayLike, symbol: str) -> npt.NDArray[Any]:
    """Stamps as whole numbers: datetime64 is converted, floats must be whole."""
    array = np.asarray(stamps)
    if array.dtype.kind == "M":
        if np.isnat(array).any():
            row = np.flatnonzero(np.isnat(array))[0]
            raise CandleError(f"{symbol}: the stamp in row {row} is missing")
        whole = array.astype("datetime64[ms]")
        if (whole != array).any():
            raise CandleError(f"{symbol}: a stamp is no whole number of milliseconds")
        return whole.astype(np.int64)
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            odd = np.flatnonzero(~np.isfinite(array) | (array != np.floor(array)))
        if len(odd):
            raise CandleError(
                f"{symbol}: stamp {array[odd[0]]} in row {odd[0]} is no whole millisecond"
            )
    elif array.dtype.kind not in "iu":
        raise CandleError(
            f"{symbol}: stamps are {array.dtype}; UTC milliseconds or datetime64 are allowed"
        )
    return array


def _frozen(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A contiguous read-only array; a copy wherever the caller could still write to it."""
    array = np.ascontiguousarray(values, dtype=dtype)
    if (
        array.flags.writeable
        and isinstance(values, np.ndarray)
        and np.may_share_memory(array, values)
    ):
        array = array.copy()
    array.flags.writeable = False
    return array


def _steps_are_sound(times: IntArray, step: int) -> bool:
    """Whether stamps rise by whole slots."""
    steps = np.diff(times)
    if (steps == step).all():
        return True
    return bool((steps > 0).all() and (steps % step == 0).all())


def _prices_are_sound(
    open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray
) -> bool:
    """Whether all numbers are finite and in order; no comparison holds for NaN."""
    return bool(
        (low <= open_).all()
        and (open_ <= high).all()
        and (low <= close).all()
        and (close <= high).all()
        and (volume >= 0).all()
        # The others lie between these.
        and low.min() > -np.inf
        and high.max() < np.inf
        and volume.max() < np.inf
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A run of slots without candles: first missing open time and how many."""

    start_ms: int
    slot_count: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """The series laid on its time grid: float64[S] each, NaN in slots without a candle.

    S = (last stamp - first stamp) / interval + 1. Slot i opens at start_ms + i * interval_ms.
    """

    start_ms: int
    interval_ms: int
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        return len(self.close)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """bool[S], True where a candle exists."""
        return ~np.isnan(self.close)


@dataclass(frozen=True, kw_only=True, eq=False)
class CandleSeries:
    """Validated columnar candles of one symbol and interval.

    open_time_ms: int64[N], UTC, strictly increasing, on one grid of `interval`
    open, high, low, close: float64[N], finite, low <= open, close <= high
    volume: float64[N], finite, >= 0; of the base asset where it comes from Binance

    Prices may be any finite number (spreads go below zero). Raises CandleError naming the
    first broken rule, the row and its time.
    """

    symbol: str
    interval: str
    open_time_ms: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __post_init__(self) -> None:
        stamps = _frozen(_whole_milliseconds(self.open_time_ms, self.symbol), np.int64)
        object.__setattr__(self, "open_time_ms", stamps)
        for name in COLUMNS:
            try:
                column = _frozen(getattr(self, name), np.float64)
            except (ValueError, TypeError) as error:
                raise CandleError(f"{self.symbol}: column {name} holds no numbers: {error}") from (
                    error
                )
            object.__setattr__(self, name, column)
        if not self._is_sound():
            self._validate()

    def __len__(self) -> int:
        return len(self.open_time_ms)

    def _is_sound(self) -> bool:
        """Whether no rule is broken, looked at block by block: each stays in the CPU's cache."""
        step, count = interval_ms(self.interval), len(self)
        columns = [getattr(self, name) for name in COLUMNS]
        times = self.open_time_ms
        if count == 0 or any(column.shape != (count,) for column in (times, *columns)):
            return False
        if times[0] < _FIRST_MS or times[-1] >= _LAST_MS:
            return False
        return all(
            # Each block sees the first stamp of the next one, so that no step is missed.
            _steps_are_sound(times[first : first + _BLOCK_ROWS + 1], step)
            and _prices_are_sound(*(column[first : first + _BLOCK_ROWS] for column in columns))
            for first in range(0, count, _BLOCK_ROWS)
        )

    def _validate(self) -> None:
        """Raise for the first broken rule, in the order that is the most telling."""
        step = interval_ms(self.interval)
        if self.open_time_ms.ndim != 1:
            raise CandleError(f"{self.symbol}: open_time_ms has shape {self.open_time_ms.shape}")
        if len(self) == 0:
            raise CandleError(f"{self.symbol} {self.interval}: no candles")
        far = np.flatnonzero((self.open_time_ms < _FIRST_MS) | (self.open_time_ms >= _LAST_MS))
        if len(far):
            raise CandleError(
                f"{self.symbol} {self.interval}: stamp {self.open_time_ms[far[0]]} in row {far[0]} "
                "lies outside the years 1800 to 2200; stamps are UTC milliseconds"
            )
        for name in COLUMNS:
            column = getattr(self, name)
            if column.shape != self.open_time_ms.shape:
                raise CandleError(
                    f"{self.symbol}: column {name} has shape {column.shape}, "
                    f"open_time_ms {self.open_time_ms.shape}"
                )
            self._refuse(~np.isfinite(column), f"{name} is not a finite number")
        self._refuse(self.volume < 0, "volume is negative")
        self._refuse(self.high < self.low, "high is below low")
        self._refuse(
            (np.maximum(self.open, self.close) > self.high)
            | (np.minimum(self.open, self.close) < self.low),
            "open or close lies outside low..high",
        )
        steps = np.diff(self.open_time_ms, prepend=self.open_time_ms[0] - step)
        self._refuse(steps == 0, "stamp is a duplicate of the row before")
        self._refuse(steps < 0, "stamp is earlier than the row before")
        self._refuse(
            (self.open_time_ms - self.open_time_ms[0]) % step != 0,
            f"stamp is not on the {self.interval} grid of the first candle",
        )

    def _refuse(self, broken: npt.NDArray[np.bool_], rule: str) -> None:
        if broken.any():
            rows = np.flatnonzero(broken)
            row = int(rows[0])
            more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
            raise CandleError(
                f"{self.symbol} {self.interval}: {rule} in row {row}, "
                f"{format_time(int(self.open_time_ms[row]))} UTC{more}"
            )

    @property
    def interval_ms(self) -> int:
        """Length of one slot in milliseconds."""
        return INTERVAL_MS[self.interval]

    @cached_property
    def slots(self) -> Slots:
        """The series on its time grid, NaN where a candle is missing."""
        start = int(self.open_time_ms[0])
        index = (self.open_time_ms - start) // self.interval_ms
        count = int(index[-1]) + 1

        def spread(column: FloatArray) -> FloatArray:
            if count == len(self):
                return column
            grid = np.full(count, np.nan)
            grid[index] = column
            grid.flags.writeable = False
            return grid

        return Slots(
            start_ms=start,
            interval_ms=self.interval_ms,
            **{name: spread(getattr(self, name)) for name in COLUMNS},
        )

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """Runs of missing slots, in time order."""
        missing = np.diff(self.open_time_ms) // self.interval_ms - 1
        before = np.flatnonzero(missing)
        return tuple(
            Gap(
                start_ms=int(self.open_time_ms[row]) + self.interval_ms,
                slot_count=int(missing[row]),
            )
            for row in before
        )

    def between(self, start_ms: int | None = None, end_ms: int | None = None) -> CandleSeries:
        """Candles with start_ms <= open time < end_ms; CandleError if none is left."""
        first = 0 if start_ms is None else int(np.searchsorted(self.open_time_ms, start_ms))
        last = len(self) if end_ms is None else int(np.searchsorted(self.open_time_ms, end_ms))
        columns = {name: getattr(self, name)[first:last] for name in ("open_time_ms", *COLUMNS)}
        return CandleSeries(symbol=self.symbol, interval=self.interval, **columns)

    @classmethod
    def from_numpy(
        cls, columns: Mapping[str, npt.ArrayLike], *, symbol: str, interval: str
    ) -> CandleSeries:
        """From arrays named open_time_ms, open, high, low, close, volume."""
        missing = [name for name in ("open_time_ms", *COLUMNS) if name not in columns]
        if missing:
            raise CandleError(f"{symbol}: missing columns {', '.join(missing)}")
        arrays: dict[str, Any] = {
            name: np.asarray(columns[name]) for name in ("open_time_ms", *COLUMNS)
        }
        return cls(symbol=symbol, interval=interval, **arrays)

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """Read-only views of the columns, the inverse of `from_numpy`."""
        return {name: getattr(self, name) for name in ("open_time_ms", *COLUMNS)}

    @classmethod
    def from_arrow(cls, table: pa.Table, *, symbol: str, interval: str) -> CandleSeries:
        """From a pyarrow table with the column names of `from_numpy`; others are ignored.

        open_time_ms may be a timestamp column (with no zone: UTC). Nulls are a CandleError.
        """
        import pyarrow as pa

        columns: dict[str, npt.ArrayLike] = {}
        for name in ("open_time_ms", *COLUMNS):
            if name not in table.column_names:
                continue
            column = table.column(name)
            if column.null_count:
                raise CandleError(f"{symbol}: column {name} has {column.null_count} empty rows")
            if pa.types.is_timestamp(column.type):
                column = column.cast(pa.timestamp("ns")).cast(pa.int64())
                columns[name] = column.to_numpy().view("datetime64[ns]")
            else:
                columns[name] = column.to_numpy()
        return cls.from_numpy(columns, symbol=symbol, interval=interval)

    def to_arrow(self) -> pa.Table:
        """A pyarrow table, zero-copy where pyarrow allows."""
        import pyarrow as pa

        return pa.table(self.to_numpy())

    @classmethod
    def from_pandas(cls, frame: pd.DataFrame, *, symbol: str, interval: str) -> CandleSeries:
        """From a frame with an `open_time_ms` or `open_time` column, or a datetime index.

        Times with no zone mean UTC. Raises MissingExtraError: pandas is not installed.
        """
        pandas = _pandas()
        columns: dict[str, npt.ArrayLike] = {
            name: frame[name].to_numpy() for name in COLUMNS if name in frame
        }
        if "open_time_ms" in frame:
            columns["open_time_ms"] = frame["open_time_ms"].to_numpy()
        else:
            times = frame.get("open_time", frame.index)
            if pandas.api.types.is_datetime64_any_dtype(times.dtype):
                index = pandas.DatetimeIndex(times)
                utc = index if index.tz is None else index.tz_convert("UTC").tz_localize(None)
                columns["open_time_ms"] = utc.to_numpy()
        return cls.from_numpy(columns, symbol=symbol, interval=interval)

    def to_pandas(self) -> pd.DataFrame:
        """A frame with a UTC datetime index named `open_time`.

        Raises MissingExtraError: pandas is not installed.
        """
        pandas = _pandas()
        index = pandas.to_datetime(self.open_time_ms, unit="ms", utc=True).rename("open_time")
        # The frame is the caller's to change, so it gets copies of the read-only columns.
        columns = {name: getattr(self, name).copy() for name in COLUMNS}
        frame: pd.DataFrame = pandas.DataFrame(columns, index=index)
        return frame


def _pandas() -> ModuleType:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("pandas", "pandas") from error
    return pd
