"""Which candles are there: in a mirror folder, or in the cache of what was downloaded.

    for entry in list_candles("file:///mirror"):
        print(entry.market, entry.symbol, entry.interval, entry.first, entry.last)

The public archive offers no list over HTTP, so of a server only what was fetched from it
before can be named.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from candlemark.candles.archive import PUBLIC_URL
from candlemark.candles.archive_files import MARKET_PATHS
from candlemark.candles.cache import Cache

_FILE = re.compile(
    r"(?P<market>data/[a-z/]+?)/(?:monthly|daily)/klines/(?P<symbol>[A-Z0-9_]+)/(?P<interval>\w+)/"
    r"[A-Z0-9_]+-\w+?-(?P<date>\d{4}-\d{2}(?:-\d{2})?)\.zip$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The archive files of one symbol and interval; dates as in their names."""

    market: str
    symbol: str
    interval: str
    first: str
    last: str
    files: int

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return asdict(self)


def list_candles(base_url: str | None = None, *, cache: Cache | None = None) -> list[Listing]:
    """Every symbol and interval of a `file://` mirror, or fetched before from a server."""
    base_url = base_url or PUBLIC_URL
    if base_url.startswith("file://"):
        folder = Path(unquote(urlsplit(base_url).path))
        paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*.zip"))
        return _grouped(paths)
    return _grouped(_fetched_from(base_url, cache or Cache()))


def _fetched_from(base_url: str, cache: Cache) -> Iterable[str]:
    for entry in (cache.folder / "index").glob("*.json"):
        try:
            url = json.loads(entry.read_text(encoding="utf-8"))["url"]
        except (ValueError, KeyError):
            continue  # a torn entry only costs the memory of one download
        if url.startswith(base_url):
            yield url


def _grouped(paths: Iterable[str]) -> list[Listing]:
    names = {path: market for market, path in MARKET_PATHS.items()}
    dates: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for path in paths:
        found = _FILE.search(path)
        if found and found["market"] in names:
            key = (names[found["market"]], found["symbol"], found["interval"])
            dates[key].append(found["date"])
    return [
        Listing(
            market=market,
            symbol=symbol,
            interval=interval,
            first=min(known),
            last=max(known),
            files=len(known),
        )
        for (market, symbol, interval), known in sorted(dates.items())
    ]
