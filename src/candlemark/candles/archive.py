"""The Binance archive: months and days of klines as zips, each with its published SHA-256.

    archive = Archive()
    raw = archive.load("BTCUSDT", "1h", start_ms=..., end_ms=...)
    btc, eth = archive.load_all(("BTCUSDT", "ETHUSDT"), "1m", start_ms=..., end_ms=...)

A month comes from its monthly file, or from daily files where there is no monthly one (a
month is published on its first Monday after, a day on the next day). Whatever is found
nowhere is a gap, with a warning; a range in which nothing is found is a NotFoundError.

What is verified when:

- Every byte is checked against the `.CHECKSUM` beside the file before it is read, and what
  came over the network is kept in the cache, named by that SHA-256.
- The candles of a zip are kept beside it (`candlemark.candles.parsed`) under the same name. A
  later load takes them, proved by their CRC-32, instead of the zip.
- A server is asked for a file once. `refresh` asks for every `.CHECKSUM` again, and fetches
  what was published anew since.
- A folder (`file:///...`) is read where it is, its `.CHECKSUM` files every time. A zip whose
  size or time changed is hashed again, so the kept candles are never those of another file.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from candlemark.candles.archive_files import (
    FIRST_MONTH,
    MARKET_PATHS,
    ArchiveFile,
    check_symbol,
    days,
    folder_of,
    months,
    named,
    runs,
    to_ms,
)
from candlemark.candles.archive_zips import Zips
from candlemark.candles.cache import Cache
from candlemark.candles.dates import DAY_MS
from candlemark.candles.fetch import Fetcher
from candlemark.candles.klines import parse_zip
from candlemark.candles.parsed import Entry, ParsedCache, join_parts
from candlemark.candles.raw import RawCandles, join
from candlemark.candles.series import format_time, interval_ms
from candlemark.errors import CandleError, NotFoundError
from candlemark.progress import track, warning

PUBLIC_URL = "https://data.binance.vision"

MAX_DAILY_MONTHS = 12
"""Missing months that are looked for day by day, the newest first, to spare the server."""

_WORKERS = 8
_MOST_NAMED = 3

Part = RawCandles | Entry
"""The candles of one file: parsed just now, or on disk from before."""

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Archive:
    """A client of the archive or of a mirror of it; the fetcher is its maker's to close.

    refresh: ask the server again what it publishes, see the module's docstring
    """

    def __init__(
        self, fetcher: Fetcher | None = None, *, cache: Cache | None = None, refresh: bool = False
    ) -> None:
        self.fetcher = fetcher or Fetcher(PUBLIC_URL)
        cache = cache or Cache()
        self._zips = Zips(self.fetcher, cache, refresh=refresh)
        self._parsed = ParsedCache(cache)

    def load(
        self, symbol: str, interval: str, *, start_ms: int, end_ms: int, market: str = "spot"
    ) -> RawCandles:
        """Candles with start_ms <= open time < end_ms, in time order; read-only columns.

        Raises NotFoundError: not one candle in the range. ChecksumError, FetchError,
        RateLimitError: a file could not be brought here whole. CandleError: it is damaged.
        """
        return self.load_all(
            (symbol,), interval, start_ms=start_ms, end_ms=end_ms, market=market
        ).pop()

    def load_all(
        self,
        symbols: Sequence[str],
        interval: str,
        *,
        start_ms: int,
        end_ms: int,
        market: str = "spot",
    ) -> list[RawCandles]:
        """The same for several symbols, in their order, the files of all of them at once.

        The first file that cannot be had stops everything. Symbols without a candle in the
        range are named all together.
        """
        interval_ms(interval)
        span = (start_ms, min(end_ms, self._now_ms()))
        plans = [_Plan(market, symbol, interval, *span) for symbol in map(check_symbol, symbols)]
        monthly = [file for plan in plans for file in plan.monthly]
        with track(_title(plans), total=len(monthly), unit="months") as bar:
            # A month that is there counts at once, one that is not with its days.
            found = self._read_all(monthly, lambda _, part: bar.advance(int(part is not None)))
            for plan in plans:
                plan.daily = self._days_instead(plan, found)
                bar.advance(sum(found[file] is None for file in plan.monthly) - len(plan.daily))
            shares = {
                day: 1 / len(inside)
                for plan in plans
                for inside in plan.daily.values()
                for day in inside
            }
            found |= self._read_all(list(shares), lambda file, _: bar.advance(shares[file]))
            return self._gather(plans, found)

    def _read_all(
        self, files: Sequence[ArchiveFile], done: Callable[[ArchiveFile, Part | None], None]
    ) -> dict[ArchiveFile, Part | None]:
        """What each file holds, None where there is no such file."""

        def read(file: ArchiveFile) -> Part | None:
            part = self._read_file(file)
            done(file, part)
            return part

        return dict(zip(files, self._each(read, files), strict=True))

    def _days_instead(
        self, plan: _Plan, found: Mapping[ArchiveFile, Part | None]
    ) -> dict[ArchiveFile, list[ArchiveFile]]:
        """The days to look for in months that have no monthly file."""
        missing = [file for file in plan.monthly if found[file] is None]
        if len(missing) > MAX_DAILY_MONTHS and self.fetcher.folder is None:
            warning(
                f"{plan}: {len(missing)} months have no monthly file; "
                f"only the newest {MAX_DAILY_MONTHS} are looked for day by day"
            )
            missing = missing[-MAX_DAILY_MONTHS:]
        today = self._now_ms() // DAY_MS * DAY_MS
        instead: dict[ArchiveFile, list[ArchiveFile]] = {}
        for file in missing:
            first, last = max(file.start_ms, plan.start_ms), min(file.end_ms, plan.end_ms, today)
            inside = days(file.market, file.symbol, file.interval, first, last)
            if inside:
                instead[file] = inside
        return instead

    def _gather(
        self, plans: Sequence[_Plan], found: Mapping[ArchiveFile, Part | None]
    ) -> list[RawCandles]:
        """The candles of each plan's range, or one error that names every plan without any."""
        gathered: list[RawCandles] = []
        problems: list[str] = []
        for plan in plans:
            files = sorted(plan.files, key=lambda file: file.start_ms)
            parts = [(file, part) for file in files if (part := found[file]) is not None]
            raw = self._join(parts)
            if any(not plan.holds(file) for file, _ in parts):
                raw = raw.between(plan.start_ms, plan.end_ms)
            if len(raw) == 0:
                problems.append(self._not_found(plan))
                continue
            if absent := _absent(plan, found):
                warning(
                    f"{plan}: the archive has no file for {runs(absent)}; "
                    "these candles are carried as gaps"
                )
            gathered.append(raw)
        if problems:
            several = f"{len(problems)} of {len(plans)} symbols: " if len(plans) > 1 else ""
            raise NotFoundError(several + "; ".join(problems))
        return gathered

    def _join(self, parts: Sequence[tuple[ArchiveFile, Part]]) -> RawCandles:
        """All rows; an entry that turns out damaged is parsed again from its zip."""
        files = [file for file, _ in parts]
        chosen = [part for _, part in parts]
        while True:
            raw, damaged = join_parts(chosen, self._each)
            if not damaged:
                return raw
            for position in damaged:
                chosen[position] = self._parse(files[position]) or join([])

    def newest_ms(self, symbol: str, interval: str, *, market: str = "spot") -> int:
        """When the newest candle of the archive ends, in UTC milliseconds; NotFoundError."""
        symbol = check_symbol(symbol)
        length = interval_ms(interval)
        file = self.newest_file(symbol, interval, market=market)
        part = self._read_file(file) if file is not None else None
        if part is None or len(part) == 0:
            raise NotFoundError(self._unknown(market, symbol, interval))
        latest = part.latest_ms if isinstance(part, Entry) else int(part.open_time_ms.max())
        return latest + length

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
        monthly = self._newest_of(months(market, symbol, interval, to_ms(FIRST_MONTH), today))
        since = monthly.end_ms if monthly else today - 62 * DAY_MS
        later = days(market, symbol, interval, since, min(since + 62 * DAY_MS, today))
        return self._newest_of(later) or monthly

    def listed(self, market: str, symbol: str, interval: str) -> list[ArchiveFile]:
        """The files a folder has for a symbol and interval, in time order; [] for a server."""
        files: list[ArchiveFile] = []
        kinds: tuple[Literal["monthly", "daily"], ...] = ("monthly", "daily")
        for every in kinds:
            for name in self._names(folder_of(market, every, symbol, interval)):
                file = named(name, market=market, every=every, symbol=symbol, interval=interval)
                if file is not None:
                    files.append(file)
        return sorted(files, key=lambda file: (file.start_ms, file.end_ms))

    def read(self, file: ArchiveFile) -> bytes | None:
        """The zip's verified bytes; None if it is not published.

        Raises ChecksumError, FetchError, RateLimitError.
        """
        verified = self._zips.read(file)
        return verified[1] if verified is not None else None

    def _read_file(self, file: ArchiveFile) -> Part | None:
        """The candles of a file, from where they were parsed before if they were."""
        sha256 = self._zips.known_sha256(file)
        entry = self._parsed.find(sha256, market=file.market) if sha256 is not None else None
        if entry is None:
            return self._parse(file)
        _refuse_outside(file, entry.earliest_ms, entry.latest_ms)
        return entry

    def _parse(self, file: ArchiveFile) -> RawCandles | None:
        verified = self._zips.read(file)
        if verified is None:
            return None
        sha256, data = verified
        raw = parse_zip(data, limit_bytes=file.limit_bytes, market=file.market, where=file.name)
        if raw is None:
            warning(f"{file.name} is empty; its candles are carried as gaps")
            return join([])
        _refuse_outside(file, int(raw.open_time_ms.min()), int(raw.open_time_ms.max()))
        self._parsed.keep(sha256, raw, market=file.market)
        return raw

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

    def _each(self, function: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> list[ResultT]:
        """`function` of every item, several at once; the first error stops the rest."""
        if len(items) <= 1:
            return [function(item) for item in items]
        # A server keeps threads waiting. A folder keeps the cores busy, and two more threads
        # wait for the disk meanwhile.
        most = _WORKERS if self.fetcher.folder is None else (os.cpu_count() or 1) + 2
        pool = ThreadPoolExecutor(max_workers=min(most, len(items)))
        try:
            return list(pool.map(function, items))
        finally:
            pool.shutdown(cancel_futures=True)

    def _now_ms(self) -> int:
        return int(self.fetcher.clock() * 1000)

    def _names(self, path: str) -> list[str]:
        """Names in a folder of a `file://` archive, sorted; [] if there is none."""
        if self.fetcher.folder is None or not (self.fetcher.folder / path).is_dir():
            return []
        return sorted(Path(entry).name for entry in (self.fetcher.folder / path).iterdir())

    def _not_found(self, plan: _Plan) -> str:
        market, symbol, interval = plan.market, plan.symbol, plan.interval
        asked = f"{format_time(plan.start_ms)} to {format_time(plan.end_ms)} UTC"
        head = f"no {market} candles of {symbol} {interval} from {asked} at {self.fetcher.base_url}"
        if self.fetcher.folder is not None:
            listed = self.listed(market, symbol, interval)
            return (
                f"{head}; it has {runs(listed)}"
                if listed
                else self._unknown(market, symbol, interval)
            )
        tried = (
            f"tried {len(plan.monthly)} monthly and "
            f"{sum(map(len, plan.daily.values()))} daily files"
        )
        newest = self.newest_file(symbol, interval, market=market)
        if newest is None:
            return f"{self._unknown(market, symbol, interval)} ({tried})"
        since = (
            f": it may be delisted since, try --end {newest.date}"
            if newest.end_ms <= plan.start_ms
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


@dataclass(slots=True)
class _Plan:
    """The files that one symbol's range needs: its months, and the days of missing ones."""

    market: str
    symbol: str
    interval: str
    start_ms: int
    end_ms: int
    daily: dict[ArchiveFile, list[ArchiveFile]] = field(default_factory=dict)
    monthly: list[ArchiveFile] = field(init=False)

    def __post_init__(self) -> None:
        self.monthly = months(self.market, self.symbol, self.interval, self.start_ms, self.end_ms)

    def __str__(self) -> str:
        return f"{self.symbol} {self.interval}"

    def holds(self, file: ArchiveFile) -> bool:
        """Whether all of a file's time lies in the range."""
        return self.start_ms <= file.start_ms and file.end_ms <= self.end_ms

    @property
    def files(self) -> list[ArchiveFile]:
        """Months and days, in no order."""
        return [*self.monthly, *(day for inside in self.daily.values() for day in inside)]


def _title(plans: Sequence[_Plan]) -> str:
    """`BTCUSDT, ETHUSDT and 3 more 1m`."""
    names = ", ".join(plan.symbol for plan in plans[:_MOST_NAMED])
    more = f" and {len(plans) - _MOST_NAMED} more" if len(plans) > _MOST_NAMED else ""
    return f"{names}{more} {plans[0].interval}" if plans else "candles"


def _absent(plan: _Plan, found: Mapping[ArchiveFile, Part | None]) -> list[ArchiveFile]:
    """What is nowhere: days of a month that has others, else the month as a whole."""
    absent: list[ArchiveFile] = []
    for month in plan.monthly:
        if found[month] is not None:
            continue
        inside = plan.daily.get(month, [])
        lost = [day for day in inside if found[day] is None]
        absent += lost if len(lost) < len(inside) else [month]
    return absent


def _refuse_outside(file: ArchiveFile, earliest_ms: int, latest_ms: int) -> None:
    for stamp in (earliest_ms, latest_ms):
        if not file.start_ms <= stamp < file.end_ms:
            raise CandleError(
                f"{file.name} holds a candle of {format_time(stamp)} UTC, outside its own time"
            )
