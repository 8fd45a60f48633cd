"""What the files of the Binance archive are called, and the time that each covers.

months("spot", "BTCUSDT", "1h", start_ms, end_ms)     # [ArchiveFile, ...]
runs(files)                                           # "2022-01 to 2024-05, 2024-11"

data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip
data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01-05.zip
data/futures/um|cm/...
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from candlemark.candles.dates import DAY_MS, next_month
from candlemark.candles.series import interval_ms
from candlemark.errors import ConfigError

MARKET_PATHS = {"spot": "data/spot", "um": "data/futures/um", "cm": "data/futures/cm"}
FIRST_MONTH = datetime(2017, 7, 1, tzinfo=UTC)
"""No Binance candle is older."""

_ROW_BYTES = 512  # real rows hold 100 to 200
_SYMBOL = re.compile(r"\w{2,40}")
_FILE_DATE = re.compile(r"-(\d{4})-(\d{2})(?:-(\d{2}))?\.zip")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFile:
    """One zip of the archive and the time it covers."""

    market: str
    symbol: str
    interval: str
    every: Literal["monthly", "daily"]
    start_ms: int
    end_ms: int

    @property
    def date(self) -> str:
        """`2024-01` or `2024-01-05`."""
        return _moment(self.start_ms).strftime("%Y-%m" if self.every == "monthly" else "%Y-%m-%d")

    @property
    def name(self) -> str:
        """`BTCUSDT-1h-2024-01.zip`."""
        return f"{self.symbol}-{self.interval}-{self.date}.zip"

    @property
    def path(self) -> str:
        """Path below the archive's base address."""
        return f"{folder_of(self.market, self.every, self.symbol, self.interval)}/{self.name}"

    @property
    def limit_bytes(self) -> int:
        """More than its CSV can hold; a bigger one is no kline file."""
        rows = (self.end_ms - self.start_ms) // interval_ms(self.interval) + 2
        return rows * _ROW_BYTES + 4096


def folder_of(market: str, every: str, symbol: str, interval: str) -> str:
    """The archive folder of one symbol and interval."""
    return f"{MARKET_PATHS[market]}/{every}/klines/{symbol}/{interval}"


def check_symbol(symbol: str) -> str:
    """The symbol in capitals; ConfigError if it cannot be one."""
    upper = symbol.strip().upper()
    if _SYMBOL.fullmatch(upper):
        return upper
    plain = re.sub(r"\W", "", upper)
    hint = f"; did you mean {plain}?" if _SYMBOL.fullmatch(plain) else ""
    raise ConfigError(f"'{symbol}' is no symbol: letters and digits, as in BTCUSDT{hint}")


def months(
    market: str, symbol: str, interval: str, start_ms: int, end_ms: int
) -> list[ArchiveFile]:
    """Monthly files that overlap start_ms <= time < end_ms, none before Binance began."""
    files = []
    moment = max(
        _moment(start_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0), FIRST_MONTH
    )
    while to_ms(moment) < end_ms:
        following = next_month(moment)
        files.append(
            ArchiveFile(
                market=market,
                symbol=symbol,
                interval=interval,
                every="monthly",
                start_ms=to_ms(moment),
                end_ms=to_ms(following),
            )
        )
        moment = following
    return files


def days(market: str, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[ArchiveFile]:
    """Daily files that overlap start_ms <= time < end_ms."""
    first = start_ms // DAY_MS * DAY_MS
    return [
        ArchiveFile(
            market=market,
            symbol=symbol,
            interval=interval,
            every="daily",
            start_ms=day,
            end_ms=day + DAY_MS,
        )
        for day in range(first, end_ms, DAY_MS)
    ]


def named(
    name: str, *, market: str, every: Literal["monthly", "daily"], symbol: str, interval: str
) -> ArchiveFile | None:
    """The file of this name in a folder of the archive; None if it has no such name."""
    match = _FILE_DATE.search(name)
    if match is None or (match[3] is None) != (every == "monthly"):
        return None
    try:
        start = to_ms(datetime(int(match[1]), int(match[2]), int(match[3] or 1), tzinfo=UTC))
    except ValueError:
        return None
    make = months if every == "monthly" else days
    found = make(market, symbol, interval, start, start + 1)
    return next((file for file in found if file.name == name), None)


def runs(files: Iterable[ArchiveFile]) -> str:
    """Their dates as text, neighbours joined: `2022-01 to 2024-05, 2024-11`."""
    joined: list[list[ArchiveFile]] = []
    for file in sorted(files, key=lambda file: (file.every, file.start_ms)):
        last = joined[-1][-1] if joined else None
        if last is not None and last.end_ms == file.start_ms and last.every == file.every:
            joined[-1][1:] = [file]
        else:
            joined.append([file])
    joined.sort(key=lambda run: run[0].start_ms)
    return ", ".join(
        run[0].date if len(run) == 1 else f"{run[0].date} to {run[-1].date}" for run in joined
    )


def _moment(time_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)


def to_ms(moment: datetime) -> int:
    """UTC milliseconds of a time."""
    return round(moment.timestamp() * 1000)
