"""The Binance archive: months and days of klines as zips, each with its published SHA-256.

    archive = Archive()
    raw = archive.load("BTCUSDT", "1h", start_ms=..., end_ms=...)

    data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip
    data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01-05.zip
    data/futures/um|cm/...

A month comes from its monthly file, or from daily files where there is no monthly one (a
month is published on its first Monday after, a day on the next day). Whatever is found
nowhere is a gap, with a warning; a range in which nothing is found is a NotFoundError.
Every byte is checked against the `.CHECKSUM` beside the file before it is read, and what
came over the network is kept in the cache. A folder (`file:///...`) is read where it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeVar

from candlemark.candles.cache import Cache, sha256_of
from candlemark.candles.dates import DAY_MS, next_month
from candlemark.candles.fetch import Fetcher
from candlemark.candles.klines import parse_csv, unzip
from candlemark.candles.raw import RawCandles, join
from candlemark.candles.series import format_time, interval_ms
from candlemark.errors import CandleError, ChecksumError, ConfigError, FetchError, NotFoundError
from candlemark.progress import Bar, track, warning

PUBLIC_URL = "https://data.binance.vision"
MARKET_PATHS = {"spot": "data/spot", "um": "data/futures/um", "cm": "data/futures/cm"}
FIRST_MONTH = datetime(2017, 7, 1, tzinfo=UTC)
"""No Binance candle is older."""

MAX_ZIP_BYTES = 2 * 2**30
MAX_DAILY_MONTHS = 12
"""Missing months that are looked for day by day, the newest first, to spare the server."""

_WORKERS = 8
_VERIFY_ATTEMPTS = 3
_ROW_BYTES = 512  # real rows hold 100 to 200
_SYMBOL = re.compile(r"\w{2,40}")
_CHECKSUM = re.compile(r"([0-9a-fA-F]{64}) [ *]?(\S+)\s*")
_FILE_DATE = re.compile(r"-(\d{4})-(\d{2})(?:-(\d{2}))?\.zip")

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


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
    while _ms(moment) < end_ms:
        following = next_month(moment)
        files.append(
            ArchiveFile(
                market=market,
                symbol=symbol,
                interval=interval,
                every="monthly",
                start_ms=_ms(moment),
                end_ms=_ms(following),
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


class Archive:
    """A client of the archive or of a mirror of it; the fetcher is its maker's to close."""

    def __init__(self, fetcher: Fetcher | None = None, *, cache: Cache | None = None) -> None:
        self.fetcher = fetcher or Fetcher(PUBLIC_URL)
        self.cache = cache or Cache()

    def load(
        self, symbol: str, interval: str, *, start_ms: int, end_ms: int, market: str = "spot"
    ) -> RawCandles:
        """Candles with start_ms <= open time < end_ms, in time order.

        Raises NotFoundError: not one candle in the range. ChecksumError, FetchError,
        RateLimitError: a file could not be brought here whole. CandleError: it is damaged.
        """
        symbol = check_symbol(symbol)
        interval_ms(interval)
        end_ms = min(end_ms, self._now_ms())
        monthly = months(market, symbol, interval, start_ms, end_ms)
        with track(f"{symbol} {interval}", total=len(monthly), unit="files") as bar:
            found = dict(zip(monthly, self._each(self._read_file, monthly, bar), strict=True))
            missing = [file for file, raw in found.items() if raw is None]
            daily = self._daily_files(missing, start_ms, end_ms)
            found |= dict(zip(daily, self._each(self._read_file, daily, bar), strict=True))
        absent = _absent(missing, daily, found)
        parts = sorted(
            ((file.start_ms, raw) for file, raw in found.items() if raw is not None),
            key=lambda part: part[0],
        )
        raw = join([part for _, part in parts]).between(start_ms, end_ms)
        if len(raw) == 0:
            raise NotFoundError(
                self._not_found(
                    market,
                    symbol,
                    interval,
                    start_ms=start_ms,
                    end_ms=end_ms,
                    tried=f"tried {len(monthly)} monthly and {len(daily)} daily files",
                )
            )
        if absent:
            warning(
                f"{symbol} {interval}: the archive has no file for {runs(absent)}; "
                "these candles are carried as gaps"
            )
        return raw

    def newest_ms(self, symbol: str, interval: str, *, market: str = "spot") -> int:
        """When the newest candle of the archive ends, in UTC milliseconds; NotFoundError."""
        symbol = check_symbol(symbol)
        length = interval_ms(interval)
        file = self.newest_file(symbol, interval, market=market)
        raw = self._read_file(file) if file is not None else None
        if raw is None or len(raw) == 0:
            raise NotFoundError(self._unknown(market, symbol, interval))
        return int(raw.open_time_ms[-1]) + length

    def newest_file(
        self, symbol: str, interval: str, *, market: str = "spot"
    ) -> ArchiveFile | None:
        """The file with the newest candles, or None.

        A folder is listed. A server is asked for the last seven days, then for months
        back to 2017, then for the days after the newest month: at most some 150 questions,
        and one round of them for a symbol that is traded.
        """
        if self.fetcher.folder is not None:
            listed = self.listed(market, symbol, interval)
            return max(listed, key=lambda file: (file.end_ms, file.every), default=None)
        today = self._now_ms() // DAY_MS * DAY_MS
        recent = days(market, symbol, interval, today - 7 * DAY_MS, today)
        if newest := self._newest_of(recent):
            return newest
        monthly = self._newest_of(months(market, symbol, interval, _ms(FIRST_MONTH), today))
        since = monthly.end_ms if monthly else today - 62 * DAY_MS
        later = days(market, symbol, interval, since, min(since + 62 * DAY_MS, today))
        return self._newest_of(later) or monthly

    def listed(self, market: str, symbol: str, interval: str) -> list[ArchiveFile]:
        """The files a folder has for a symbol and interval, in time order; [] for a server."""
        files: list[ArchiveFile] = []
        for every in ("monthly", "daily"):
            for name in self._names(folder_of(market, every, symbol, interval)):
                match = _FILE_DATE.search(name)
                if match is None or (match[3] is None) != (every == "monthly"):
                    continue
                year, month, day = int(match[1]), int(match[2]), int(match[3] or 1)
                try:
                    start = _ms(datetime(year, month, day, tzinfo=UTC))
                except ValueError:
                    continue
                make = months if every == "monthly" else days
                files += [
                    file
                    for file in make(market, symbol, interval, start, start + 1)
                    if file.name == name
                ]
        return sorted(files, key=lambda file: (file.start_ms, file.end_ms))

    def read(self, file: ArchiveFile) -> bytes | None:
        """The zip's verified bytes; None if it is not published.

        Raises ChecksumError, FetchError, RateLimitError.
        """
        if self.fetcher.folder is not None:
            return self._read_in_folder(file)
        url = self.fetcher.url(file.path)
        remembered = self.cache.remembered(url)
        data = self.cache.read(remembered) if remembered else None
        if data is not None:
            return data
        # The published sum may itself be damaged on the way, so both are asked for again.
        for attempt in range(_VERIFY_ATTEMPTS):
            try:
                published = self._published_sha256(file)
            except ChecksumError:
                if attempt == _VERIFY_ATTEMPTS - 1:
                    raise
                continue
            if published is None:
                return None
            data = self._download(file, published)
            if data is not None:
                self.cache.remember(url, published)
                return data
        raise ChecksumError(
            f"{url} does not have its published SHA-256 {published} after {_VERIFY_ATTEMPTS} "
            "downloads; nothing was kept; try another mirror with --base-url"
        )

    def _read_in_folder(self, file: ArchiveFile) -> bytes | None:
        published = self._published_sha256(file)
        if published is None:
            return None
        answer = self.fetcher.get(file.path)
        if answer.status != 200:
            raise FetchError(f"{self.fetcher.url(file.path)} is gone, its .CHECKSUM is there")
        if sha256_of(answer.body) != published:
            raise ChecksumError(
                f"{self.fetcher.url(file.path)} has SHA-256 {sha256_of(answer.body)}, "
                f"its .CHECKSUM says {published}; copy the file again"
            )
        return answer.body

    def _published_sha256(self, file: ArchiveFile) -> str | None:
        path = f"{file.path}.CHECKSUM"
        answer = self.fetcher.get(path)
        if answer.status == 404:
            if self.fetcher.exists(file.path):
                raise ChecksumError(
                    f"{self.fetcher.url(file.path)} has no .CHECKSUM beside it, so it cannot be "
                    "verified; read the file itself with `candlemark candles show FILE`"
                )
            return None
        text = answer.body.decode("ascii", errors="replace")
        match = _CHECKSUM.fullmatch(text)
        if answer.status != 200 or match is None or match[2] != file.name:
            raise ChecksumError(
                f"{self.fetcher.url(path)} holds {text[:100]!r}, not '<sha256>  {file.name}'"
            )
        return match[1].lower()

    def _download(self, file: ArchiveFile, sha256: str) -> bytes | None:
        """The bytes with this SHA-256, from the cache or the server; None: others came."""
        with self.cache.growing(sha256) as partial:
            # Another process may have finished it while this one waited for the lock.
            data = self.cache.read(sha256)
            if data is not None:
                return data
            if not self.fetcher.download(file.path, partial, limit_bytes=MAX_ZIP_BYTES):
                raise FetchError(f"{self.fetcher.url(file.path)} is gone, its .CHECKSUM is there")
            return self.cache.keep(partial, sha256)

    def _read_file(self, file: ArchiveFile) -> RawCandles | None:
        data = self.read(file)
        if data is None:
            return None
        text = unzip(data, limit_bytes=file.limit_bytes, where=file.name)
        if not text.strip():
            warning(f"{file.name} is empty; its candles are carried as gaps")
            return join([])
        raw = parse_csv(text, market=file.market, where=file.name)
        outside = (raw.open_time_ms < file.start_ms) | (raw.open_time_ms >= file.end_ms)
        if outside.any():
            stamp = format_time(int(raw.open_time_ms[outside][0]))
            raise CandleError(f"{file.name} holds a candle of {stamp} UTC, outside its own time")
        return raw

    def _daily_files(
        self, missing: Sequence[ArchiveFile], start_ms: int, end_ms: int
    ) -> list[ArchiveFile]:
        """The days to look for in months that have no monthly file."""
        if len(missing) > MAX_DAILY_MONTHS and self.fetcher.folder is None:
            warning(
                f"{missing[0].symbol} {missing[0].interval}: {len(missing)} months have no monthly "
                f"file; only the newest {MAX_DAILY_MONTHS} are looked for day by day"
            )
            missing = missing[-MAX_DAILY_MONTHS:]
        today = self._now_ms() // DAY_MS * DAY_MS
        files: list[ArchiveFile] = []
        for file in missing:
            first, last = max(file.start_ms, start_ms), min(file.end_ms, end_ms, today)
            files += days(file.market, file.symbol, file.interval, first, last)
        return files

    def _newest_of(self, files: Sequence[ArchiveFile]) -> ArchiveFile | None:
        """The last of `files` that exists, asking newest first, some at a time."""
        newest_first = list(reversed(files))
        for at in range(0, len(newest_first), _WORKERS):
            batch = newest_first[at : at + _WORKERS]
            there = self._each(lambda file: self.fetcher.exists(file.path), batch)
            for file, exists in zip(batch, there, strict=True):
                if exists:
                    return file
        return None

    def _each(
        self, function: Callable[[ItemT], ResultT], items: Sequence[ItemT], bar: Bar | None = None
    ) -> list[ResultT]:
        """`function` of every item, several at once; the first error stops the rest."""

        def counted(item: ItemT) -> ResultT:
            result = function(item)
            if bar is not None:
                bar.advance()
            return result

        if len(items) <= 1:
            return [counted(item) for item in items]
        pool = ThreadPoolExecutor(max_workers=min(_WORKERS, len(items)))
        try:
            return list(pool.map(counted, items))
        finally:
            pool.shutdown(cancel_futures=True)

    def _now_ms(self) -> int:
        return int(self.fetcher.clock() * 1000)

    def _names(self, path: str) -> list[str]:
        """Names in a folder of a `file://` archive, sorted; [] if there is none."""
        if self.fetcher.folder is None or not (self.fetcher.folder / path).is_dir():
            return []
        return sorted(Path(entry).name for entry in (self.fetcher.folder / path).iterdir())

    def _not_found(
        self, market: str, symbol: str, interval: str, *, start_ms: int, end_ms: int, tried: str
    ) -> str:
        asked = f"{format_time(start_ms)} to {format_time(end_ms)} UTC"
        head = f"no {market} candles of {symbol} {interval} from {asked} at {self.fetcher.base_url}"
        if self.fetcher.folder is not None:
            listed = self.listed(market, symbol, interval)
            return (
                f"{head}; it has {runs(listed)}"
                if listed
                else self._unknown(market, symbol, interval)
            )
        newest = self.newest_file(symbol, interval, market=market)
        if newest is None:
            return f"{self._unknown(market, symbol, interval)} ({tried})"
        since = (
            f": it may be delisted since, try --end {newest.date}"
            if newest.end_ms <= start_ms
            else ""
        )
        return f"{head} ({tried}); its newest file is {newest.name}{since}"

    def _unknown(self, market: str, symbol: str, interval: str) -> str:
        """Why nothing at all is known of a symbol and interval, with what there is instead."""
        base = self.fetcher.base_url
        intervals: set[str] = set()
        symbols: set[str] = set()
        for every in ("monthly", "daily"):
            parent = f"{MARKET_PATHS[market]}/{every}/klines"
            symbols |= set(self._names(parent))
            intervals |= set(self._names(f"{parent}/{symbol}"))
        if intervals:
            known = ", ".join(sorted(intervals))
            return f"{base} has no {interval} candles of {symbol}; it has: {known}"
        if symbols:
            near = difflib.get_close_matches(symbol, symbols, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            some = ", ".join(sorted(symbols)[:12]) + (", ..." if len(symbols) > 12 else "")
            return f"{base} has no {market} symbol {symbol}; {hint}it has: {some}"
        return (
            f"{base} has no {market} candles of {symbol} {interval} at all; check the symbol "
            "(as in BTCUSDT), the interval and --market spot|um|cm"
        )


def runs(files: Iterable[ArchiveFile]) -> str:
    """Their dates as text, neighbours joined: `2022-01 to 2024-05, 2024-11`."""
    joined: list[list[ArchiveFile]] = []
    for file in sorted(files, key=lambda file: (file.every, file.start_ms), reverse=False):
        last = joined[-1][-1] if joined else None
        if last is not None and last.end_ms == file.start_ms and last.every == file.every:
            joined[-1][1:] = [file]
        else:
            joined.append([file])
    joined.sort(key=lambda run: run[0].start_ms)
    return ", ".join(
        run[0].date if len(run) == 1 else f"{run[0].date} to {run[-1].date}" for run in joined
    )


def _absent(
    missing: Sequence[ArchiveFile],
    daily: Sequence[ArchiveFile],
    found: Mapping[ArchiveFile, RawCandles | None],
) -> list[ArchiveFile]:
    """What is nowhere: days of a month that has others, else the month as a whole."""
    absent: list[ArchiveFile] = []
    for month in missing:
        inside = [day for day in daily if month.start_ms <= day.start_ms < month.end_ms]
        lost = [day for day in inside if found[day] is None]
        absent += lost if len(lost) < len(inside) else [month]
    return absent


def _moment(time_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
