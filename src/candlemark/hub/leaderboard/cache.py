"""Pages of the Hub's answers, kept with their age and ETag, and read.

    cache = PageCache(max_age_s=6 * 3600)
    page = cache.kept(address)           # None: not here
    cache.is_young(page)                 # False: ask; its ETag saves sending the page again
    cache.keep(page)

A page is a file below `leaderboard/` of the cache folder (`CANDLEMARK_CACHE`), written by
rename. One that cannot be read is as good as none, and said once. Only public models are in it,
so whose token asked does not matter, and no token is near it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from candlemark.candles.cache import default_folder
from candlemark.errors import ResultsError
from candlemark.progress import note, warning
from candlemark.results.files import write_bytes

MAX_AGE_S = 6 * 3600.0
"""The Hub counts downloads once a day; four looks a day see every change within six hours."""

_VERSION = 1
_FORGOTTEN_S = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer of the Hub.

    etag: what the Hub calls this state of it; None: it gave none
    fetched_at: seconds since 1970, when the Hub last said it is so
    next: address of the page after it
    """

    address: str
    items: tuple[Mapping[str, Any], ...]
    fetched_at: float
    etag: str | None = None
    next: str | None = None


class PageCache:
    """A folder of pages; made when the first comes in."""

    def __init__(self, folder: Path | None = None, *, max_age_s: float = MAX_AGE_S) -> None:
        self.folder = folder or default_folder() / "leaderboard"
        self.max_age_s = max_age_s
        self._writable = True

    def kept(self, address: str) -> Page | None:
        """The page, however old; None: there is none that can be read."""
        path = self._path(address)
        try:
            told = json.loads(path.read_bytes())
            if told.pop("version") != _VERSION or told["address"] != address:
                return None
            page = Page(**{**told, "items": tuple(dict(item) for item in told["items"])})
            return replace(page, fetched_at=float(page.fetched_at))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            note(f"{path} cannot be read ({type(error).__name__}) and is asked for anew")
            return None

    def is_young(self, page: Page) -> bool:
        """Whether the Hub said it within the cache's age; not so where clocks went back."""
        return 0 <= time.time() - page.fetched_at < self.max_age_s

    def keep(self, page: Page) -> Page:
        """Keep a page; a folder that cannot be written costs only the next call its time."""
        text = json.dumps({"version": _VERSION, **asdict(page)})
        try:
            write_bytes(self._path(page.address), text.encode())
        except ResultsError as error:
            if self._writable:
                warning(f"{error}; the next call asks the Hub again", task="hub")
            self._writable = False
        return page

    def confirm(self, page: Page) -> Page:
        """The Hub said that the page is still so (304)."""
        return self.keep(replace(page, fetched_at=time.time()))

    def forget_old(self) -> int:
        """Remove pages that nobody asked for in a month; how many."""
        before = time.time() - _FORGOTTEN_S
        removed = 0
        for path in self.folder.glob("*.json"):
            # Another process may have removed it, and a folder that is read-only stays as it is.
            with suppress(OSError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        return removed

    def _path(self, address: str) -> Path:
        return self.folder / f"{hashlib.sha256(address.encode()).hexdigest()[:32]}.json"
