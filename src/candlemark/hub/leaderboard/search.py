"""Models of the Hub by query: one expanded call a page, read from the cache where it may be.

    search = ModelSearch(cache=PageCache())
    answer = search.find(parse("task=image-segmentation tag=medical"))
    answer.items, answer.requests, answer.fetched_at

What is sent is what huggingface_hub's own `list_models` sends (a test compares them). Its
generator is not used: it has no ETag, asks for all pages again where the last one fails, and ends
at the first model whose metadata is malformed. Its session, headers, retries and errors are.

Rate limits: an answer 429 is waited for as it says (`hub.faults`), and where the Hub says that
nothing is left (`RateLimit: ...;r=0;t=...`) the next page waits too. Pages that have arrived are
kept, so a search that was cut short goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

from candlemark.errors import HubError
from candlemark.hub import faults
from candlemark.hub.connection import Connection
from candlemark.hub.leaderboard.cache import Page, PageCache
from candlemark.hub.leaderboard.facts import is_model, kept_facts
from candlemark.hub.leaderboard.queries import Query
from candlemark.hub.transfer import TIMEOUT_S
from candlemark.progress import note, warning

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MOST_PAGES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a query found.

    items: what the Hub told of each model; requests: how many it took, 0 where the cache knew
    fetched_at: seconds since 1970, of the oldest of its pages
    unreadable: entries that are no model at all
    """

    items: tuple[Mapping[str, Any], ...]
    requests: int
    unchanged: int
    fetched_at: float
    unreadable: int = 0


class ModelSearch(Connection):
    """A Hub that is searched; the address, token and errors are as of `Connection`.

    refresh: ask the Hub about every page, however young; one that is unchanged is not sent again
    """

    writes = False

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        *,
        cache: PageCache,
        refresh: bool = False,
    ) -> None:
        super().__init__(endpoint, token)
        self.cache = cache
        self.refresh = refresh
        self._wait_s = 0.0

    def find(self, query: Query) -> Answer:
        """The first `query.limit` public models.

        Raises HubError: the Hub refuses, cannot be reached, or answers what no Hub does.
        """
        # By name: models move from page to page while they are counted.
        found: dict[str, Mapping[str, Any]] = {}
        requests = unchanged = unreadable = 0
        oldest = time.time()
        for page, how in self._pages(query):
            requests += how != "cache"
            unchanged += how == "unchanged"
            oldest = min(oldest, page.fetched_at)
            for item in page.items:
                if is_model(item):
                    found.setdefault(item["id"], item)
                else:
                    unreadable += 1
            if len(found) >= query.limit:
                break
        if unreadable:
            warning(
                f"{query.asked}: {unreadable} entries name no model and are left out", task="hub"
            )
        return Answer(
            items=tuple(found.values())[: query.limit],
            requests=requests,
            unchanged=unchanged,
            fetched_at=oldest,
            unreadable=unreadable,
        )

    def _pages(self, query: Query) -> Iterator[tuple[Page, str]]:
        parameters = urlencode(query.parameters(), doseq=True)
        address: str | None = f"{self.endpoint}/api/models?{parameters}"
        seen: set[str] = set()
        while address is not None:
            if address in seen or len(seen) == MOST_PAGES:
                warning(f"{query.asked}: the Hub's pages never end; the rest is left out")
                return
            seen.add(address)
            page, how = self._page(address, query)
            yield page, how
            # Only now: a mirror may name the Hub it mirrors after the last page that is wanted.
            if page.next is not None:
                self._refuse_strangers(page.next, f"search the models of {query.asked}")
            address = page.next

    def _page(self, address: str, query: Query) -> tuple[Page, str]:
        """A page, and where it is from: "cache", "unchanged" (the Hub said so) or "sent"."""
        kept = self.cache.kept(address)
        if kept is not None and not self.refresh and self.cache.is_young(kept):
            return kept, "cache"
        self._wait_for_the_limit()
        doing = f"search the models of {query.asked}"
        etag = kept.etag if kept else None
        page = self._ask(doing, lambda api: self._fetch(api, address, etag))
        if page is None and kept is not None:
            return self.cache.confirm(kept), "unchanged"
        if page is None:
            raise HubError(f"cannot {doing}: {self.endpoint} answered 304 to what was never asked")
        return self.cache.keep(page), "sent"

    def _fetch(self, api: HfApi, address: str, etag: str | None) -> Page | None:
        """A page as the Hub sends it; None where it is as it was."""
        from huggingface_hub import get_session, hf_raise_for_status

        headers = self._headers(api)
        if etag is not None and etag.isascii():
            headers["If-None-Match"] = etag
        response = get_session().get(address, headers=headers, timeout=TIMEOUT_S)
        self._wait_s = min(faults.spent_for_s(response.headers) or 0.0, faults.LONGEST_WAIT_S)
        if response.status_code == 304:
            return None
        hf_raise_for_status(response)
        items = response.json()
        if not isinstance(items, list):
            raise HubError(
                f"{self.endpoint}/api/models answered with {type(items).__name__}, not a list of "
                "models; look at HF_ENDPOINT, which may be no Hub"
            )
        told = [kept_facts(item) for item in items]
        link = response.links.get("next", {}).get("url")
        return Page(
            address=address,
            # Private models are the token's alone: they are in no cache and no table.
            items=tuple(item for item in told if item.get("private") is not True),
            fetched_at=time.time(),
            etag=response.headers.get("etag"),
            next=urljoin(address, link) if link else None,
        )

    def _refuse_strangers(self, address: str, doing: str) -> None:
        """The token goes to this Hub alone."""
        if _place(self.endpoint) != _place(address):
            there = urlsplit(address)
            raise HubError(
                f"cannot {doing}: the next page is said to be at {there.scheme}://{there.netloc}, "
                f"which is not {self.endpoint}; nothing was sent there"
            )

    def _wait_for_the_limit(self) -> None:
        if self._wait_s:
            note(f"the Hub takes no more requests for {self._wait_s:g} s; waiting", task="hub")
            faults.pause(self._wait_s)
            self._wait_s = 0.0


def _place(address: str) -> tuple[str, str | None, int | None] | None:
    """Whom a request would go to; None: nobody."""
    parts = urlsplit(address)
    try:
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return None
    return None if parts.username else (parts.scheme, parts.hostname, port)
