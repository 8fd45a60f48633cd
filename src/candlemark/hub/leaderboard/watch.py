"""One look at the Hub: asked or read from the cache, kept as a snapshot, ranked, compared.

    board = look(QUERY_SETS["medical"], tracker_dir=Path("benchmarks/leaderboard"))
    board.source            # "asked now, 20 requests", "cache of 12 min ago, no request", ...

A look that made no request keeps no snapshot: it learned nothing. Where the Hub cannot be
reached the last snapshot of the same queries is shown, with its date and the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from candlemark.errors import HubError, ResultsError
from candlemark.hub.leaderboard.cache import PageCache
from candlemark.hub.leaderboard.changes import compare, firsts, trends_of
from candlemark.hub.leaderboard.facts import read_model
from candlemark.hub.leaderboard.queries import Query, parse
from candlemark.hub.leaderboard.rank import rank_section
from candlemark.hub.leaderboard.search import ModelSearch
from candlemark.progress import track, warning
from candlemark.report.leaderboard.board import Board, Changes, Section
from candlemark.report.leaderboard.words import ago
from candlemark.results.own_scores import OwnScore
from candlemark.results.tracked import Snapshot, TrackedModel
from candlemark.results.tracker import Tracker, open_tracker

TREND_DAYS = 35
"""Trends go back to the oldest snapshot of so many days, so that a monthly call has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A snapshot and how it was come by."""

    snapshot: Snapshot
    source: str
    requests: int = 0
    offline: bool = False


def look(
    queries: Sequence[Query],
    *,
    tracker_dir: Path,
    endpoint: str | None = None,
    token: str | None = None,
    cache: PageCache | None = None,
    refresh: bool = False,
    offline: bool = False,
    watch: bool = False,
    own: Iterable[OwnScore] = (),
) -> Board:
    """The leaderboard of some queries.

    refresh: ask about every page, however young, and raise where the Hub cannot be reached instead
        of showing the last snapshot; offline: ask nothing, show the last snapshot
    watch: what changed is told since the last watch, whoever looked in between
    own: scores that were measured here

    Raises HubError: the Hub refuses or cannot be reached, and there is no snapshot or `refresh`.
    ResultsError: the tracker cannot be used, or (offline) has no snapshot of these queries.
    """
    own = tuple(own)
    search = ModelSearch(endpoint, token, cache=cache or PageCache(), refresh=refresh)
    asked = tuple(query.asked for query in queries)
    if offline:
        with open_tracker(tracker_dir, read_only=True) as tracker:
            return _board(_last(tracker, search.endpoint, asked, "offline"), tracker, own, None)
    # Closed while the Hub is asked, which may take minutes: others look meanwhile.
    with open_tracker(tracker_dir) as tracker:
        stands_in = tracker.newest(search.endpoint, asked) is not None and not refresh
    try:
        seen = _ask(search, queries)
    except HubError as error:
        if not stands_in:
            raise
        warning(str(error), task="hub")
        with open_tracker(tracker_dir, read_only=True) as tracker:
            last = _last(tracker, search.endpoint, asked, "the Hub gave no answer")
            return _board(last, tracker, own, None)
    with open_tracker(tracker_dir) as tracker:
        seen, changes = _kept(tracker, seen, own, watch=watch)
        return _board(seen, tracker, own, changes)


def _kept(
    tracker: Tracker, seen: _Seen, own: Iterable[OwnScore], *, watch: bool
) -> tuple[_Seen, Changes | None]:
    """What was seen, as a snapshot where anything was learned, and how it differs from the last."""
    queries = seen.snapshot.endpoint, seen.snapshot.asked
    before = tracker.newest(*queries)
    if before is not None and not seen.requests:
        return replace(seen, snapshot=replace(seen.snapshot, number=before.number)), None
    if watch:
        before = tracker.watched(*queries) or before
    seen = replace(seen, snapshot=tracker.add(seen.snapshot, watched=watch))
    return seen, None if before is None else _compare(before, seen.snapshot, own)


def diff(
    queries: Sequence[Query],
    since: str,
    until: str | None,
    *,
    tracker_dir: Path,
    endpoint: str | None = None,
    own: Iterable[OwnScore] = (),
) -> Changes:
    """What changed between two days, from snapshots alone.

    until: None: the newest snapshot

    Raises ResultsError: there is no snapshot so old.
    """
    own = tuple(own)
    hub = ModelSearch(endpoint, cache=PageCache()).endpoint
    asked = tuple(query.asked for query in queries)
    with open_tracker(tracker_dir, read_only=True) as tracker:
        before = tracker.at(hub, asked, since)
        after = tracker.at(hub, asked, until or "9999-12-31")
    if after.number < before.number:
        raise ResultsError(f"{until} is before {since}; write the earlier date first")
    if after.number == before.number:
        warning(
            f"{since} and {until or 'now'} both mean the snapshot of {before.taken_at}, so nothing "
            "is compared; name an earlier day, or a time of a day with several snapshots"
        )
    return _compare(before, after, own)


def _compare(before: Snapshot, after: Snapshot, own: Iterable[OwnScore]) -> Changes:
    sections = [_sections(one, own, None) for one in (before, after)]
    return compare(before, after, firsts(*sections))


def _ask(search: ModelSearch, queries: Sequence[Query]) -> _Seen:
    """Every query, its models joined by name, each with the queries that found it."""
    items: dict[str, Mapping[str, Any]] = {}
    found_by: dict[str, list[str]] = {}
    requests = unchanged = 0
    oldest = float("inf")
    with track("asking the Hub", total=len(queries), unit="queries") as bar:
        for query in queries:
            answer = search.find(query)
            requests += answer.requests
            unchanged += answer.unchanged
            oldest = min(oldest, answer.fetched_at)
            for item in answer.items:
                items.setdefault(item["id"], item)
                found_by.setdefault(item["id"], []).append(query.asked)
            bar.advance(1, query.name)
    search.cache.forget_old()
    taken_at = datetime.fromtimestamp(oldest, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    snapshot = Snapshot(
        taken_at=taken_at,
        endpoint=search.endpoint,
        asked=tuple(query.asked for query in queries),
        models=tuple(read_model(item, found_by[name]) for name, item in items.items()),
    )
    return _Seen(
        snapshot=snapshot, source=_source(taken_at, requests, unchanged), requests=requests
    )


def _source(taken_at: str, requests: int, unchanged: int) -> str:
    if not requests:
        return f"cache of {ago(taken_at)} ago, no request"
    made = "1 request" if requests == 1 else f"{requests} requests"
    same = f", {unchanged} of them unchanged" if unchanged else ""
    return f"asked now, {made}{same}"


def _last(tracker: Tracker, endpoint: str, asked: Sequence[str], why: str) -> _Seen:
    snapshot = tracker.last(endpoint, asked)
    text = f"snapshot of {snapshot.taken_at}, {ago(snapshot.taken_at)} old ({why})"
    return _Seen(snapshot=snapshot, source=text, offline=True)


def _board(
    seen: _Seen, tracker: Tracker, own: Iterable[OwnScore], changes: Changes | None
) -> Board:
    snapshot = seen.snapshot
    times = tracker.times(snapshot.endpoint, snapshot.asked)
    return Board(
        endpoint=snapshot.endpoint,
        taken_at=snapshot.taken_at,
        source=seen.source,
        asked=snapshot.asked,
        sections=_sections(snapshot, own, _earlier(tracker, snapshot, times)),
        requests=seen.requests,
        offline=seen.offline,
        snapshots=tuple(times),
        history=tracker.history(snapshot.endpoint, snapshot.asked),
        changes=changes,
    )


def _earlier(tracker: Tracker, snapshot: Snapshot, times: Sequence[str]) -> Snapshot | None:
    """The oldest snapshot of the last TREND_DAYS, that trends go back to."""
    start = datetime.fromisoformat(snapshot.taken_at) - timedelta(days=TREND_DAYS)
    within = [time for time in times if datetime.fromisoformat(time) >= start]
    if not within or within[0] >= snapshot.taken_at:
        return None
    return tracker.at(snapshot.endpoint, snapshot.asked, within[0])


def _sections(
    snapshot: Snapshot, own: Iterable[OwnScore], earlier: Snapshot | None
) -> tuple[Section, ...]:
    """One section a task, in the order in which queries ask for them."""
    goals = {text: parse(text).goal for text in snapshot.asked}
    scores = _by_model(own)
    trends = trends_of(earlier, snapshot)

    def wanted(task: str | None) -> Callable[[TrackedModel], bool]:
        return lambda model: any(goals.get(text) == task for text in model.found_by)

    return tuple(
        rank_section(task, list(filter(wanted(task), snapshot.models)), own=scores, trends=trends)
        for task in dict.fromkeys(goals.values())
    )


def _by_model(own: Iterable[OwnScore]) -> dict[str, list[OwnScore]]:
    found: dict[str, list[OwnScore]] = {}
    for score in own:
        found.setdefault(score.model, []).append(score)
    return found
